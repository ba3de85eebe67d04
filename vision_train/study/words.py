"""A comparison in plain words."""

from __future__ import annotations

from vision_train.report.formats import NumberFormat, format_number
from vision_train.report.judged_metric import JudgedMetric
from vision_train.statistics import FEWEST_SEEDS_TO_PLAN_BY, MOST_SEEDS, SIGNIFICANCE, Interval
from vision_train.study.judgement import Comparison
from vision_train.study.plan import Plan
from vision_train.study.results import ArmResult, CellResult, StudyResult
from vision_train.study.study import Study
from vision_train.study.warned import warned

WHAT_A_SEED_DRAWS = (
    "A seed draws the initial weights and the order of the data, and the label subset and the generated samples where "
    "a recipe asks for them. Every arm gets the same seeds and is tested on the same samples."
)
WHAT_A_FOLD_DRAWS = (
    "Each seed divides the samples into folds anew; samples of one group, such as those of one patient, are in one "
    "fold. A run tests on one fold and learns from the others, so that each seed tests every sample once. "
    "The seed also draws the initial weights, the order of the data and the label subset. Every arm gets the same "
    "seeds and folds."
)
ONE_SEED = (
    "With a single seed there is no interval: one run does not show how far another would lie from it. Ask for more "
    "with --seeds; 10 are a good start."
)
HOW_TO_READ = (
    "Intervals over the seeds are Student's t, for means of shares on the logit scale, so that they stay within 0 and "
    "100 %: where the mean over all possible seeds could lie. Differences are "
    "taken within each seed (paired), since what a seed draws moves all arms alike. Wins are seeds on which an "
    "arm is ahead of the first. The interval over test samples draws these again and recomputes the metric "
    "(paired bootstrap); samples of one group, such as those of one patient, are drawn together. It "
    "says how far the same runs could be apart on other samples of the kind. An arm is called better or worse "
    "where both intervals exclude 0; neither covers seeds and samples together. Where each seed has test samples "
    "of its own, the interval over the seeds covers them too and decides alone. The number of seeds of a fresh "
    "study is the power of the paired t test for a difference of the size seen here; its range follows from the "
    "95 % interval of the spread over the seeds."
)
HOW_TO_READ_FOLDS = (
    "Differences are taken within each fold (paired). Runs of several folds learn from samples that they have in "
    "common, so that their values depend on one another and a plain t interval over them is too narrow. Intervals and "
    "p are those of the corrected resampled t test (Nadeau and Bengio 2003): with n runs of k folds, the variance of a "
    "mean is taken as 1/n + 1/(k - 1) times that of the values, for means of shares on the logit scale. They cover "
    "the luck of the samples and of the seeds together, and decide alone. Wins are folds on which an arm is "
    "ahead of the first. More seeds make the intervals narrower only up to a point; more samples do beyond it."
)
MEMORY = (
    "Peak memory on a CPU is that of the whole process, imports included; on a GPU it is what the run allocated there."
)


def how_to_read(plan: Plan) -> str:
    """What the intervals of a study are."""
    return HOW_TO_READ if plan.folds is None else HOW_TO_READ_FOLDS


def what_is_drawn(plan: Plan) -> str:
    """What chance decides in the runs of a study."""
    return WHAT_A_SEED_DRAWS if plan.folds is None else WHAT_A_FOLD_DRAWS


def format_interval(interval: Interval | None, written: NumberFormat) -> str:
    """An interval as ``low to high`` that stays on one line, with the unit once; a dash for none."""
    if interval is None:
        return "–"
    low, high = (written(end).replace("-", "−") for end in interval)
    return f"{low.partition(' ')[0]} to {high}".replace(" ", "\u00a0")


def format_p(p: float | None) -> str:
    """A p value to the digits that mean something."""
    if p is None:
        return "–"
    return "<\u00a00.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def sentence(comparison: Comparison, metric: JudgedMetric, tests: int) -> str:
    """The verdict and what it rests on.

    Args:
        comparison: The comparison of an arm with the first.
        metric: The headline metric on the test split.
        tests: Comparisons that are judged together.
    """
    return f"{headline(comparison)}: {evidence(comparison, metric, tests)}"


