"""From a teacher's answer on weak views to targets of the same images' strong views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment.detection import relative_boxes
from models.detr.boxes import to_corners
from models.detr.criterion import Criterion
from models.detr.denoising import Target
from models.detr.network import Found, RelationDetr
from vision_train.semi.boxes import BoxWeight, Candidates, Numbers, PseudoBoxes, StrongView, carried, pseudo_boxes
from vision_train.tasks.base import Batch


@torch.no_grad()
def find_candidates(teacher: Callable[[Tensor, Tensor], Found], view: Batch) -> list[Candidates]:
    """What a teacher finds in each image: every query's box, with its likeliest class. Waits for the device.

    Args:
        teacher: Answers as a detector in evaluation mode, given images and their padding.
        view: The weak views of a batch of the pool.
    """
    found = teacher(view["image"], view["padding_mask"]).queries
    scores, labels = found.logits[-1].float().sigmoid().max(dim=-1)
    # One copy for all; float32 holds the number of a class exactly.
    columns = torch.cat((scores[..., None], labels[..., None].float(), to_corners(found.boxes[-1].float())), dim=-1)
    rows = columns.cpu().double().numpy()
    sides = np.array([(width, height, width, height) for height, width in view["shown"]], dtype=np.float64)
    return [
        Candidates(each[:, 0], each[:, 1].astype(np.int64), each[:, 2:] * side)
        for each, side in zip(rows, sides, strict=True)
    ]


def teach(pool: Batch, candidates: Sequence[Candidates], cuts: Numbers, box_weight: BoxWeight) -> list[PseudoBoxes]:
    """What the student is taught of each strong view.

    Args:
        pool: A batch of the pool.
        candidates: On its weak views.
        cuts: C, the score from which on a box of each class is taken for an object.
        box_weight: What the losses of the box weigh.
    """
    weak = pool["weak"]["affine"].cpu().numpy()
    return [
        pseudo_boxes(found, cuts, before, view, box_weight)
        for found, before, view in zip(candidates, weak, _strong_views(pool), strict=True)
    ]


def teach_labelled(batch: Batch, box_weight: BoxWeight) -> list[PseudoBoxes]:
    """What the student is taught of images that were labelled between phases.

    Args:
        batch: Of the stream of such images.
        box_weight: What the losses of the box weigh.
    """
    parts = (batch[name] for name in ("scores", "class_ids", "boxes", "weights"))
    return [
        carried(Candidates(scores, labels, boxes), weights, view.affine, view, box_weight)
        for scores, labels, boxes, weights, view in zip(*parts, _strong_views(batch), strict=True)
    ]


def pseudo_box_loss(network: RelationDetr, criterion: Criterion, taught: Sequence[PseudoBoxes], batch: Batch) -> Tensor:
    """All losses of the strong views of a batch, a scalar; without denoising queries, as RTDETR-SSOD has it.

    Args:
        network: Learns.
        criterion: Of labelled images.
        taught: Of each view.
        batch: Of the pool.
    """
    strong = batch["strong"]
    trained = network.learn(strong["image"], strong["padding_mask"], None)
    return torch.stack([*criterion(trained, targets_of(taught, batch)).values()]).sum()


def _strong_views(batch: Batch) -> list[StrongView]:
    strong = batch["strong"]
    affines = strong["affine"].cpu().numpy()
    return [*map(StrongView, affines, map(tuple, strong["shown"]), strong["erased"])]


def targets_of(taught: Sequence[PseudoBoxes], pool: Batch) -> list[Target]:
    """Pseudo-boxes as targets of the strong views of a batch of the pool, on its device."""
    device, sizes = pool["strong"]["image"].device, [(height, width) for height, width in pool["strong"]["shown"]]

    def on_device(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(device, non_blocking=True)

    def shares(corners: Numbers, size: tuple[int, int]) -> Tensor:
        return on_device(relative_boxes(corners, size)).float()

    return [
        Target(
            shares(each.boxes, size),
            on_device(each.labels),
            None,
            shares(each.unsure, size),
            on_device(each.box_weights).float(),
            each.weight,
        )
        for each, size in zip(taught, sizes, strict=True)
    ]
