"""The area under the ROC curve, and how much each sample adds to it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from vision_train.statistics import SIGNIFICANCE, Interval, group_indices, share_interval


def macro_auroc(probabilities: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve, one class against the rest, averaged over the classes that occur among the labels.

    Args:
        probabilities: N x C.
        labels: N, int64.

    Returns:
        NaN where only one class occurs or a probability is not finite.
    """
    return auroc_items(probabilities, labels).mean().item()


def auroc_items(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The influence of each sample on the macro AUROC: values whose mean is the metric and whose spread is its error.

    For one class against the rest, let V be the share of negatives that a positive is ranked above, or of positives
    that a negative is ranked below; ties count half. Of all N samples, with n on a sample's own side, its value is
    AUROC + N / n (V - AUROC). The V are the structural components of DeLong, DeLong and Clarke-Pearson (Biometrics 44,
    1988), and the variance of the mean of these values is theirs, with n in place of n - 1. Classes are averaged.

    Args:
        probabilities: N x C.
        labels: N, int64.

    Returns:
        N, float64; all NaN where only one class occurs or a probability is not finite.
    """
    present = labels.unique()
    if len(present) < 2 or not probabilities.isfinite().all():
        return torch.full(labels.shape, math.nan, dtype=torch.float64)
    return torch.stack([class_auroc_items(probabilities[:, each], labels == each) for each in present]).mean(dim=0)


def class_auroc_items(scores: Tensor, positive: Tensor) -> Tensor:
    """The same of one class against the rest.

    Args:
        scores: N, its probability or any other score.
        positive: N, bool, at least one of each.
    """
    components = torch.empty_like(scores, dtype=torch.float64)
    components[positive] = _share_below(scores[positive], scores[~positive])
    components[~positive] = _share_below(-scores[~positive], -scores[positive])
    auroc = components[positive].mean()
    own_side = torch.where(positive, positive.sum(), (~positive).sum())
    return auroc + len(scores) / own_side * (components - auroc)


def _share_below(scores: Tensor, others: Tensor) -> Tensor:
    """The share of the others that lie below each score; those equal to it count half."""
    ordered = others.sort().values
    below, not_above = (torch.searchsorted(ordered, scores, right=right) for right in (False, True))
    return (below + not_above).double() / (2 * len(others))


def auroc_interval(items: Tensor, groups: Sequence[str] | None) -> Interval | None:
    """95 % interval of an AUROC by the variance of DeLong and others; samples of one group count as one.

    Args:
        items: N, as :func:`class_auroc_items` returns them.
        groups: N, what belongs together; None where each sample stands alone.

    Returns:
        None where the samples say nothing of how far off it could be: a single group, or an AUROC of exactly 0 or 1.
    """
    values = items.numpy() - items.mean().item()
    sums = values if groups is None else np.bincount(group_indices(groups), values)
    count = len(sums)
    if count < 2 or not (error := math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(values)):
        return None
    return share_interval(items.mean().item(), float(stats.t.ppf(1 - SIGNIFICANCE / 2, count - 1)) * error)
