"""TransVG's lists: `NAME_SPLIT.pth`, each a list of tuples, one for each expression."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vision_train.data.findings import Findings
from vision_train.data.phrases.annotations import Listed, ListedFile, Part, part_called
from vision_train.errors import UserError
from vision_train.wording import first_named

NAME = re.compile(r"(?P<name>.+)_(?P<split>train|trainval|val|test[A-Z]*)\.pth")
CORNERS = ("referit", "flickr")
"""How the names of the lists begin whose boxes are corners; in those of the RefCOCO family they are corner and size."""
_REMEDY = "get the lists again from TransVG's authors"


def lists_beside(path: Path) -> list[Path]:
    """The lists of all splits of the data set that one list belongs to.

    Raises:
        UserError: It is not called like a list.
    """
    found = NAME.fullmatch(path.name)
    if found is None:
        raise UserError(f"{path}: is not called NAME_SPLIT.pth, as in unc_train.pth; rename it, or write a csv")
    folder = path.parent.iterdir() if path.parent.is_dir() else ()
    beside = sorted(each for each in folder if (other := NAME.fullmatch(each.name)) and other["name"] == found["name"])
    if path not in beside:
        raise UserError(f"{path}: no such file; name a list that is there with data.labels")
    return beside


def read_lists(path: Path, findings: Findings) -> ListedFile:
    """Read the lists of all splits.

    Args:
        path: One of them.
        findings: Takes what is wrong with single expressions.

    Raises:
        UserError: A list cannot be read without running code, or holds something else.
    """
    are_corners = path.name.startswith(CORNERS)
    listed = ListedFile(path, "left, top, right, bottom" if are_corners else "left, top, width, height")
    lists = lists_beside(path)
    parts = {each: NAME.fullmatch(each.name)["split"] for each in lists}  # type: ignore[index]  # all are called so
    if {"train", "trainval"} <= {*parts.values()}:
        lists = [each for each in lists if parts[each] != "trainval"]
        listed.notes.append(f"{path.parent}: trainval is train and val again, and was not read")
    for each in lists:
        part = part_called(parts[each])
        assert part is not None, "the pattern knows splits alone"
        for number, entry in enumerate(_entries(each)):
            expression = _expression(entry, part, f"{each.name} entry {number}", are_corners)
            if expression is None:
                findings.mend("entries without file, box and expression", f"{each.name} entry {number}")
            else:
                listed.expressions.append(expression)
    listed.notes.append(f"{path.parent}: read {first_named([each.name for each in lists])}")
    return listed


def _expression(entry: Any, part: Part, place: str, are_corners: bool) -> Listed | None:
    """An entry of three (file, box, text) or five (file, mask, box, text, attributes) values."""
    if not isinstance(entry, tuple | list) or len(entry) not in (3, 5):
        return None
    name, box, text = entry if len(entry) == 3 else (entry[0], entry[2], entry[3])
    try:
        a, b, c, d = (float(number) for number in box)
    except (TypeError, ValueError):
        return None
    corners = (a, b, c, d) if are_corners else (a, b, a + c, b + d)
    if not (isinstance(name, str) and isinstance(text, str)):
        return None
    return Listed(name, text, corners, part, place)


def _entries(path: Path) -> list[Any]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if names := _asked_for(path):
            raise UserError(
                f"{path}: asks for {first_named(names)}, so that reading it could run code; nothing of it was run. "
                f"Write the expressions as csv, or {_REMEDY}"
            ) from error
        raise UserError(f"{path}: is damaged, or no list of torch; {_REMEDY}") from error
    if not isinstance(content, list):
        raise UserError(f"{path}: holds a {type(content).__name__}, and no list of expressions; {_REMEDY}")
    return content


def _asked_for(path: Path) -> list[str]:
    """What reading a file would import, found without doing so."""
    import torch

    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001 - damaged files raise anything
        return []
