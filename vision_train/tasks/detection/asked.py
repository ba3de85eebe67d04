"""What a detector says of unlabelled images under several views, and the boxes that follow from it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.detr.network import RelationDetr
from vision_train.semi.answers import Answer
from vision_train.semi.box_health import FLOODED, MANY, SCARCE
from vision_train.semi.box_labels import BoxLabel, LabelledBox, Voted, vote_boxes
from vision_train.semi.boxes import Candidates, Numbers, is_finite, sure_and_unsure
from vision_train.semi.health import distance_to_prior, normalised_entropy
from vision_train.semi.monitor import COLLAPSED, UNEVEN
from vision_train.semi.score import KeptBoxes, detection_confidence, detection_robustness, in_original_pixels
from vision_train.tasks.base import Batch
from vision_train.tasks.detection.teaching import find_candidates
from vision_train.wording import first_named, percent

NOTHING = "no object"
"""Beside which classes images are selected in which a network finds nothing."""
CUTS, OBJECTS = "cuts", "objects"
"""What a checkpoint calls the score from which on a box is a pseudo-box, and the objects of a validation image."""
NOT_SCORED = "faithfulness"
"""What detectors are not scored by: they attend to some points of an image each, and have no row over all of it."""
EARLIER = "train longer before the pool is labelled (semi.burn_in)"


class Said(NamedTuple):
    """What a network says of an image as in validation, in pixels of the original."""

    found: Candidates
    """What it takes for an object, and what may be one."""
    sure: NDArray[np.bool_]
    """N, whether each is the former."""
    finite: bool
    """Whether all that it says of all views is."""


def answer(
    network: RelationDetr, ids: Sequence[str], views: Sequence[Batch], scores: Collection[str], cuts: Numbers
) -> list[Answer]:
    """Ask a detector about a batch of images.

    Args:
        network: In evaluation mode.
        ids: B.
        views: Of the images; the first is that of validation.
        scores: Names of the scores that are wanted.
        cuts: C, the score from which on a box of each class is taken for an object.
    """
    by_view = [_said(network, view, cuts) for view in (views if "robustness" in scores else views[:1])]
    kept = [[KeptBoxes(*_tensors(each.found.only(each.sure))) for each in of_view] for of_view in by_view]
    finite = [all(each.finite for each in of_image) for of_image in zip(*by_view, strict=True)]
    sure = [torch.from_numpy(each.found.scores[each.sure]) for each in by_view[0]]
    found = {"confidence": detection_confidence(sure).tolist()}
    if len(kept) > 1:
        found["robustness"] = detection_robustness(kept[0], kept[1:]).tolist()
    return [
        Answer(
            name,
            by_view[0][place]._replace(finite=finite[place]),
            {score: values[place] if finite[place] else math.nan for score, values in found.items()},
        )
        for place, name in enumerate(ids)
    ]


def _said(network: RelationDetr, view: Batch, cuts: Numbers) -> list[Said]:
    """What a network finds in one view of each image, brought back to the original."""
    affines, said = view["affine"].cpu().numpy(), []
    for candidates, affine, size in zip(find_candidates(network, view), affines, view["size"], strict=True):
        sure, unsure = sure_and_unsure(candidates, cuts)
        asked = candidates.only(sure | unsure)
        boxes = in_original_pixels(torch.from_numpy(asked.boxes), affine, tuple(size)).numpy()
        shown = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        found = Candidates(asked.scores, asked.labels, boxes).only(shown)
        said.append(Said(found, sure[sure | unsure][shown], is_finite(candidates)))
    return said


def _tensors(found: Candidates) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(found.boxes), torch.from_numpy(found.labels)


def labels_of(answers: Sequence[Sequence[Answer]], classes: Sequence[str]) -> list[BoxLabel]:
    """Let voters vote on boxes; of a single one, the boxes are what it finds.

    An image is selected beside those of its most frequent class, of several the one with the highest score. An image
    in which nobody finds anything is background. One in which there only may be something has no label, nor has one of
    which a voter says something that is not finite.

    Args:
        answers: V voters on the same N images in the same order.
        classes: C names.
    """
    labels = []
    for of_image in zip(*answers, strict=True):
        name, said = of_image[0].id, [each.said for each in of_image]
        scores = dict(of_image[0].scores) if len(said) == 1 else {}
        if not all(each.finite for each in said):
            labels.append(BoxLabel(name, "", kept=False, share=0.0, scores=scores))
            continue
        voted = vote_boxes([(each.found, each.sure) for each in said])
        stratum = _stratum(voted, classes)
        labels.append(
            BoxLabel(name, stratum, bool(stratum), stratum=stratum, scores=scores, boxes=_boxes(voted, classes))
        )
    return labels


def _stratum(voted: Voted, classes: Sequence[str]) -> str:
    if not len(voted.sure):
        return NOTHING
    counts, best = Counter[int](), dict[int, float]()
    for label, score in zip(voted.found.labels[voted.sure].tolist(), voted.found.scores[voted.sure], strict=True):
        counts[label] += 1
        best[label] = max(best.get(label, 0.0), float(score))
    return classes[max(counts, key=lambda label: (counts[label], best[label], -label))] if counts else ""


def _boxes(voted: Voted, classes: Sequence[str]) -> tuple[LabelledBox, ...]:
    columns = zip(voted.found.labels, voted.found.boxes, voted.found.scores, voted.sure, voted.shares, strict=True)
    return tuple(
        LabelledBox(classes[label], tuple(corners.tolist()), float(score), float(sure), float(share))
        for label, corners, score, sure, share in columns
    )


def judged(
    labels: Sequence[BoxLabel], classes: Sequence[str], counts: Sequence[int], objects: float
) -> tuple[list[BoxLabel], list[str]]:
    """Judge the boxes of a pool; nothing of that reads an annotation of it.

    Args:
        labels: Of the whole pool.
        classes: C names.
        counts: Labelled boxes of each class; empty where they are not known.
        objects: Objects of a validation image; NaN where that is not known.

    Returns:
        The labels, none of which is kept where there are far too many boxes or too few, or they have collapsed to few
        classes; and what is wrong, in sentences.
    """
    given = Counter(box.label for each in labels for box in each.boxes if box.weight)
    warnings = _not_said(labels, [name for name in classes if not given[name]])
    stops = False
    ratio = sum(given.values()) / (objects * len(labels)) if objects * len(labels) > 0 else math.nan
    if ratio < SCARCE:
        stops = True
        warnings.append(f"images of the pool get {ratio:.2f} times the boxes that validation images have; {EARLIER}")
    if ratio > MANY:
        stops = ratio > FLOODED
        warnings.append(
            f"images of the pool get {ratio:.1f} times the boxes that validation images have: unless the pool shows "
            f"more objects, many are found twice or are none; {EARLIER}"
        )
    if given and sum(counts):
        shares, prior = ([n / sum(of) for n in of] for of in ([given[name] for name in classes], counts))
        found, expected = normalised_entropy(shares), normalised_entropy(prior)
        if found < UNEVEN * expected:
            stops |= found < COLLAPSED * expected
            warnings.append(
                f"pseudo-boxes gather in few classes: {percent(distance_to_prior(shares, prior))} of them would "
                f"have to change class for the frequencies of the labelled boxes; {EARLIER}"
            )
    if not stops:
        return list(labels), warnings
    warnings.append("none of these pseudo-boxes is learnt from; the run goes on with labelled images alone")
    return [replace(each, kept=False, stratum="") for each in labels], warnings


def _not_said(labels: Sequence[BoxLabel], never: Sequence[str]) -> list[str]:
    warnings = []
    if silent := sum(not (each.kept or each.boxes) for each in labels):
        warnings.append(
            f"the networks that label the pool returned values that are not finite for {silent:,} of its "
            f"{len(labels):,} images, which get no label; lower optim.lr, or train with trainer.precision=32-true"
        )
    if never:
        warnings.append(
            f"no object of the pool is labelled {first_named(never)}, so nothing is learnt of that from it; label more "
            f"images of such classes, or {EARLIER}"
        )
    return warnings
