"""Which files hold the expressions of a data set, and in which format."""

from __future__ import annotations

from pathlib import Path

from vision_train.data.findings import Findings
from vision_train.data.phrases import Section
from vision_train.data.phrases.annotations import ListedFile
from vision_train.data.phrases.entities import is_entities, read_entities
from vision_train.data.phrases.refer import INSTANCES, read_refer
from vision_train.data.phrases.table import read_csv
from vision_train.data.phrases.transvg import NAME, read_lists
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.wording import first_named

READERS = {".p": read_refer, ".pth": read_lists, ".csv": read_csv}
"""Ending of a file of annotations -> what reads it."""
_FORMATS = f"a refs(NAME).p beside {INSTANCES}, a list NAME_SPLIT.pth or a csv with path,text,x,y,w,h"


def read_annotations(section: Section, findings: Findings) -> ListedFile:
    """Read the annotations that a recipe names, or that its folder holds.

    Args:
        section: The recipe's ``data``.
        findings: Takes what is wrong with single expressions.

    Raises:
        UserError: There are none, several, or they are of no known format.
    """
    place = annotations_of(section)
    return read_entities(place, findings) if place.is_dir() else READERS[place.suffix](place, findings)


def annotations_of(section: Section) -> Path:
    """The file of annotations, or the folder of Flickr30k Entities; of TransVG's lists the first one.

    Raises:
        UserError: As :func:`read_annotations`.
    """
    key, place = ("data.root", Path(section.root or "")) if section.labels is None else ("data.labels", section.labels)
    path = Path(place)
    if path.is_dir():
        return _inside(path, key)
    if section.labels is None or not path.exists():
        missing = "folder" if section.labels is None else "file"
        raise UserError(f"{key}={printable(str(path))}: no such {missing}; name {_FORMATS}")
    if path.suffix not in READERS:
        raise UserError(f"{key}={printable(str(path))}: of no known format; name {_FORMATS}")
    return path


def _inside(folder: Path, key: str) -> Path:
    if is_entities(folder):
        return folder
    refs = sorted(folder.glob("refs*.p")) if (folder / INSTANCES).is_file() else []
    lists = {named["name"]: path for path in sorted(folder.glob("*.pth")) if (named := NAME.fullmatch(path.name))}
    found = [*refs, *lists.values()] or sorted(folder.glob("*.csv"))
    if not found:
        raise UserError(f"{key}={printable(str(folder))}: holds no expressions; name {_FORMATS} with data.labels")
    if len(found) > 1:
        names = first_named([path.name for path in found])
        raise UserError(f"{key}={printable(str(folder))}: holds {names}; name one of them with data.labels")
    return found[0]