def headline(comparison: Comparison) -> str:
    """The beginning of the sentence: the verdict."""
    name, first = comparison.name, comparison.first
    samples = f"on these {comparison.test_samples:,} test {comparison.noun}, not shown beyond them"
    match comparison.verdict:
        case "better" | "worse":
            return f"{name} is {comparison.verdict} than {first}"
        case "ahead":
            return f"{name} is ahead of {first} {samples}"
        case "behind":
            return f"{name} is behind {first} {samples}"
        case "failed":
            return f"{name} and {first} are not judged, since {_failures(comparison)}"
        case "not tested":
            return f"{name} and {first} are not tested"
        case "no measurable difference":
            return f"No measurable difference between {name} and {first}"


def evidence(comparison: Comparison, metric: JudgedMetric, tests: int) -> str:
    """The rest of the sentence: what the verdict rests on, and what it would take to tell."""
    written, seeds = metric.format, comparison.seeds
    levels = f"{written(comparison.mean)} against {written(comparison.first_mean)}"
    if comparison.interval is None and comparison.difference == 0 and seeds > 1:
        return f"{levels}, the same on each of {seeds} {_drawn(comparison)}."
    wide = comparison.interval is not None and comparison.interval.high - comparison.interval.low > 0.02

    def difference(value: float) -> str:
        return metric.format_difference(value, 1 if wide else 2)

    unit = metric.unit
    parts = [f"{levels}, {difference(comparison.difference)}{f' {unit}' if unit else ''}"]
    if comparison.interval:
        parts.append(f" ({_intervals(comparison, difference, tests)})")
    if comparison.ties:
        parts.append(f", equal on {comparison.ties} of {seeds} {_drawn(comparison)}")
    parts.append(_further(comparison))
    if comparison.earlier_readings:
        parts.append(f"; seeds were added after a reading at {' and '.join(map(str, comparison.earlier_readings))}")
    return f"{''.join(parts)}."


def cautions(study: Study, result: StudyResult, to_come: int, planned: int) -> list[str]:
    """What runs warned of, and what a reader has to know of verdicts that are early, several or looked at before.

    Args:
        study: The folder.
        result: What it came to.
        to_come: Runs that are neither finished nor failed.
        planned: All runs.
    """
    compared = [comparison for cell in result.cells for comparison in cell.comparisons]
    arms = [arm.name for arm in study.plan.arms]
    parts = []
    if to_come:
        parts.append(f"{to_come} of {planned} runs are still to come: all of this is preliminary.")
    if len(study.plan.draws) == 1:
        parts.append(ONE_SEED)
    if result.tests > 1:
        parts.append(
            f"{result.tests} comparisons are judged together: each interval of a difference is taken at "
            f"{confidence(result.tests)}, so that all of them hold at once with 95 % (Bonferroni)."
        )
    if any(comparison.earlier_readings for comparison in compared):
        parts.append(
            "Seeds were added after the study had been judged with fewer: that gives luck a second chance, so p and "
            "intervals are too optimistic. A fresh study with all seeds from the start has no such flaw."
        )
    if len(study.titles) > len(arms):
        parts.append(
            f"The study holds {len(study.titles)} arms, of which {len(arms)} are read here: what holds with 95 % holds "
            "for these alone, and not if they were chosen by their results."
        )
    if others := [
        name for name in dict.fromkeys(reading["arms"][0] for reading in study.readings()) if name != arms[0]
    ]:
        parts.append(f"It was judged against {' and '.join(others)} before: each further reading is a chance for luck.")
    return [*warned(result), *parts]


def faults(result: StudyResult) -> list[str]:
    """What makes the comparison unfair, in words; empty if it is even."""
    cells: dict[str, list[str]] = {}
    for cell in result.cells:
        for difference in budget_differences(cell):
            cells.setdefault(difference, []).append(cell.title)
    found = []
    for difference, titles in cells.items():
        prefix = f"{', '.join(titles)}: " if len(titles) < len(result.cells) else ""
        found.append(f"Unequal budgets: {prefix}{difference}.")
    if result.conditions:
        found.append(f"Runs under different conditions: {'; '.join(result.conditions)}.")
    return found


def confidence(tests: int) -> str:
    """The level of one of several intervals."""
    return f"{100 * (1 - SIGNIFICANCE / tests):.4g} %"


