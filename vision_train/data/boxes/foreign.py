"""What a json of annotations is that is no COCO json, in words for messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OBJECTS = (
    ({"shapes", "imagePath"}, "is an annotation of one image by labelme"),
    ({"type", "features"}, "is GeoJSON"),
    ({"_via_img_metadata"}, "is a project of the VGG Image Annotator"),
    ({"infos", "categories", "items"}, "is written by Datumaro"),
    ({"database", "taxonomy"}, "is a data set of videos"),
    ({"frames"}, "describes frames of a video"),
)
"""Keys of an object -> what it is."""
_ITEMS = (
    ({"image_id", "category_id", "bbox", "score"}, "is a list of results of a detector, in COCO's format of results"),
    ({"annotations", "data"}, "is an export of Label Studio in its own format (JSON)"),
    ({"image", "annotations"}, "is CreateML"),
    ({"Label", "External ID"}, "is an export of Labelbox in its own format"),
    ({"name", "labels"}, "is in the format of Scalabel and BDD100K"),
    ({"image", "label"}, "is an export of Label Studio in its own format (JSON-MIN)"),
    ({"image_id", "category_id", "bbox"}, "is a list of annotations without images and categories"),
)
"""Keys of the first item of a list -> what the list is."""


def what_json_is(content: Any) -> str:
    """Name what a json is, as the end of a sentence about its file."""
    if isinstance(content, list):
        first = content[0] if content else None
        named = _named(first, _ITEMS) if isinstance(first, dict) else None
        return named or f"is a list of {len(content):,} items and no COCO json"
    if not isinstance(content, dict):
        return "holds a single value and no COCO json"
    if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
        return _other_coco(content)
    if isinstance(content.get("images"), list) and "annotations" not in content:
        return "is a COCO json that lists images alone (it has no `annotations`)"
    first = next(iter(content.values()), None)
    if isinstance(first, dict) and "regions" in first:
        return "is an export of the VGG Image Annotator"
    keys = ", ".join(list(content)[:5]) or "nothing"
    return _named(content, _OBJECTS) or f"is an object of {keys} and no COCO json"


def _named(keys: Mapping[str, Any], known: tuple[tuple[set[str], str], ...]) -> str | None:
    return next((words for wanted, words in known if wanted <= keys.keys()), None)


def _other_coco(content: Mapping[str, Any]) -> str:
    if not isinstance(content.get("categories"), list):
        kind = "captions" if any("caption" in each for each in content["annotations"][:1]) else "no `categories`"
        return f"is a COCO json with {kind}" if kind == "captions" else "is a COCO json without `categories`"
    if any("segments_info" in each for each in content["annotations"][:1]):
        return "is a COCO json of panoptic segments"
    return "is a COCO json whose annotations hold no boxes (`bbox`)"
