"""ROC and precision by recall of a classifier, one class against the rest, and thresholds that validation chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vision_train.artefacts import Artefact, Curve, Table
from vision_train.statistics import Interval, bootstrap_interval, group_indices, resample_mean, wilson_interval
from vision_train.tasks.auroc import auroc_interval, class_auroc_items

MOST_CLASSES = 100
"""With more classes the probabilities of a sample are not kept, so that a thousand cost no more memory than two."""
TOGETHER = 5
"""Lines in a chart beside that of guessing: as many can be told apart."""
MOST_POINTS = 200
PROBABILITY = "probability_"
"""Before the number of a class, the name of its column."""
THRESHOLDS = "thresholds"
"""Under which name a task's calibration keeps them."""
LIKELIER_THAN_NOT = 0.5
YOUDEN = (
    "The threshold is where sensitivity plus specificity is highest on the validation data (Youden's J); predictions "
    "still name the likeliest class."
)
NOT_CHOSEN = "No validation chose a threshold."
GUESSING = "guessing"
"""Name of the line that luck would draw."""

Floats = np.ndarray


@dataclass(frozen=True, eq=False)
class Against:
    """One class against the rest."""

    name: str
    positive: Floats
    """N, bool."""
    scores: Floats
    """N, the probability of the class."""
    auroc: float
    interval: Interval | None
    average_precision: float
    threshold: float | None
    """As validation chose it."""
    groups: Sequence[str] | None
    """N, what belongs together; None where each sample stands alone."""


@dataclass(frozen=True)
class AtThreshold:
    """What a threshold comes to."""

    sensitivity: float
    specificity: float
    precision: float | None
    """None where nothing is taken for positive."""
    of_sensitivity: Interval | None
    """95 %; None where it is not known."""
    of_specificity: Interval | None


