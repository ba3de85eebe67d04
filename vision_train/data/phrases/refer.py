"""REFER's folders: `instances.json` with images and boxes as COCO has them, and pickled expressions beside it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from vision_train.data.findings import Findings
from vision_train.data.phrases.annotations import Listed, ListedFile, part_called
from vision_train.errors import UserError
from vision_train.files import printable

INSTANCES = "instances.json"
ORDER = "left, top, width, height"
_REMEDY = "get the file again from its authors"


class AsksForCodeError(pickle.UnpicklingError):
    """A pickle names a class or function; the message is its name."""


class PlainUnpickler(pickle.Unpickler):
    """Reads a pickle of plain values, and nothing else: whatever names code is refused before it is called."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse every name of a class or function.

        Raises:
            AsksForCodeError: Always.
        """
        raise AsksForCodeError(f"{module}.{name}")


def read_refer(refs: Path, findings: Findings) -> ListedFile:
    """Read the expressions of a `refs(NAME).p`.

    Args:
        refs: The file; `instances.json` lies beside it.
        findings: Takes what is wrong with single expressions.

    Raises:
        UserError: One of the files cannot be read, or holds something else.
    """
    images, boxes = _instances(refs.with_name(INSTANCES))
    listed = ListedFile(refs, ORDER)
    for number, ref in enumerate(_refs(refs)):
        place = f"{refs.name} ref {ref.get('ref_id', f'number {number}')}"
        image, box = images.get(str(ref.get("image_id"))), boxes.get(str(ref.get("ann_id")))
        part = part_called(str(ref.get("split")))
        if image is None:
            findings.mend(f"expressions whose image {INSTANCES} does not list", place)
        elif box is None:
            findings.mend(f"expressions whose box {INSTANCES} does not list", place)
        elif part is None:
            findings.mend("expressions of no known split", f"{place} ({printable(str(ref.get('split')))})")
        else:
            (name, size), (corners, category) = image, box
            for identifier, text in _sentences(ref):
                listed.expressions.append(Listed(name, text, corners, part, place, identifier, size, category))
    return listed


def _sentences(ref: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    """Number and text of each sentence of an expression."""
    sentences = ref.get("sentences")
    for sentence in sentences if isinstance(sentences, list) else ():
        if isinstance(sentence, dict):
            yield sentence.get("sent_id"), str(sentence.get("sent") or "")


def _instances(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name and size of each image, and corners and category of each box, by their ids as text.

    Some files have numbers as text. A category without a name is empty.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = {str(each["id"]): (str(each["file_name"]), _size(each)) for each in content["images"]}
        names = {str(each["id"]): str(each["name"]) for each in content.get("categories", ())}
        boxes = {
            str(each["id"]): (_corners(each["bbox"]), names.get(str(each.get("category_id")), ""))
            for each in content["annotations"]
        }
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; it belongs beside the pickle with the expressions") from error
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{path}: does not list images (id, file_name) and annotations (id, bbox) as REFER does ({error!r}); "
            f"{_REMEDY}"
        ) from error
    return images, boxes


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    given = isinstance(width, int) and isinstance(height, int) and min(width, height) > 0
    return (width, height) if given else None  # type: ignore[return-value]  # of whole numbers


def _corners(box: Any) -> tuple[float, float, float, float]:
    left, top, width, height = map(float, box)
    return left, top, left + width, top + height


def _refs(path: Path) -> list[dict[str, Any]]:
    """The content of the pickle; Python 2 wrote most of them, whose texts are read as Latin-1."""
    try:
        with path.open("rb") as file:
            content = PlainUnpickler(file, encoding="latin-1").load()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a refs(NAME).p of REFER with data.labels") from error
    except AsksForCodeError as error:
        raise UserError(
            f"{path}: asks for {printable(str(error))}, so that reading it could run code; nothing of it was run. "
            f"Write the expressions as csv, or {_REMEDY}"
        ) from error
    except Exception as error:
        raise UserError(f"{path}: is damaged ({error!r}); {_REMEDY}") from error
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise UserError(f"{path}: holds no list of expressions as REFER has it; {_REMEDY}")
    return content
