"""Labels as tables and folders write them: those that mean none, those that are several, and names worth a look."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence

from vision_train.data.splits import split_called
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.wording import first_named

MISSING = frozenset(
    {
        "",
        "nan",
        "-nan",
        "+nan",
        "na",
        "n/a",
        "n.a.",
        "n.a",
        "#n/a",
        "#n/a n/a",
        "#na",
        "<na>",
        "none",
        "null",
        "nil",
        "nat",
    }
    | {"#null!", "#ref!", "#value!", "#div/0!", "#name?", "#num!", "-", "--", "?", "??"}
)
"""What programs write for a value that is missing, in small letters."""
_ALWAYS_SEVERAL = re.compile(r".*\|.*|[^;]+(;[^;]+)+;?|\[.*\]|\{.*\}|\(.*,.*\)|\d+([ ,]\s*\d+)+", re.DOTALL)
_WHOLE = re.compile(r"(-?[0-9]+)(\.0*)?")
"""A whole number, also as programs write it that have made floats of a column."""
_SEPARATORS = re.compile(r"\s*(?:,|/|\+|&|\s)\s*")

SUSPICIOUS = frozenset(
    {"annotation", "annotations", "archive", "backup", "class", "classes", "copy", "data", "dataset", "datasets"}
    | {"folder", "image", "images", "img", "imgs", "jpegimages", "jpg", "jpeg", "label", "labels", "mask", "masks"}
    | {"new folder", "output", "outputs", "photos", "pictures", "png", "predict", "prediction", "predictions", "raw"}
    | {"result", "results", "run", "runs", "temp", "thumbnails", "tmp", "todo", "unclassified", "unknown", "unlabeled"}
    | {"unlabelled", "unsorted", "untitled folder"}
)
"""Names of folders and words that are rarely classes, in small letters."""
MOST_LISTED = 20
"""Classes that a line lists; of more it gives the first ones, and how many there are."""


def class_name(text: str) -> str:
    """Text without what nobody sees: surrounding spaces, and accents that one system writes apart and another not."""
    return unicodedata.normalize("NFC", text.strip())


def is_missing(label: str, declared: Collection[str] = ()) -> bool:
    """Whether a label says that there is none, such as ``nan``, ``NA`` or ``null``.

    Args:
        label: Without spaces around it.
        declared: Classes that the recipe declares, which may be called so.
    """
    return label not in declared and label.casefold() in MISSING


def several_in_one(labels: Collection[str], declared: Collection[str] = ()) -> list[str]:
    """Those of the labels that name several classes, such as ``cat|dog``.

    Text between ``|`` or ``;``, lists in brackets and rows of numbers always do. Text between commas, slashes, plus
    signs or spaces does where each part is a label of its own elsewhere: `black/white` may be the name of one class.

    Args:
        labels: All labels of the table, each once.
        declared: Classes that the recipe declares, which may be called so.
    """
    known = set(labels)
    return sorted(
        label
        for label in known
        if label not in declared and (_ALWAYS_SEVERAL.fullmatch(label) or _is_made_of(label, known))
    )


def _is_made_of(label: str, known: Collection[str]) -> bool:
    parts = [part for part in _SEPARATORS.split(label) if part]
    return len(parts) > 1 and all(part in known for part in parts)


def whole_numbers(labels: Collection[str], declared: Collection[str] = ()) -> dict[str, str]:
    """Labels that are whole numbers written as floats, such as ``1.0``, and the whole numbers.

    Programs make floats of a column of numbers as soon as one is missing. Where another label is text, or a fraction,
    floats are left as they are.

    Args:
        labels: All labels of the table.
        declared: Classes that the recipe or an earlier run declares. A float among them is the name of a class; a whole
            number among them is meant by a float, whatever the other labels are.
    """
    numbers = {label: found for label in labels if (found := _WHOLE.fullmatch(label))}
    is_number = all(label in numbers or is_missing(label, declared) for label in labels)
    is_number &= not any(found[2] and label in declared for label, found in numbers.items())
    return {
        label: found[1]
        for label, found in sorted(numbers.items(), key=lambda each: int(each[1][1]))
        if found[2] and label not in declared and (is_number or found[1] in declared)
    }


def labels_were_floats(whole: Mapping[str, str]) -> str:
    """Say which labels :func:`whole_numbers` found."""
    named = first_named([f"{label} is {number}" for label, number in whole.items()])
    return f"labels are written as floats, and read as whole numbers: {named}"


def in_declared_order(found: Sequence[str], declared: Sequence[str] | None) -> list[str]:
    """The classes that were found, in the order of ``data.classes`` where it names them.

    Raises:
        UserError: It does not name exactly those.
    """
    if declared is None:
        return list(found)
    if unnamed := [name for name in found if name not in declared]:
        raise UserError(
            f"data.classes does not name {first_named(unnamed)}, which the data hold as a class; name all classes, or "
            "mend the labels"
        )
    if absent := [name for name in declared if name not in found]:
        raise UserError(f"data.classes names {first_named(absent)}, of which the data hold nothing; leave it out")
    return list(declared)


def listed_classes(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Classes with the number of their samples in each split, as one line.

    Args:
        counts: Class, in the order of the label map -> split -> number.
    """
    named = [
        f"{printable(name)} ({', '.join(f'{count:,} {split}' for split, count in splits.items())})"
        for name, splits in counts.items()
    ]
    if len(named) <= MOST_LISTED:
        return ", ".join(named)
    sizes = [sum(splits.values()) for splits in counts.values()]
    rest = f"{len(named):,} in all, of {min(sizes):,} to {max(sizes):,} each"
    return f"{', '.join(named[: MOST_LISTED // 2])}, ... ({rest})"


def suspicious_names(classes: Sequence[str], declared: Collection[str] = ()) -> list[str]:
    """Those of the classes whose names are rarely those of classes: of folders, splits or missing labels.

    Args:
        classes: The label map.
        declared: Classes that the recipe declares.
    """
    return [
        name
        for name in classes
        if name not in declared and (name.casefold() in SUSPICIOUS or is_missing(name) or split_called(name))
    ]


def alike_names(classes: Sequence[str], declared: Collection[str] = ()) -> list[str]:
    """Those of the classes whose names differ only in case or separators from that of another, such as `Cat`, `cat`.

    Args:
        classes: The label map.
        declared: Classes that the recipe declares.
    """
    names: dict[str, list[str]] = {}
    for name in classes:
        names.setdefault(re.sub(r"[\s_-]+", " ", name.casefold()), []).append(name)
    return [name for same in names.values() if len(same) > 1 and not {*same} <= {*declared} for name in same]


def name_doubts(classes: Sequence[str], declared: Collection[str], named: str) -> list[str]:
    """Warnings of names that are rarely those of classes, in sentences without a full stop.

    Args:
        classes: The label map.
        declared: Classes that the recipe declares.
        named: The key that names the data, with its value.
    """
    doubts = []
    declare = f"else name all classes with data.classes=[{','.join(map(printable, classes))}]"
    if odd := suspicious_names(classes, declared):
        doubts.append(
            f"{first_named(odd)} {'is a class' if len(odd) == 1 else 'are classes'} here; if that is not what you "
            f"mean, mend {named} or its labels, {declare}"
        )
    if alike := alike_names(classes, declared):
        doubts.append(
            f"{first_named(alike)} are classes of their own, though their names differ in nothing but case or "
            f"separators; if they are one, mend {named} or its labels, {declare}"
        )
    return doubts
