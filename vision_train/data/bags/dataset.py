"""From a list of bags to padded batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vision_train.data.bags.bag import Bag, read_bag
from vision_train.data.bags.join import bad_bags
from vision_train.data.bags.samples import BagSample
from vision_train.data.dataset import Batch, ClassLabels, SampleDataset
from vision_train.data.kind import OnBad
from vision_train.data.sampler import Position
from vision_train.errors import UserError


class BagDataset(SampleDataset):
    """Reads one bag at a time.

    Args:
        samples: In their fixed order.
        classes: Names of the classes; a label is a place in this list.
        on_bad: What a bag that cannot be read does.
        coords: Whether to read the coordinates too. In files that hold a chunk for each instance that takes as long as
            reading the features.
    """

    noun = "bags"

    def __init__(self, samples: list[BagSample], classes: list[str], on_bad: OnBad, *, coords: bool = True) -> None:
        super().__init__(samples, on_bad)
        self.coords = coords
        self.collate_truth = ClassLabels(classes)  # type: ignore[method-assign]  # the labels of a batch

    def read(self, sample: BagSample, position: Position) -> dict[str, Any]:
        """Features, coordinates and patch size of one bag."""
        bag = sample.bag if isinstance(sample.bag, Bag) else read_bag(sample.bag, coords=self.coords)
        return {"features": bag.features, "coords": bag.coords, "patch_size_level0": bag.patch_size_level0}

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Pad bags of unequal size to the largest.

        Returns:
            ``features`` (B N D, zero on padding; float32, or of a single bag the type of its file), ``padding_mask``
            (B N, True on padding), ``coords`` (a list of n x 2, int64, or of None) and ``patch_size_level0`` (a list of
            int or None).
        """
        features, padding_mask = pad_bags([item["features"] for item in items])
        places = {key: [item[key] for item in items] for key in ("coords", "patch_size_level0")}
        return {"features": features, "padding_mask": padding_mask, **places}

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about all of them."""
        return bad_bags(bad, shared=shared)


def pad_bags(bags: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Bags (n D, any floating dtype) -> features (B N D, zero on padding) and mask (B N, True on padding).

    Several become float32. A single one stays as it is: copied to float32, it would take two or three times the memory,
    and networks cast a bag part by part.
    """
    sizes = [len(bag) for bag in bags]
    if len(bags) == 1:
        features = bags[0][None]
    else:
        features = torch.zeros(len(bags), max(sizes), bags[0].shape[1])
        for row, bag, size in zip(features, bags, sizes, strict=True):
            row[:size] = bag
    return features, torch.arange(max(sizes)) >= torch.tensor(sizes)[:, None]