def choose_thresholds(probabilities: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Choose for each class the threshold of its probability at which sensitivity plus specificity is highest.

    That is Youden's J (Cancer 3, 1950). Classifiers go on to predict the likeliest class; the threshold is for who asks
    of one class whether it is there.

    Args:
        probabilities: N x C, of validation samples.
        labels: N, int64.
        classes: C names.

    Returns:
        What :meth:`~vision_train.tasks.base.Task.calibrate` returns: names of classes to thresholds, without those of
        which there are no samples, or nothing else.
    """
    from sklearn.metrics import roc_curve  # imported where it is used: that takes most of a second

    if not probabilities.isfinite().all():
        return {}
    chosen = {}
    for index, name in _asked(classes):
        positive, scores = (labels == index).numpy(), probabilities[:, index].numpy()
        if positive.any() and not positive.all():
            false, true, cuts = roc_curve(positive, scores)
            chosen[name] = float(min(cuts[np.argmax(true - false)], 1.0))  # scikit-learn begins beyond all scores
    return {THRESHOLDS: chosen} if chosen else {}


def curve_artefacts(
    probabilities: Tensor,
    labels: Tensor,
    groups: Sequence[str] | None,
    classes: Sequence[str],
    split: str,
    calibration: Mapping[str, Any],
) -> list[Artefact]:
    """ROC, precision by recall, and a table of what thresholds come to.

    Args:
        probabilities: N x C.
        labels: N, int64.
        groups: N, what belongs together; None where each sample stands alone.
        classes: C names. Of two, the second is asked for; of more, each against the rest.
        split: What was tested.
        calibration: As :func:`choose_thresholds` left it.

    Returns:
        Nothing where there is one class alone or a probability is not finite.
    """
    if not len(labels) or not probabilities.isfinite().all():
        return []
    cuts = calibration.get(THRESHOLDS) or {}
    found = [
        against(name, probabilities[:, index], labels == index, groups, cuts.get(name))
        for index, name in _asked(classes)
        if 0 < int((labels == index).sum()) < len(labels)
    ]
    if not found:
        return []
    told = [] if len(found) > 1 else _told(found[0])
    sentences = [_in_words(words, at) for words, at in told]
    note = " ".join([YOUDEN if any(each.threshold is not None for each in found) else NOT_CHOSEN, *sentences])
    drawn, some = _lowest(found)
    whom = _whom(classes, some)
    return [
        *_charts(drawn, whom, split),
        threshold_table(found, "each class against the rest" if len(found) > 1 else whom, split, note),
    ]


def curves_against(found: Sequence[Against], split: str) -> list[Artefact]:
    """ROC and precision by recall of several classes, each against its absence.

    Args:
        found: At least one class.
        split: What was tested.
    """
    drawn, some = _lowest(found)
    whom = f"the {TOGETHER} classes with the lowest AUROC" if some else "each class against its absence"
    return _charts(drawn, whom, split)


def _lowest(found: Sequence[Against]) -> tuple[list[Against], bool]:
    """The classes that a chart can hold, and whether some are left out."""
    worst = sorted(found, key=lambda each: each.auroc)[:TOGETHER]
    return [each for each in found if each in worst], len(found) > TOGETHER


def _charts(drawn: Sequence[Against], whom: str, split: str) -> list[Artefact]:
    return [_roc(drawn, whom, split), _precision(drawn, whom, split)]


def _asked(classes: Sequence[str]) -> list[tuple[int, str]]:
    """Classes that are set against the rest: of two, one is the other's mirror image."""
    return [(1, classes[1])] if len(classes) == 2 else list(enumerate(classes))


def _whom(classes: Sequence[str], some: bool) -> str:
    if len(classes) == 2:
        return f"{classes[1]} against {classes[0]}"
    return f"the {TOGETHER} classes with the lowest AUROC against the rest" if some else "each class against the rest"


def against(
    name: str, scores: Tensor, positive: Tensor, groups: Sequence[str] | None, threshold: float | None
) -> Against:
    """Set one class against the rest.

    Args:
        name: Of the class.
        scores: N, its probability.
        positive: N, bool, at least one of each.
        groups: N, what belongs together; None where each sample stands alone.
        threshold: As validation chose it; None where it chose none.
    """
    from sklearn.metrics import average_precision_score

    items = class_auroc_items(scores.double(), positive)
    truth, ranked = positive.numpy(), scores.numpy()
    precision = float(average_precision_score(truth, ranked))
    auroc = items.mean().item(), auroc_interval(items, groups)
    return Against(name, truth, ranked, *auroc, precision, threshold, groups)


def _roc(found: Sequence[Against], whom: str, split: str) -> Curve:
    from sklearn.metrics import roc_curve

    drawn = {each: roc_curve(each.positive, each.scores)[:2] for each in found}
    lines = {f"{each.name} (AUROC {each.auroc:.3f})": _thinned(false, true) for each, (false, true) in drawn.items()}
    told = _told(found[0]) if len(found) == 1 else []
    return Curve(
        f"{split}_roc",
        f"ROC on {split}, {whom}",
        x_label="1 − specificity: negatives taken for positives",
        y_label="sensitivity: positives found",
        x=[0.0, 1.0],
        lines={**{name: y for name, (_, y) in lines.items()}, GUESSING: [0.0, 1.0]},
        x_of={name: x for name, (x, _) in lines.items()},
        marks={said: [1 - at.specificity, at.sensitivity] for said, at in told},
    )


def _precision(found: Sequence[Against], whom: str, split: str) -> Curve:
    from sklearn.metrics import precision_recall_curve

    drawn = {each: precision_recall_curve(each.positive, each.scores, drop_intermediate=True)[:2] for each in found}
    lines = {
        f"{each.name} (AP {each.average_precision:.3f})": _thinned(recall[::-1], precision[::-1])
        for each, (precision, recall) in drawn.items()
    }
    told, by_chance = [], {}
    if len(found) == 1:
        told = _told(found[0])
        by_chance = {GUESSING: [float(found[0].positive.mean())] * 2}
    return Curve(
        f"{split}_precision_recall",
        f"Precision by recall on {split}, {whom}",
        x_label="recall: positives found",
        y_label="precision: right among those taken for positive",
        x=[0.0, 1.0],
        lines={**{name: y for name, (_, y) in lines.items()}, **by_chance},
        x_of={name: x for name, (x, _) in lines.items()},
        marks={said: [at.sensitivity, at.precision] for said, at in told if at.precision is not None},
    )


def _thinned(x: Floats, y: Floats) -> tuple[list[float], list[float]]:
    """So many points of a curve, its ends among them."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
    return x[kept].tolist(), y[kept].tolist()


def _told(each: Against) -> list[tuple[str, AtThreshold]]:
    """The thresholds that are spoken of, in words."""
    cuts = dict.fromkeys([LIKELIER_THAN_NOT, *([] if each.threshold is None else [each.threshold])])
    return [(f"threshold {cut:.2f}", at_threshold(each.positive, each.scores, cut, each.groups)) for cut in cuts]


def at_threshold(
    positive: Floats, scores: Floats, threshold: float, groups: Sequence[str] | None = None
) -> AtThreshold:
    """Sensitivity, specificity and precision where a score from the threshold on counts as positive.

    Args:
        positive: N, bool, at least one of each.
        scores: N.
        threshold: In [0, 1].
        groups: N, what belongs together; None where each sample stands alone.
    """
    claimed = scores >= threshold
    found, passed = claimed[positive], ~claimed[~positive]
    return AtThreshold(
        float(found.mean()),
        float(passed.mean()),
        float(positive[claimed].mean()) if claimed.any() else None,
        _interval_of_share(found, groups and np.asarray(groups)[positive].tolist()),
        _interval_of_share(passed, groups and np.asarray(groups)[~positive].tolist()),
    )


def _interval_of_share(hits: Floats, groups: Sequence[str] | None) -> Interval | None:
    """Wilson's for samples that stand alone; a bootstrap of groups, since samples of one are no samples more."""
    if groups is None:
        return wilson_interval(float(hits.mean()), len(hits))
    return bootstrap_interval(resample_mean(hits.astype(float), group_indices(groups)), share=True)


def threshold_table(found: Sequence[Against], whom: str, split: str, note: str) -> Table:
    """What ranking and thresholds of each class come to.

    Args:
        found: At least one class.
        whom: Which classes are set against which, for the title.
        split: What was tested.
        note: How the thresholds came about.
    """
    rows: list[list[Any]] = []
    for each in found:
        interval = "–" if each.interval is None else f"{each.interval.low:.3f} to {each.interval.high:.3f}"
        cuts = [LIKELIER_THAN_NOT] if len(found) == 1 else []
        for cut in dict.fromkeys([*cuts, each.threshold]):
            at = None if cut is None else at_threshold(each.positive, each.scores, cut)
            told: list[Any] = [None] * 3 if at is None else [at.sensitivity, at.specificity, at.precision]
            written = None if cut is None else f"{cut:.3g}"
            head = [each.name, int(each.positive.sum()), each.auroc, interval, each.average_precision]
            rows.append([*head, written, *told])
    columns = ["class", "positives", "AUROC", "95 % of AUROC", "average precision", "threshold"]
    columns += ["sensitivity", "specificity", "precision"]
    shares = ["AUROC", "average precision", *columns[6:]]
    title, said = f"Thresholds on {split}, {whom}", f"{note} Intervals of AUROC are by DeLong and others (1988)."
    return Table(f"{split}_thresholds", title, columns, rows, said, shares)


def _in_words(words: str, at: AtThreshold) -> str:
    parts = []
    for name, share, interval in (
        ("sensitivity", at.sensitivity, at.of_sensitivity),
        ("specificity", at.specificity, at.of_specificity),
    ):
        bounds = [] if interval is None else [f"{100 * bound:.1f}" for bound in interval]
        known = f" (95 % interval {' to '.join(bounds)} %)" if bounds else ""
        parts.append(f"{name} {100 * share:.1f} %{known}")
    return f"At {words}: {', '.join(parts)}."


def probability_fields(classes: int) -> tuple[str, ...]:
    """Columns for the probabilities of a sample; none where there are too many classes to keep them."""
    return tuple(f"{PROBABILITY}{number}" for number in range(classes)) if classes <= MOST_CLASSES else ()


def stacked(columns: Sequence[Tensor]) -> Tensor:
    """C columns of N probabilities as N x C."""
    return torch.stack(list(columns), dim=1)
