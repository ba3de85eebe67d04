"""Self-training's labels: what several voters say of each image, and how many of a class are taken."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Votes(NamedTuple):
    """What voters say of N images; nothing of it depends on their order."""

    shares: Tensor
    """N C float32, the share of voters for each class: the target that a student learns."""
    labels: Tensor
    """N int64, the class with most votes; of equal ones that with the highest mean probability, then the first."""
    probabilities: Tensor
    """N C float64, mean over the voters."""

    @property
    def agreement(self) -> Tensor:
        """N, the share of voters for the label."""
        return self.shares.gather(1, self.labels[:, None])[:, 0]


def vote(probabilities: Tensor) -> Votes:
    """Let each voter name its most probable class; of equally probable ones the first.

    Args:
        probabilities: V N C, of V voters, each of them the mean over its weak views.

    Raises:
        ValueError: There is no voter, or values are not finite.
    """
    if not len(probabilities) or not probabilities.isfinite().all():
        raise ValueError("a vote takes at least one voter, and probabilities that are finite")
    classes = probabilities.shape[-1]
    shares = F.one_hot(probabilities.argmax(dim=-1), classes).float().mean(dim=0)
    # Sums depend on their order in the last digits. Sorted, they do not, and ties break alike for any order of voters.
    mean = probabilities.double().sort(dim=0).values.mean(dim=0)
    tied = shares == shares.amax(dim=-1, keepdim=True)
    labels = torch.where(tied, mean, -1.0).argmax(dim=-1)
    return Votes(shares, labels, mean)


def most_agreed(votes: Votes, most: int) -> Tensor:
    """At most so many images of each class: those with the largest share of votes.

    Of equal shares the higher mean probability of the label counts, then the place in the list. A class with fewer
    images keeps what it has.

    Args:
        votes: Of N images.
        most: Images of a class, at least 1.

    Returns:
        N bool, in the order of the images.
    """
    confidence = votes.probabilities.gather(1, votes.labels[:, None])[:, 0]
    # Stable sorts, the least important key first.
    order = confidence.argsort(descending=True, stable=True)
    order = order[votes.agreement[order].argsort(descending=True, stable=True)]
    order = order[votes.labels[order].argsort(stable=True)]
    labels = votes.labels[order]
    counts = torch.bincount(labels, minlength=votes.shares.shape[1])
    rank = torch.arange(len(labels), device=labels.device) - (counts.cumsum(0) - counts)[labels]
    kept = torch.zeros_like(labels, dtype=torch.bool)
    kept[order] = rank < most
    return kept
