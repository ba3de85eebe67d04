"""Boxes that a run has given its pool between phases: truths of images, as batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from augment.detection import erase
from augment.geometry import View
from vision_train.data.annotated_images import refused_image
from vision_train.data.boxes.dataset import original_pixels
from vision_train.data.boxes.two_views import Views, collated
from vision_train.data.dataset import Batch, SampleDataset
from vision_train.data.kind import OnBad
from vision_train.data.sample import ImageSample
from vision_train.data.sampler import Position
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.seeds import derive_seed
from vision_train.semi.box_labels import BoxLabel


class PseudoBoxDataset(SampleDataset):
    """Reads one image at a time, makes a strong view of it, and says what networks have found in it.

    Args:
        samples: In their fixed order, each with a :class:`BoxLabel` as its truth.
        classes: Names of the classes; a class id is a place in this list.
        views: What is made of each; the weak view is not.
        seed: Of the run.
        on_bad: What an image that cannot be read does.
    """

    noun = "images"

    def __init__(
        self, samples: Sequence[ImageSample], classes: Sequence[str], views: Views, seed: int, on_bad: OnBad
    ) -> None:
        super().__init__(samples, on_bad)
        self.views, self.seed = views, seed
        self._index = {name: index for index, name in enumerate(classes)}

    def named(self, sample: ImageSample) -> str:
        """The path of its file, on one line."""
        return printable(sample.place or sample.id)

    def read(self, sample: ImageSample, position: Position) -> dict[str, Any]:
        """Decode one image and make a view of it."""
        index, turn = position
        whole = View.whole(original_pixels(sample))
        view = self.views.strong(whole, derive_seed(self.seed, "strong view", turn, index))
        random = np.random.default_rng(derive_seed(self.seed, "erasing", turn, index))
        return {"strong": (view, erase(view.image, random, self.views.erasing))}

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Pad the views to one size: ``strong``, as :meth:`TwoViewDataset.collate` has it."""
        return {"strong": collated([item["strong"] for item in items])}

    def collate_truth(self, truths: list[BoxLabel]) -> Batch:
        """What was found in each image, in pixels of the original.

        Returns:
            The lists ``scores``, ``class_ids``, ``boxes`` (n x 4, left, top, right, bottom) and ``weights`` (0 where
            there may be an object) of arrays; numbers that the host computes with stay off the device.
        """
        parts = [
            (
                np.array([box.score for box in each.boxes], dtype=np.float64),
                np.array([self._index[box.label] for box in each.boxes], dtype=np.int64),
                np.array([box.corners for box in each.boxes], dtype=np.float64).reshape(-1, 4),
                np.array([box.weight for box in each.boxes], dtype=np.float64),
            )
            for each in truths
        ]
        names = ("scores", "class_ids", "boxes", "weights")
        return {name: list(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about the first image that cannot be used."""
        return refused_image(bad, shared=shared)
