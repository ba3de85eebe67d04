"""Pascal VOC: an xml file for each image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from vision_train.data.boxes.annotations import Listed, ListedBox, ListedImage
from vision_train.data.classes import class_order
from vision_train.data.corners import Corners
from vision_train.data.findings import Findings
from vision_train.data.labels import class_name
from vision_train.data.splits import split_called
from vision_train.data.tables import read_text
from vision_train.errors import UserError
from vision_train.files import printable

VOC_FOLDER = "Annotations"
"""The folder of the files in the official layout, which may have folders of its own, as those of the images."""
OFFICIAL = "The VOC20"
"""How the official data sets call themselves; they count pixels from 1, and tools of annotation from 0."""


def read_voc(folder: Path, split: str | None, findings: Findings) -> Listed:
    """Read the xml files of a folder.

    Args:
        folder: Holds the files, as :func:`xml_files` finds them.
        split: The split of all images; None takes what `ImageSets/Main` beside the folder says, if it is there.
        findings: Takes what is wrong.

    Raises:
        UserError: No file holds a box.
    """
    splits = {} if split else _image_sets(folder)
    listed = Listed()
    for file in xml_files(folder):
        image = _read_file(file, findings)
        if image is not None:
            image.split = split or splits.get(file.relative_to(folder).with_suffix("").as_posix())
            listed.images.append(image)
    names = class_order({box.label for image in listed.images for box in image.boxes})
    if not names:
        raise UserError(f"{folder}: its xml files hold no boxes; it needs Pascal VOC, with an <object> for each box")
    listed.categories = dict.fromkeys(names)  # Pascal VOC has no numbers of classes
    return listed


def xml_files(folder: Path) -> list[Path]:
    """The xml files of a folder; of one that is called `Annotations`, those of the folders in it too."""
    if folder.name != VOC_FOLDER:
        return sorted(folder.glob("*.xml"))
    return sorted(file for file in folder.rglob("*.xml") if not file.name.startswith("."))


def _image_sets(folder: Path) -> dict[str, str]:
    """Split of each image by its name without the ending; where two lists name one, the narrower counts."""
    splits: dict[str, str] = {}
    lists = sorted(
        (folder.parent / "ImageSets" / "Main").glob("*.txt"), key=lambda file: file.stem == "trainval", reverse=True
    )
    for file in lists:
        if (split := split_called(file.stem)) and "_" not in file.stem:  # cat_train.txt is of one class
            splits |= {line.split()[0]: split for line in read_text(file).splitlines() if line.strip()}
    return splits


def _read_file(file: Path, findings: Findings) -> ListedImage | None:
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - expat bounds what entities expand to
    except (ElementTree.ParseError, OSError) as error:
        findings.mend("files that are no xml", f"{printable(file.name)} ({error})")
        return None
    name = (root.findtext("filename") or "").strip()
    if root.tag != "annotation" or not name:
        findings.mend("xml files that are not Pascal VOC (no <annotation> with a <filename>)", printable(file.name))
        return None
    path = (root.findtext("path") or "").strip()
    size = (_number(root, "size/width"), _number(root, "size/height"))
    listed = ListedImage(path if path.replace("\\", "/").endswith(f"/{name}") else name, file.name)
    listed.size = (int(size[0]), int(size[1])) if size[0] and size[1] else None
    first = 1 if (root.findtext("source/database") or "").startswith(OFFICIAL) else 0
    listed.boxes += _boxes(root, file.name, first, findings)
    return listed


def _boxes(root: ElementTree.Element, file: str, first: int, findings: Findings) -> Iterator[ListedBox]:
    for number, each in enumerate(root.iter("object"), start=1):
        place = f"{file} object {number}"
        name = class_name(each.findtext("name") or "")
        corners = _corners(each, first, place, findings)
        if not name:
            findings.mend("objects without a name", place)
        elif corners is None:
            findings.mend("objects without a box of xmin, ymin, xmax, ymax", place)
        else:
            ignored = any((each.findtext(key) or "0").strip() in ("1", "true") for key in ("difficult", "ignore"))
            yield ListedBox(corners, name, ignored, place)


def _corners(each: ElementTree.Element, first: int, place: str, findings: Findings) -> Corners | None:
    box = [_number(each, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    if all(value is not None for value in box):
        x1, y1, x2, y2 = (float(value or 0) for value in box)
        return x1 - first, y1 - first, x2, y2
    points = each.find("polygon")
    texts = [] if points is None else [(child.tag, child.text or "") for child in points.iter()][1:]
    try:
        xs = [float(text) for tag, text in texts if tag.startswith("x")]
        ys = [float(text) for tag, text in texts if tag.startswith("y")]
    except ValueError:
        return None
    if not xs or not ys:
        return None
    findings.note("boxes taken around polygons", place)
    return min(xs), min(ys), max(xs), max(ys)


def _number(element: ElementTree.Element, path: str) -> float | None:
    try:
        number = float(element.findtext(path) or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
