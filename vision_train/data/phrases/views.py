"""Expressions without boxes under several views: what a teacher answers, what a student learns, what scores compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from augment.geometry import View
from vision_train.data.annotated_images import annotated_pixels, refused_image
from vision_train.data.dataset import Batch, SampleDataset
from vision_train.data.kind import OnBad
from vision_train.data.phrases.annotations import PhraseSample
from vision_train.data.phrases.dataset import Preparation, Transform, collated, prepared
from vision_train.data.sampler import Position
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.seeds import derive_seed

TWO = ("weak", "strong")
"""The view that a teacher answers, and the one that a student learns."""


class PhraseViews(SampleDataset):
    """Reads one expression with its image at a time, and shows both under each of several transforms.

    Args:
        samples: In their fixed order, without a truth.
        transforms: One for each view.
        preparation: Of all views but for their transforms.
        on_bad: What an image that cannot be read does.
        names: Of the views, under which a batch holds them; None for a list of them under ``views``.
    """

    noun = "expressions"

    def __init__(
        self,
        samples: Sequence[PhraseSample],
        transforms: Sequence[Transform],
        preparation: Preparation,
        on_bad: OnBad,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(samples, on_bad)
        self.transforms, self.preparation, self.names = list(transforms), preparation, names

    def named(self, sample: PhraseSample) -> str:
        """The path of its image, on one line."""
        return printable(sample.place or sample.id)

    def read(self, sample: PhraseSample, position: Position) -> dict[str, Any]:
        """Decode an image and make all views of it; in a mirrored one left and right of the expression change too."""
        index, turn = position
        whole = View.whole(annotated_pixels(sample.image, None), None, sample.text)
        seeds = [derive_seed(self.preparation.seed, "view", at, turn, index) for at in range(len(self.transforms))]
        made = zip(self.transforms, seeds, strict=True)
        return {"views": [prepared(transform, whole, seed) for transform, seed in made]}

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Each view of all expressions, as :func:`vision_train.data.phrases.dataset.collated` has it."""
        by_view = zip(*(item["views"] for item in items), strict=True)
        views = [collated(view, self.preparation) for view in by_view]
        return {"views": views} if self.names is None else dict(zip(self.names, views, strict=True))

    def collate_truth(self, truths: list[Any]) -> Batch:
        """Nothing: there is none."""
        return {}

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about the first image that cannot be used."""
        return refused_image(bad, shared=shared)
