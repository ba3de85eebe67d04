"""Pure functions of numbers: intervals, tests, power, and metrics of resampled test samples."""

from vision_train.statistics.bootstrap import (
    Resampled,
    bootstrap_interval,
    group_indices,
    resample_mean,
    resample_statistic,
)
from vision_train.statistics.intervals import (
    SIGNIFICANCE,
    Interval,
    PairedTest,
    bounded_interval,
    exact_bounds,
    mean_interval,
    overlap_of,
    paired_test,
    share_interval,
    wilson_interval,
)
from vision_train.statistics.judging import Verdict, judge
from vision_train.statistics.label_sets import label_set_auroc, label_set_average_precision, label_set_f1
from vision_train.statistics.metrics import Columns, Statistic, registered_statistic, statistic
from vision_train.statistics.power import (
    FEWEST_SEEDS_TO_PLAN_BY,
    MOST_SEEDS,
    POWER,
    SeedsNeeded,
    detectable_difference,
    fresh_study,
    power,
    rounded,
    seeds_needed,
)

__all__ = [
    "FEWEST_SEEDS_TO_PLAN_BY",
    "MOST_SEEDS",
    "POWER",
    "SIGNIFICANCE",
    "Columns",
    "Interval",
    "PairedTest",
    "Resampled",
    "SeedsNeeded",
    "Statistic",
    "Verdict",
    "bootstrap_interval",
    "bounded_interval",
    "detectable_difference",
    "exact_bounds",
    "fresh_study",
    "group_indices",
    "judge",
    "label_set_auroc",
    "label_set_average_precision",
    "label_set_f1",
    "mean_interval",
    "overlap_of",
    "paired_test",
    "power",
    "registered_statistic",
    "resample_mean",
    "resample_statistic",
    "rounded",
    "seeds_needed",
    "share_interval",
    "statistic",
    "wilson_interval",
]
