"""What the columns of a data set of ``datasets`` are: said in the files' own metadata, or in what lies beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vision_train.data.stored_images import ARROW
from vision_train.errors import UserError
from vision_train.files import printable

LABELS = ("label", "labels")
"""Usual names of a column of labels."""
_FRONT = re.compile(r"---\s*\n(.*?)\n---\s*(?:\n|$)", re.DOTALL)


@dataclass(frozen=True)
class Features:
    """The columns that are read."""

    image: str
    label: str | None
    """None where nothing says which it is."""
    names: tuple[str, ...]
    """Names of the classes that whole numbers stand for; none where labels stand for themselves."""
    columns: tuple[str, ...]
    """All columns."""


def features_of(opened: Any, file: Path, root: Path, label: str | None) -> Features:
    """Find the columns of images and labels.

    Args:
        opened: As :func:`vision_train.data.stored_images.open_columns` returns it.
        file: What was opened.
        root: The folder of the data set.
        label: Name of the column of labels; None looks for it.

    Raises:
        UserError: No column holds images, several do, or there is no column of that name.
    """
    schema = opened.schema if file.suffix == ARROW else opened.schema_arrow
    if repeated := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        raise UserError(
            f"{printable(str(file))}: two columns are called {', '.join(repeated)}; give each a name of its own"
        )
    described = _described(schema, file, root)
    images = [name for name in schema.names if _is_image(schema.field(name).type, described.get(name))]
    image = next((name for name in ("image", "img") if name in images), images[0] if len(images) == 1 else None)
    if image is None:
        held = f"several columns of images, {', '.join(images)}" if images else "no column of images"
        remedy = "keep one of them" if images else f"it has {', '.join(schema.names)}"
        raise UserError(f"{printable(str(file))}: {held}; {remedy}")
    if label is not None and label not in schema.names:
        raise UserError(
            f"data.label_column={label}: {printable(str(file))} has no such column (found: {', '.join(schema.names)})"
        )
    if label is None:
        of_classes = [name for name in schema.names if class_names(described.get(name))]
        usual = [name for name in LABELS if name in schema.names]
        label = of_classes[0] if len(of_classes) == 1 else next(iter(usual), None)
    return Features(image, label, class_names(described.get(label or "")), tuple(schema.names))


def _is_image(kind: Any, described: Any) -> bool:
    import pyarrow

    if isinstance(described, Mapping) and described.get("_type") == "Image":
        return True
    is_struct = pyarrow.types.is_struct(kind)
    return bool(is_struct and {kind.field(i).name for i in range(kind.num_fields)} >= {"bytes", "path"})


def class_names(described: Any) -> tuple[str, ...]:
    """Names of the classes of a column, or of what its lists hold; none where it says none."""
    if isinstance(described, list) and len(described) == 1:
        described = described[0]
    if not isinstance(described, Mapping):
        return ()
    if "feature" in described:
        return class_names(described["feature"])
    names = described.get("names", ())
    if isinstance(names, Mapping):  # of a README: {'0': cat, '1': dog}
        if {str(key) for key in names} != {str(number) for number in range(len(names))}:
            raise UserError(
                f"the names of classes in README.md or dataset_info.json have the keys {', '.join(map(str, names))}; "
                f"number all of them, from 0 to {len(names) - 1}"
            )
        names = [names[key] for key in sorted(names, key=lambda key: int(key))]
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def _described(schema: Any, file: Path, root: Path) -> dict[str, Any]:
    """What is known of each column, from the first place that says something."""
    folder = root if root.is_dir() else root.parent
    within = _json((schema.metadata or {}).get(b"huggingface", b"").decode("utf-8", "replace"))
    said = [within.get("info")] if isinstance(within, dict) else []
    cards = (place / "dataset_info.json" for place in dict.fromkeys((file.parent, folder)))
    said += [_json(_text(card)) for card in cards if card.is_file()]
    for each in said:
        if isinstance(each, dict) and isinstance(features := each.get("features"), dict):
            return features
    for place in dict.fromkeys((folder, file.parent, folder.parent)):
        if (readme := place / "README.md").is_file() and (front := _FRONT.match(_text(readme))):
            return _of_readme(front[1], readme)
    return {}


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None  # the next place may say it


def _of_readme(front: str, readme: Path) -> dict[str, Any]:
    try:
        head = yaml.safe_load(front)
    except yaml.YAMLError as error:
        raise UserError(
            f"{printable(str(readme))}: its header, between the lines ---, is no valid YAML, and may name the classes; "
            "mend it, or remove the header"
        ) from error
    info = (head.get("dataset_info") if isinstance(head, dict) else None) or {}
    if isinstance(info, list):  # one for each configuration
        info = info[0] if len(info) == 1 else {}
    listed_columns = info.get("features") if isinstance(info, Mapping) else None
    found: dict[str, Any] = {}
    for column in listed_columns if isinstance(listed_columns, list) else ():
        if not isinstance(column, Mapping):
            continue
        kind = column.get("dtype")
        listed = column.get("sequence") or column.get("list")
        if isinstance(listed, Mapping):
            kind = listed
        found[str(column.get("name"))] = (
            kind.get("class_label") if isinstance(kind, Mapping) else {"_type": str(kind).title()}
        )
    return {name: value for name, value in found.items() if value}
