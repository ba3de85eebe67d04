"""The images of a pass with most errors, as pictures of what is there beside what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from vision_train.artefacts import BoxPicture, BoxPictures, MarkedBox
from vision_train.previews import Pixels
from vision_train.tasks.base import Batch
from vision_train.tasks.detection.errors import ERRORS, Judged, Verdict, judge
from vision_train.tasks.detection.results import ImageResult, Numbers
from vision_train.tasks.gallery import Gallery

KEPT = 8
LONGEST_SIDE = 640
"""Pictures are shrunk to this, in pixels, before they are kept."""
RIGHT = "right"
"""What a hit, and an object that is found, is called."""
IGNORED = "ignored"
_SHOWN = (Verdict.CLASS, Verdict.PLACE, Verdict.BOTH, Verdict.DOUBLE, Verdict.MISSED, Verdict.BACKGROUND)
"""In this order, missed objects are red."""
KINDS = {
    RIGHT: "a detection that finds an object, or an object that is found",
    **dict(ERRORS[verdict] for verdict in _SHOWN),
    IGNORED: "a region that counts neither for nor against a detection, and what was found there",
}


class _Worst(NamedTuple):
    pixels: Pixels
    scale: tuple[float, float]
    """Pixels of the picture in one of the original, across and down."""
    result: ImageResult
    judged: Judged


class WorstImages:
    """Keeps the images with most errors.

    Args:
        classes: K class names.
        thresholds: Score of each class from which on detections are counted and shown.
    """

    def __init__(self, classes: Sequence[str], thresholds: Numbers) -> None:
        self.classes, self.thresholds = classes, thresholds
        self._gallery: Gallery[_Worst] = Gallery(KEPT)

    def add(self, batch: Batch, results: Sequence[ImageResult], pixels_of: Callable[[int], Pixels]) -> None:
        """Consider the images of a batch.

        Args:
            batch: With ``id`` and ``affine``.
            results: Of each of its images.
            pixels_of: Gives the pixels of an image by its place in the batch, without padding.
        """
        for place, (name, result) in enumerate(zip(batch["id"], results, strict=True)):
            judged = judge(result, self.thresholds)
            errors = sum(judged.count(error) for error in ERRORS)
            if errors and self._gallery.wants(name, -errors):
                affine = batch["affine"][place]
                self._gallery.add(name, -errors, _shrunk(pixels_of(place), affine, result, judged))

    def pictures(self, split: str, remark: str) -> BoxPictures:
        """The worst images of all processes, worst first. A collective call.

        Args:
            split: What was tested.
            remark: Which detections are shown.
        """
        worst = [self._picture(name, entry) for name, entry in self._gallery.gather().items()]
        note = (
            f"{remark} An object has the colour of the detection that finds it, or of the likeliest one that would "
            "have found it with another class or place."
        )
        return BoxPictures(f"{split}_mistakes", f"Images of {split} with most errors", worst, KINDS, note)

    def _picture(self, name: str, entry: _Worst) -> BoxPicture:
        result, judged, scale = entry.result, entry.judged, np.tile(entry.scale, 2)
        fates = _fates(judged)
        ignored = [MarkedBox(_corners(box * scale), "", IGNORED) for box in result.ignored]
        truth = [
            MarkedBox(_corners(box * scale), self.classes[label], _kind(fates.get(at, Verdict.MISSED)))
            for at, (label, box) in enumerate(zip(result.true_labels, result.true_boxes, strict=True))
        ]
        found = [
            MarkedBox(
                _corners(result.boxes[place] * scale),
                f"{self.classes[result.labels[place]]} {result.scores[place]:.2f}",
                IGNORED if is_ignored else _kind(verdict),
            )
            for place, verdict, is_ignored in zip(judged.places, judged.verdicts, judged.ignored, strict=True)
        ]
        found.sort(key=lambda box: box.kind == RIGHT)  # what is wrong is drawn on top
        return BoxPicture(name, caption(result, judged), entry.pixels, {"truth": truth + ignored, "found": found})


def caption(result: ImageResult, judged: Judged) -> str:
    """How many objects of an image are found, and its errors, the most frequent first."""
    hits = int((judged.verdicts == Verdict.HIT).sum())
    counts = Counter({ERRORS[error][0]: judged.count(error) for error in ERRORS})
    errors = ", ".join(f"{count} {name}" for name, count in counts.most_common() if count)
    return f"{hits} of {len(result.true_labels)} objects found; {errors}"


def _fates(judged: Judged) -> dict[int, int]:
    """What each object is that a detection hits, or would have hit with another class or place."""
    decided = (judged.verdicts == Verdict.HIT) | judged.mends
    return dict(zip(judged.objects[decided].tolist(), judged.verdicts[decided].tolist(), strict=True))


def _kind(verdict: int) -> str:
    return RIGHT if verdict == Verdict.HIT else ERRORS[Verdict(verdict)][0]


def _shrunk(pixels: Pixels, affine: Tensor, result: ImageResult, judged: Judged) -> _Worst:
    """An image as the network saw it, of at most ``LONGEST_SIDE``; only what is drawn of its detections is kept."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    matrix = affine.cpu().numpy()
    across, down = picture.width / pixels.shape[1], picture.height / pixels.shape[0]
    return _Worst(np.asarray(picture), (across * matrix[0, 0], down * matrix[1, 1]), result, judged)


def _corners(box: Numbers) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(float(value), 1) for value in box)
    return left, top, right, bottom
