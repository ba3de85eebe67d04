"""What a grounding network says of expressions without boxes under several views, and the boxes that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.detr.boxes import generalized_iou, to_corners
from models.grounding.output import GroundingOutput
from models.grounding.quantised import likeliest_box
from vision_train.semi.alike import alike_share, have_collapsed
from vision_train.semi.answers import Answer
from vision_train.semi.box_labels import BoxLabel, LabelledBox, vote_boxes
from vision_train.semi.boxes import Candidates
from vision_train.semi.combine import SMALLEST_BOX
from vision_train.semi.score import box_faithfulness, box_robustness, covered_share
from vision_train.tasks.base import Batch
from vision_train.tasks.grounding.boxes import original_corners
from vision_train.wording import percent

ALIKE = "alike"
"""What a checkpoint calls the share of the true validation boxes that are like their middle one."""
STRATUM = "box"
"""All expressions are selected together."""
EARLIER = "train longer before the pool is labelled (semi.burn_in)"
MOST_VOTES = 0.5
"""More than this share of the voters have to find a box."""


class Said(NamedTuple):
    """What a network says of an expression as in validation."""

    text: str
    box: NDArray[np.float64]
    """4, in pixels of the original image."""
    size: tuple[int, int]
    """Height and width of that image."""
    confidence: float
    """1 without a quantised head."""
    finite: bool
    """Whether the boxes of all views are."""

    @property
    def shares(self) -> NDArray[np.float64]:
        """The box as shares of the image's width and height."""
        return self.box / np.array([self.size[1], self.size[0]] * 2, dtype=np.float64)

    @property
    def area(self) -> float:
        """Share of the image that the box covers."""
        left, top, right, bottom = self.shares.tolist()
        return (right - left) * (bottom - top)


def answers_of(
    ids: Sequence[str], views: Sequence[Batch], outputs: Sequence[GroundingOutput], confidences: Tensor
) -> list[Answer]:
    """Bring what a network says of a batch of expressions together, with all scores that can be had of it.

    Beside the scores that select there is ``agreement``, the IoU between the box of either head, which selects nothing.

    Args:
        ids: B.
        views: V + 1 views of the expressions, that of validation first.
        outputs: What the network says of each, with attention in the first.
        confidences: B, of the first.
    """
    by_view = zip(outputs, views, strict=True)
    boxes = np.stack([original_corners(o.boxes, v["image"].shape[-1], v["affine"], v["size"]) for o, v in by_view])
    first, output = views[0], outputs[0]
    scores = {"faithfulness": _faithfulness(output, first["image"].shape[-1])}
    if output.bin_logits is not None:
        corners = (to_corners(each.double().cpu()) for each in (output.boxes, likeliest_box(output.bin_logits)))
        scores |= {"confidence": confidences.double().cpu(), "agreement": generalized_iou(*corners)[0]}
    if len(boxes) > 1:
        scores["robustness"] = box_robustness(torch.from_numpy(boxes[0]), torch.from_numpy(boxes[1:]))
    finite = torch.from_numpy(boxes).isfinite().all(dim=2).all(dim=0).tolist()
    rows = zip(ids, first["text"], boxes[0], first["size"], confidences.tolist(), finite, strict=True)
    return [
        Answer(
            name,
            Said(text, box, tuple(size), sure, of_all),
            {score: float(values[place]) if of_all else math.nan for score, values in scores.items()},
        )
        for place, (name, text, box, size, sure, of_all) in enumerate(rows)
    ]


def _faithfulness(output: GroundingOutput, side: int) -> Tensor:
    assert output.attention is not None, "it is asked for with the first view"
    corners = to_corners(output.boxes.double()).cpu() * side
    covered = torch.stack([covered_share(box[None], output.grid, (side, side)) for box in corners])
    return box_faithfulness(output.attention.cpu(), covered, output.padding.cpu())


def labels_of(answers: Sequence[Sequence[Answer]]) -> list[BoxLabel]:
    """Let voters vote on the box of each expression; of a single one, it is what that finds.

    A box counts that more than half of the voters find, by an IoU of 0.5 or more; it is the mean of theirs. An
    expression has no label of which voters find different boxes, of which one says something that is not finite, or
    whose box covers next to nothing of the image.

    Args:
        answers: V voters on the same N expressions in the same order.
    """
    labels = []
    for of_phrase in zip(*answers, strict=True):
        name, said = of_phrase[0].id, [each.said for each in of_phrase]
        scores = dict(of_phrase[0].scores) if len(said) == 1 else {}
        box = _voted(said) if all(each.finite for each in said) else None
        kept = box is not None
        boxes = () if box is None else (box,)
        labels.append(BoxLabel(name, "", kept, stratum=STRATUM if kept else "", scores=scores, boxes=boxes))
    return labels


def _voted(said: Sequence[Said]) -> LabelledBox | None:
    """The box that most voters find; None where there is none."""
    found = [
        Candidates(np.array([each.confidence]), np.zeros(1, dtype=np.int64), each.box[None])
        for each in said
        if each.area >= SMALLEST_BOX
    ]
    if not found:
        return None
    voted = vote_boxes([(each, np.ones(1, dtype=bool)) for each in found])
    shares = voted.shares * len(found) / len(said)
    best = int(shares.argmax())
    if shares[best] <= MOST_VOTES:
        return None
    corners, score = tuple(voted.found.boxes[best].tolist()), float(voted.found.scores[best])
    return LabelledBox(said[0].text, corners, score, share=float(shares[best]))


def judged(
    labels: Sequence[BoxLabel], answers: Sequence[Sequence[Answer]], true_alike: float
) -> tuple[list[BoxLabel], list[str]]:
    """Judge the boxes of a pool; nothing of that reads a box that people have drawn in it.

    Args:
        labels: Of the whole pool.
        answers: They follow from these.
        true_alike: Share of the true validation boxes that are like their middle one; NaN where it is not known.

    Returns:
        The labels, none of which is kept where the boxes have collapsed to one; and what is wrong, in sentences.
    """
    warnings = []
    if silent := sum(not all(each.said.finite for each in of) for of in zip(*answers, strict=True)):
        warnings.append(
            f"the networks that label the pool returned values that are not finite for {silent:,} of its "
            f"{len(labels):,} expressions, which get no label; lower optim.lr, or train with trainer.precision=32-true"
        )
    shares = np.array([each.said.shares for each in answers[0] if each.said.finite], dtype=np.float64).reshape(-1, 4)
    found = alike_share(shares)
    if not have_collapsed(found, true_alike):
        return list(labels), warnings
    warnings.append(
        f"pseudo-boxes have collapsed: {percent(found)} of them are nearly one and the same box, and "
        f"{percent(true_alike)} of the true validation boxes are; {EARLIER}. None of them is learnt from; the run "
        "goes on with labelled expressions alone"
    )
    return [BoxLabel(each.id, "", kept=False, scores=each.scores, boxes=each.boxes) for each in labels], warnings
