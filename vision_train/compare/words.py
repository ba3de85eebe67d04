"""A comparison in plain words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vision_train.compare.comparison import Comparison
from vision_train.compare.results import ArmResult, CellResult
from vision_train.compare.statistics import MOST_SEEDS, SIGNIFICANCE, Interval
from vision_train.report.formats import format_number, format_percent, metric_format, metric_title

WHAT_A_SEED_DRAWS = (
    "A seed draws the label subset (where data.labels_per_class is set), the initial weights and the order of the "
    "data; every arm gets the same seeds. The test images are the same for all."
)
ONE_SEED = "With a single seed there is no interval: one run does not show how far another would lie from it."

Format = Callable[[float], str]


def difference_scale(metric: str) -> tuple[float, str]:
    """Factor and unit in which differences of a metric are written: points of a percentage for shares."""
    return (100.0, "points") if metric_format(metric) is format_percent else (1.0, "")


def format_difference(metric: str, value: float, signed: bool = True) -> str:
    """A difference of two values of a metric, such as ``+1.90 points``."""
    factor, unit = difference_scale(metric)
    sign = ("+" if value > 0 else "−" if value < 0 else "") if signed else ""
    size = f"{abs(factor * value):.2f}" if unit else format_number(abs(value))
    return f"{sign}{size} {unit}".rstrip()


def format_interval(interval: Interval | None, written: Format) -> str:
    """An interval as ``low to high``, with the unit once; a dash for none."""
    if interval is None:
        return "–"
    low, high = (written(end).replace("-", "−") for end in interval)
    return f"{low.partition(' ')[0]} to {high}"


def bare_difference(metric: str, value: float) -> str:
    """A difference without its unit, for a column that names it."""
    return format_difference(metric, value).partition(" ")[0]


def format_p(p: float | None) -> str:
    """A p value to the digits that mean something."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def headline(comparison: Comparison) -> str:
    """The verdict as a title."""
    name, first = comparison.name, comparison.first
    if comparison.verdict in ("better", "worse"):
        return f"{name} is {comparison.verdict} than {first}"
    if comparison.verdict == "not tested":
        return f"{name} and {first}: not tested"
    return f"No measurable difference between {name} and {first}"


def evidence(comparison: Comparison, metric: str, tests: int) -> str:
    """What the verdict rests on, and what it would take to tell.

    Args:
        comparison: Of an arm with the first.
        metric: The headline metric on the test split.
        tests: Comparisons of the study.
    """
    title = metric_title(metric).lower()
    if comparison.verdict == "not tested":
        difference = format_difference(metric, comparison.difference)
        return f"The {title} differs by {difference} {_on_seeds(comparison.seeds)}. {_untested(comparison)}"
    if comparison.interval is None:
        return f"The {title} is the same on each of {comparison.seeds} seeds."
    p = f"p {format_p(comparison.p)}" if (comparison.p or 0) < 0.001 else f"p = {format_p(comparison.p)}"
    adjusted = f", {format_p(comparison.adjusted_p)} adjusted for {tests} comparisons" if tests > 1 else ""
    sentences = [
        f"Over {comparison.seeds} seeds the {title} differs by {format_difference(metric, comparison.difference)} "
        f"(95 % interval {format_interval(comparison.interval, partial(format_difference, metric))}; {p}{adjusted}); "
        f"{comparison.name} is ahead on {comparison.wins} of them.",
        _further_seeds(comparison, metric),
        _other_items(comparison, metric),
    ]
    return " ".join(filter(None, sentences))


def sentence(comparison: Comparison, metric: str, tests: int) -> str:
    """Title and evidence in one."""
    return f"{headline(comparison)}. {evidence(comparison, metric, tests)}"


def budget_differences(cell: CellResult) -> list[str]:
    """What arms were given more or less of than the first, in words; empty if the comparison is even."""
    if not cell.arms:
        return []
    first, found = cell.arms[0], []
    for arm in cell.arms[1:]:
        parts = [f"{name} {_times(ours, theirs)}" for name, ours, theirs in budget_pairs(arm, first) if ours != theirs]
        if parts:
            found.append(f"{arm.name} against {first.name}: {', '.join(parts)}")
    return found


def budget_pairs(arm: ArmResult, first: ArmResult) -> list[tuple[str, float, float]]:
    """Each part of the budget by name, of an arm and of the first."""
    ours, theirs = arm.budget, first.budget
    return [
        ("steps", ours.steps, theirs.steps),
        ("images seen", ours.images, theirs.images),
        ("parameters", ours.parameters, theirs.parameters),
        ("pre-training steps", ours.pretraining_steps, theirs.pretraining_steps),
        ("pre-training images", ours.pretraining_images, theirs.pretraining_images),
    ]


def _times(ours: float, theirs: float) -> str:
    ratio = f" ({ours / theirs:.3g} times)" if theirs and ours else ""
    return f"{format_number(ours)} instead of {format_number(theirs)}{ratio}"


def _on_seeds(seeds: int) -> str:
    return "on a single seed" if seeds == 1 else f"on each of {seeds} seeds"


def _untested(comparison: Comparison) -> str:
    if comparison.seeds == 1:
        return f"{ONE_SEED} Ask for more with --seeds; 10 are a good start."
    return (
        "That every seed shows exactly the same difference leaves no spread to test it against; ask for more with "
        "--seeds, or test on more images."
    )


def _further_seeds(comparison: Comparison, metric: str) -> str:
    if comparison.verdict in ("better", "worse"):
        return "No further seeds are needed to tell."
    finds = ""
    if comparison.detectable is not None and comparison.seeds > 2:
        size = format_difference(metric, comparison.detectable, signed=False)
        finds = f"; {comparison.seeds} seeds find one of {size} in 4 studies of 5"
    if comparison.seeds_needed is None:
        return f"To tell one this small would take more than {MOST_SEEDS:,} seeds{finds}."
    more = max(comparison.seeds_needed - comparison.seeds, 1)
    return f"To tell one of this size would take about {more:,} more seed{'s' if more > 1 else ''}{finds}."


def _other_items(comparison: Comparison, metric: str) -> str:
    """Warn where the seeds are sure of a difference that the test images are not."""
    interval = comparison.item_interval
    if interval is None or comparison.verdict not in ("better", "worse") or interval.low > 0 or interval.high < 0:
        return ""
    resampled = format_interval(interval, partial(format_difference, metric))
    return f"But other test images of the same kind could undo it: resampling them gives {resampled}."


def caution(tests: int, finished: int, planned: int) -> str:
    """What a reader has to know of p values that were looked at early or that are several."""
    parts = []
    if finished < planned:
        parts.append(f"{finished} of {planned} runs are finished: all that follows is preliminary.")
    if tests > 1:
        parts.append(
            f"{tests} comparisons are judged together: verdicts rest on p values adjusted by Holm's method, which keep "
            f"the chance of any false alarm at {100 * SIGNIFICANCE:.0f} %. Intervals are not adjusted."
        )
    return " ".join(parts)
