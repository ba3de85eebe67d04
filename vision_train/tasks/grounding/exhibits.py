"""What a report and a study show of a pass of grounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vision_train.artefacts import Artefact, Curve, Items, Table
from vision_train.statistics import wilson_interval
from vision_train.tasks.grounding.results import ACCURACY, MEAN_IOU, PhraseResult, Results, ious, measure, values
from vision_train.wording import count_of, percent

LENGTHS = ((1, 2), (3, 4), (5, 7), (8, 12))
"""Words of an expression, from and to; longer ones come last."""
FEWEST = 5
"""Categories with fewer expressions are shown together."""
REST = "others"
THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(9))
"""IoU from which on a box counts as found, 0.5 to 0.9: TransVG and VLTVG are compared at the first."""


def artefacts(results: Results, split: str, warnings: Sequence[str]) -> list[Artefact]:
    """Accuracy by length of the expression, category and asked IoU, and what each expression adds to the metrics.

    Args:
        results: Of the expressions.
        split: What was tested.
        warnings: What is wrong with the result, in sentences without a full stop.
    """
    by_length, note = _parted(results, lambda each: _length(each.words)), _of_images(results)
    warned = "".join(f"Warning: {text}. " for text in warnings)
    order = [_length(low) for low, _ in LENGTHS] + [_length(LENGTHS[-1][1] + 1)]
    title = "Accuracy by length of the expression"
    shown: list[Artefact] = [_table(f"{split}_lengths", title, "words", by_length, order, f"{warned}{note}")]
    categories = _categories(results)
    if len(categories) > 1:
        if REST in categories:
            note += f" Others are of categories with fewer than {FEWEST} expressions, or of none."
        title = "Accuracy by category of what is meant"
        shown.append(_table(f"{split}_categories", title, "category", categories, list(categories), note))
    groups = [each.group for each in results.values()]
    shown.append(_by_threshold(results, split))
    shown.append(Items(f"{split}_items", list(results), values(results), groups))
    return shown


def _by_threshold(results: Results, split: str) -> Curve:
    """How accuracy falls where boxes have to be more exact."""
    found = ious(results)
    shares = [float((found >= least).mean()) if len(found) else float("nan") for least in THRESHOLDS]
    title, note = "Accuracy by the IoU that is asked for", f"Their mean is {percent(float(np.mean(shares)), 1)}."
    return Curve(f"{split}_thresholds", title, "IoU", "accuracy", list(THRESHOLDS), {"accuracy": shares}, note)


def _length(words: int) -> str:
    for low, high in LENGTHS:
        if words <= high:
            return f"{low} to {high}"
    return f"{LENGTHS[-1][1] + 1} and more"


def _categories(results: Results) -> dict[str, Results]:
    """Expressions of each category, the most frequent first, rare ones together and last."""
    parted = _parted(results, lambda each: each.category)
    frequent = {name: of for name, of in parted.items() if name and len(of) >= FEWEST}
    rest = {name: each for category, of in parted.items() if category not in frequent for name, each in of.items()}
    ordered = dict(sorted(frequent.items(), key=lambda entry: (-len(entry[1]), entry[0])))
    return {**ordered, REST: rest} if rest and ordered else ordered


def _parted(results: Results, kind_of: Callable[[PhraseResult], str]) -> dict[str, Results]:
    parted: dict[str, Results] = {}
    for name, each in results.items():
        parted.setdefault(kind_of(each), {})[name] = each
    return parted


def _table(
    name: str, title: str, heading: str, parts: Mapping[str, Results], order: list[str], note: str = ""
) -> Table:
    rows: list[list[Any]] = []
    for kind in [each for each in order if each in parts]:
        measured, count = measure(parts[kind]), len(parts[kind])
        low, high = wilson_interval(measured[ACCURACY.name], count)
        interval = f"{100 * low:.1f} to {100 * high:.1f} %"
        rows.append([kind, count, measured[ACCURACY.name], interval, measured[MEAN_IOU.name]])
    columns = [heading, "expressions", "accuracy", "95 % interval", "mean IoU"]
    return Table(name, title, columns, rows, note, ["accuracy", "mean IoU"])


def _of_images(results: Results) -> str:
    images = len({each.group for each in results.values()})
    return (
        f"{count_of(len(results), 'expressions')} of {count_of(images, 'images')}. Intervals are those of Wilson, "
        "as if each expression stood alone; those of an image do not quite."
    )


def lacking(results: Results) -> list[str]:
    """What is wrong with a pass, in sentences."""
    broken = [name for name, each in results.items() if not np.isfinite(each.found).all()]
    if not broken:
        return []
    told = count_of(len(broken), "expressions")
    return [f"the network finds boxes that are not finite for {told}, such as {broken[0]}"]
