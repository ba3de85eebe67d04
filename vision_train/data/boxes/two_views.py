"""Images without annotations, each in a weak view, which a teacher judges, and a strong one, which a student learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from augment.detection import erase
from augment.geometry import Boxes, View
from vision_train.data.annotated_images import refused_image
from vision_train.data.boxes.dataset import Transform, original_pixels, pad_images
from vision_train.data.dataset import Batch, SampleDataset
from vision_train.data.kind import OnBad
from vision_train.data.sample import ImageSample
from vision_train.data.sampler import Position
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.seeds import derive_seed


@dataclass(frozen=True)
class Views:
    """What is made of an unlabelled image.

    Attributes:
        weak: For the teacher.
        strong: For the student, drawn anew.
        erasing: Probability with which each of three rectangles of the strong view is erased.
    """

    weak: Transform
    strong: Transform
    erasing: float


class TwoViewDataset(SampleDataset):
    """Reads one image at a time and makes two views of it. What annotations there are of it is not read.

    Args:
        samples: In their fixed order, without a truth.
        views: What is made of each.
        seed: Of the run.
        on_bad: What an image that cannot be read does.
    """

    noun = "images"

    def __init__(self, samples: Sequence[ImageSample], views: Views, seed: int, on_bad: OnBad) -> None:
        super().__init__(samples, on_bad)
        self.views, self.seed = views, seed

    def named(self, sample: ImageSample) -> str:
        """The path of its file, on one line."""
        return printable(sample.place or sample.id)

    def read(self, sample: ImageSample, position: Position) -> dict[str, Any]:
        """Decode one image and make both views of it."""
        index, turn = position
        whole = View.whole(original_pixels(sample))
        weak, strong = (
            transform(whole, derive_seed(self.seed, f"{name} view", turn, index))
            for name, transform in (("weak", self.views.weak), ("strong", self.views.strong))
        )
        random = np.random.default_rng(derive_seed(self.seed, "erasing", turn, index))
        return {"weak": (weak, _NOTHING), "strong": (strong, erase(strong.image, random, self.views.erasing))}

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Pad the views of each kind to one size.

        Returns:
            ``weak`` and ``strong``, each with ``image`` (U 3 H W float32, 0 on padding), ``padding_mask`` (U H W, True
            on padding), ``affine`` (U 3 3 float64, pixels of the original to those of the view), ``shown`` (a list of
            height and width without padding) and ``erased`` (a list of arrays k x 4: rectangles that are filled with
            noise, in pixels of the view). Numbers that the host computes with stay off the device.
        """
        return {name: collated([item[name] for item in items]) for name in ("weak", "strong")}

    def collate_truth(self, truths: list[Any]) -> Batch:
        """Nothing: there is none."""
        return {}

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about the first image that cannot be used."""
        return refused_image(bad, shared=shared)


class PoolViews(SampleDataset):
    """Reads one image at a time and shows it under each of several transforms, to be asked what is in it.

    Args:
        samples: In their fixed order, without a truth.
        transforms: One for each view.
        seed: Of the run.
        on_bad: What an image that cannot be read does.
    """

    noun = "images"

    def __init__(
        self, samples: Sequence[ImageSample], transforms: Sequence[Transform], seed: int, on_bad: OnBad
    ) -> None:
        super().__init__(samples, on_bad)
        self.transforms, self.seed = list(transforms), seed

    def named(self, sample: ImageSample) -> str:
        """The path of its file, on one line."""
        return printable(sample.place or sample.id)

    def read(self, sample: ImageSample, position: Position) -> dict[str, Any]:
        """Decode an image and transform it in all ways."""
        whole = View.whole(original_pixels(sample))
        seeds = [derive_seed(self.seed, "view of the pool", position[0], at) for at in range(len(self.transforms))]
        made = zip(self.transforms, seeds, strict=True)
        return {
            "views": [(transform(whole, seed), _NOTHING) for transform, seed in made],
            "size": whole.image.shape[:2],
        }

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Pad each view to one size.

        Returns:
            ``views``, a list with, for each, what :meth:`TwoViewDataset.collate` has of a view, and ``size``, a list of
            original height and width.
        """
        sizes = [item["size"] for item in items]
        by_view = zip(*(item["views"] for item in items), strict=True)
        return {"views": [collated(views) | {"size": sizes} for views in by_view]}

    def collate_truth(self, truths: list[Any]) -> Batch:
        """Nothing: there is none."""
        return {}

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about the first image that cannot be used."""
        return refused_image(bad, shared=shared)


_NOTHING: Boxes = np.zeros((0, 4))


def collated(views: Sequence[tuple[View[torch.Tensor], Boxes]]) -> Batch:
    """One view of each image of a batch, with the rectangles that are erased in it, padded to one size."""
    image, padding_mask = pad_images([view.image for view, _ in views])
    affines = [view.affine for view, _ in views if view.affine is not None]
    assert len(affines) == len(views), "every step of detection is tracked"
    return {
        "image": image,
        "padding_mask": padding_mask,
        "affine": torch.from_numpy(np.stack(affines)),
        "shown": [(view.image.shape[1], view.image.shape[2]) for view, _ in views],
        "erased": [erased for _, erased in views],
    }
