"""Flickr30k Entities: phrases in brackets (`Sentences/*.txt`) and the boxes of what they mean (`Annotations/*.xml`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from vision_train.data.corners import Corners
from vision_train.data.findings import Findings
from vision_train.data.phrases.annotations import Listed, ListedFile, Part
from vision_train.data.tables import read_text
from vision_train.files import printable

ANNOTATIONS, SENTENCES = "Annotations", "Sentences"
_PHRASE = re.compile(r"\[/EN#(?P<chain>\d+)(?:/(?P<category>[^/\s]+))?\S* (?P<text>[^\]]*)\]")


def is_entities(folder: Path) -> bool:
    """Whether a folder is laid out so."""
    return (folder / ANNOTATIONS).is_dir() and (folder / SENTENCES).is_dir()


def read_entities(folder: Path, findings: Findings) -> ListedFile:
    """Read the phrases of all images that have a box; several boxes of one phrase become their hull.

    Images that are in no list, though there are lists, are passed over.

    Args:
        folder: Holds `Annotations`, `Sentences` and, with the names of the images of each split, `train.txt`, `val.txt`
            and `test.txt`.
        findings: Takes what is wrong with single files.
    """
    splits = _splits(folder)
    listed = ListedFile(folder, "left, top, right, bottom")
    without = 0
    for file in sorted((folder / SENTENCES).glob("*.txt")):
        if splits and file.stem not in splits:
            continue
        described = _described(folder / ANNOTATIONS / f"{file.stem}.xml", findings)
        if described is None:
            continue
        image, size, hulls = described
        for line, chain, text, category in _phrases(file):
            if chain not in hulls:
                without += 1
                continue
            place = f"{SENTENCES}/{file.name} line {line}"
            part = Part(splits.get(file.stem))
            listed.expressions.append(Listed(image, text, hulls[chain], part, place, None, size, category))
    if without:
        listed.notes.append(f"{folder}: {without:,} phrases mean nothing that has a box, and are left out")
    return listed


def _splits(folder: Path) -> dict[str, str]:
    """Split of each image by its name without the ending; none where no list is there."""
    lists = {split: folder / f"{split}.txt" for split in ("train", "val", "test")}
    return {
        name: split
        for split, file in lists.items()
        if file.is_file()
        for line in read_text(file).splitlines()
        if (name := line.strip())
    }


def _phrases(file: Path) -> Iterator[tuple[int, str, str, str]]:
    """Line, number of the thing that is meant, text and category (such as `people`) of each phrase."""
    for line, sentence in enumerate(read_text(file).splitlines(), start=1):
        for found in _PHRASE.finditer(sentence):
            yield line, found["chain"], found["text"], found["category"] or ""


def _described(file: Path, findings: Findings) -> tuple[str, tuple[int, int] | None, dict[str, Corners]] | None:
    """Image, its width and height, and the hull of the boxes of each thing."""
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - expat bounds what entities expand to
        name = root.findtext("filename") or f"{file.stem}.jpg"
        size = int(root.findtext("size/width") or 0), int(root.findtext("size/height") or 0)
        hulls: dict[str, Corners] = {}
        for each in root.iter("object"):
            if each.find("bndbox") is not None:
                box = [float(each.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")]
                for chain in (element.text or "" for element in each.iter("name")):
                    hulls[chain] = _hull(hulls.get(chain), box)
    except (ElementTree.ParseError, OSError, ValueError) as error:
        findings.mend("sentences whose boxes cannot be read", f"{printable(file.name)} ({error})")
        return None
    return name, size if min(size) > 0 else None, hulls


def _hull(corners: Corners | None, box: list[float]) -> Corners:
    x1, y1, x2, y2 = box
    if corners is None:
        return x1, y1, x2, y2
    return min(corners[0], x1), min(corners[1], y1), max(corners[2], x2), max(corners[3], y2)