def under_load(result: StudyResult) -> str:
    """What times are worth when several runs shared the machine; nothing for one at a time."""
    if (result.most_jobs or 1) == 1:
        return ""
    return (
        f"Up to {result.most_jobs} runs were trained at a time: times are under load, and say little about a run alone."
    )


def budget_differences(cell: CellResult) -> list[str]:
    """What arms were given more or less of than the first, in words; empty if the comparison is even."""
    found = []
    for arm in cell.arms:
        parts = [f"{name} {_times(ours, theirs)}" for name, ours, theirs in budget_pairs(arm) if ours != theirs]
        if parts:
            found.append(f"{arm.name} against {cell.arms[0].name}: {', '.join(parts)}")
    return found


def budget_pairs(arm: ArmResult) -> list[tuple[str, float, float]]:
    """Each part of the budget by name, of an arm and of the first."""
    ours, theirs = arm.budget, arm.first_budget
    return [
        ("steps", ours.steps, theirs.steps),
        ("samples seen", ours.samples, theirs.samples),
        ("training samples", ours.training_samples, theirs.training_samples),
        ("parameters", ours.parameters, theirs.parameters),
        ("pre-training: steps", ours.pretraining_steps, theirs.pretraining_steps),
        ("pre-training: samples seen", ours.pretraining_samples, theirs.pretraining_samples),
        ("pre-training: training samples", ours.pretraining_training_samples, theirs.pretraining_training_samples),
    ]


def _times(ours: float, theirs: float) -> str:
    ratio = f" ({ours / theirs:.3g} times)" if theirs and ours else ""
    return f"{format_number(ours)} instead of {format_number(theirs)}{ratio}"


def _failures(comparison: Comparison) -> str:
    counts = [(comparison.name, comparison.failed), (comparison.first, comparison.first_failed)]
    planned = comparison.seeds + comparison.failed + comparison.first_failed
    return " and ".join(
        f"{name} failed on {count} of {planned} {_drawn(comparison)}" for name, count in counts if count
    )


def _drawn(comparison: Comparison) -> str:
    """What the values of a comparison are of, in the plural."""
    return "folds" if comparison.folds else "seeds"


def _intervals(comparison: Comparison, written: NumberFormat, tests: int) -> str:
    level = "simultaneous 95 % interval" if tests > 1 else "95 % interval"
    over_seeds = format_interval(comparison.interval, written)
    if comparison.folds:
        return f"{level} {over_seeds} by the corrected t test over the folds"
    if comparison.verdict not in ("ahead", "behind"):
        return f"{level} {over_seeds}"
    over_images = format_interval(comparison.item_interval, written) if comparison.item_interval else "unknown"
    return f"{level} over the seeds {over_seeds}, over the {comparison.noun} {over_images}"


def _further(comparison: Comparison) -> str:
    """How sure that is, and what could tell."""
    seeds, needed = comparison.seeds, comparison.seeds_needed
    drawn = _drawn(comparison)
    on_seeds = f"a single {drawn.removesuffix('s')}" if seeds == 1 else f"each of {seeds} {drawn}"
    if comparison.verdict == "not tested":
        if seeds == 1:
            return f" on {on_seeds}: one run does not show how far another would lie from it"
        return f" on {on_seeds}, which leaves no spread to test it against; ask for more --seeds or test on more"
    if comparison.verdict == "failed":
        return f" on the other {seeds}"
    if comparison.verdict in ("better", "worse") and comparison.folds:
        return ""
    if comparison.verdict in ("better", "worse") and comparison.own_samples:
        return f"; each seed has test {comparison.noun} of its own, so the interval over seeds covers them too"
    if comparison.verdict != "no measurable difference":
        return ""
    luck = f", which could be luck with {seeds} {drawn}"
    if comparison.folds:
        return f"{luck}; more samples could tell, or more --seeds up to a point"
    if seeds < FEWEST_SEEDS_TO_PLAN_BY:
        return f"{luck}, too few to say how many could tell"
    if needed is None:
        return luck
    if needed.about is None:
        return f"{luck}; a difference this small would take more than {MOST_SEEDS:,}"
    high = f"{needed.high:,}" if needed.high is not None else f"more than {MOST_SEEDS:,}"
    return f"{luck}; a fresh study of about {needed.about:,} ({needed.low:,} to {high}) seeds could tell"
