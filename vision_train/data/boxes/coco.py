"""COCO json: images, categories, and annotations with boxes as left, top, width, height."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vision_train.data.boxes.annotations import Listed, ListedBox, ListedImage
from vision_train.data.boxes.foreign import what_json_is
from vision_train.data.corners import Corners
from vision_train.data.findings import Findings
from vision_train.data.labels import class_name
from vision_train.errors import UserError
from vision_train.files import printable

Json = dict[str, Any]
LISTS = ("images", "annotations", "categories")


def read_coco(path: Path, split: str | None, findings: Findings) -> Listed:
    """Read a file of annotations.

    Args:
        path: The file.
        split: The split that all of its images belong to, if any.
        findings: Takes what is wrong.

    Raises:
        UserError: It cannot be read, or is no COCO json of boxes.
    """
    content = read_json(path)
    names = _categories(path, content)
    images = _images(path, content["images"], split, findings)
    for number, annotation in enumerate(content["annotations"]):
        place = f"{path.name} annotation {annotation.get('id', f'number {number}')}"
        key = annotation.get("image_id")
        image = images.get(key) if isinstance(key, int | str) else None
        if image is None:
            findings.mend("annotations of images that the file does not list", f"{place}")
        elif (name := _name(names, annotation.get("category_id"))) is None:
            findings.mend(
                "annotations of categories that the file does not list",
                f"{place} (category {printable(str(annotation.get('category_id')))})",
            )
        elif (corners := _corners(annotation, place, findings)) is not None:
            crowd, ignored = (_says(annotation, key) for key in ("iscrowd", "ignore"))
            area = _area(annotation)
            image.boxes.append(ListedBox(corners, name, crowd or ignored, place, area, crowd and not ignored))
    return Listed(list(images.values()), {name: number for number, name in names.items()})


def read_json(path: Path) -> Json:
    """The content of a COCO json.

    Raises:
        UserError: It cannot be read, or is something else, which the message names.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a COCO json with data.labels") from error
    except ValueError as error:  # bytes that are no text as well
        raise UserError(f"{path}: is no json ({error}); export the annotations again as COCO json") from error
    if not is_coco(content):
        raise UserError(
            f"{path}: {what_json_is(content)}. Boxes are read from a COCO json, which holds the lists "
            f"{', '.join(LISTS)}; export the annotations as COCO (object detection)"
        )
    return content


def is_coco(content: Any) -> bool:
    """Whether a json holds boxes as COCO has them."""
    if not isinstance(content, dict) or not all(_is_list_of_objects(content.get(key)) for key in LISTS):
        return False
    annotations = content["annotations"]
    return not annotations or any("bbox" in each or "segmentation" in each for each in annotations)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _categories(path: Path, content: Json) -> dict[int, str]:
    """Name of each category by its number, in the order of numbers."""
    names: dict[int, str] = {}
    for category in _without_root(content):
        number, name = category.get("id"), class_name(str(category.get("name", "")))
        if not isinstance(number, int) or not name:
            raise UserError(f"{path}: the category {category} has no whole number `id` or no `name`; add it")
        if number in names or name in names.values():
            raise UserError(f"{path}: lists category {number} {printable(name)} twice; give each its own id and name")
        names[number] = name
    if not names:
        raise UserError(f"{path}: lists no category; add the classes of the boxes under `categories`")
    return dict(sorted(names.items()))


def _name(names: Mapping[int, str], number: Any) -> str | None:
    return names.get(number) if isinstance(number, int) else None


def _without_root(content: Json) -> list[Json]:
    """The categories without one that only groups others, such as the name of the project in Roboflow's exports."""
    categories: list[Json] = content["categories"]
    numbers = (annotation.get("category_id") for annotation in content["annotations"])
    used = {number for number in numbers if isinstance(number, int)}
    parents = {each.get("supercategory") for each in categories}
    return [
        each
        for each in categories
        if each.get("supercategory") not in (None, "", "none")
        or each.get("name") not in parents
        or each.get("id") in used
        or len(categories) == 1
    ]


def _images(path: Path, images: list[Json], split: str | None, findings: Findings) -> dict[Any, ListedImage]:
    listed: dict[Any, ListedImage] = {}
    for number, image in enumerate(images):
        name, place = str(image.get("file_name") or ""), f"{path.name} image {image.get('id', f'number {number}')}"
        if not name or not isinstance(image.get("id"), int | str):
            findings.mend("images without `id` or `file_name`", place)
        elif image["id"] in listed:
            findings.mend("images of an id that another one has", f"{place} ({printable(name)})")
        else:
            size = _size(image)
            group = next((str(image[key]) for key in ("group", "video_id") if image.get(key) is not None), None)
            listed[image["id"]] = ListedImage(name, place, [], size, image["id"], split, group)
    return listed


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height, where they are given; else the image itself says them."""
    try:
        width, height = int(image["width"]), int(image["height"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _says(annotation: Mapping[str, Any], key: str) -> bool:
    return str(annotation.get(key, 0)).lower() in ("1", "true")


def _area(annotation: Mapping[str, Any]) -> float | None:
    """The area that COCO's metrics sort objects by size with: that of the outline, not of the box."""
    area = annotation.get("area")
    return float(area) if isinstance(area, int | float) and 0 < area < math.inf else None


def _corners(annotation: Mapping[str, Any], place: str, findings: Findings) -> Corners | None:
    """Corners of a box; of an annotation that has none, those around its polygons."""
    box = annotation.get("bbox")
    try:
        if not box and (points := [*_points(annotation.get("segmentation"))]):
            findings.note("boxes taken around polygons", place)
            xs, ys = points[0::2], points[1::2]
            return min(xs), min(ys), max(xs), max(ys)
        left, top, width, height = (float(number) for number in box or ())
    except (TypeError, ValueError):
        findings.mend("boxes that are not four numbers", f"{place} ({box})")
        return None
    return left, top, left + width, top + height


def _points(segmentation: Any) -> Iterator[float]:
    """Coordinates of polygons, x and y in turns; none of a mask, which is no list."""
    for polygon in segmentation if isinstance(segmentation, list) else ():
        yield from (float(number) for number in polygon)
