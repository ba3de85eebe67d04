"""A grounding network that guesses: it does no better than one and the same box for every expression."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from vision_train.semi.alike import alike_share
from vision_train.statistics import exact_bounds
from vision_train.tasks.chance import LEARN_MORE, too_few
from vision_train.tasks.grounding.results import ACCURACY, LEAST_IOU, Results, measure, true_shares
from vision_train.wording import count_of, percent

MOST = 1000
"""True boxes that are tried; of more, every second or third and so on."""


def chance_warnings(results: Results, split: str) -> list[str]:
    """Say whether the result could be that of a network that sees neither image nor expression.

    Such a network answers with one box. That which finds most of these expressions is looked for among the middle one
    of the true boxes (the median of each side, in shares of the image), towards which an L1 loss draws, and each of
    the true ones, without itself: objects may lie at one of several places. An accuracy up to the upper bound of its
    own (Clopper and Pearson, one-sided 95 %) could be that of guessing. Images are counted and not expressions,
    several of which may mean one object. Our choice.

    Args:
        results: Of the expressions that the run is judged by.
        split: Name of their split.
    """
    images = len({each.group for each in results.values()})
    if not images:
        return []
    reached, constant = measure(results)[ACCURACY.name], _found_by_one_box(true_shares(results))
    lucky = exact_bounds(round(constant * images), images).high
    if reached > lucky:
        return []
    told = f"{count_of(len(results), 'expressions')} of {count_of(images, 'images')}"
    because = LEARN_MORE if lucky < 1 else too_few(split, "more images, with objects in other places,")
    return [
        f"{ACCURACY.title} on {split} is {percent(reached, 1)}, which {told} cannot tell from that of one and the same "
        f"box for every expression ({percent(constant, 1)}). {because}"
    ]


def _found_by_one_box(true: NDArray[np.float64]) -> float:
    """Share of true boxes (n 4) that the best of some boxes finds."""
    least, boxes = LEAST_IOU[ACCURACY.name], torch.from_numpy(true)
    candidates = boxes[:: -(-len(boxes) // MOST)]
    found = (box_iou(candidates, boxes) >= least).sum(dim=1) - 1
    return max(alike_share(true), found.max().item() / len(boxes))
