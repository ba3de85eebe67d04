"""From a list of bags to padded batches, and what happens to a bag that cannot be read."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from vision_train.data.bags.bag import Bag, read_bag
from vision_train.data.bags.samples import SKIP_BY_RECIPE, BagSample, OnBadBag, bad_bags
from vision_train.data.bags.stored import BadBagError
from vision_train.data.dataset import Batch
from vision_train.data.sampler import Position

BAD = "bad_bags"
"""Travels with an item and a batch from the workers; the training process takes it out."""


class BagDataset(Dataset[dict[str, Any]]):
    """Reads one bag at a time.

    A bag that cannot be read is no exception here, since that would reach the user as the traceback of a worker. It
    becomes a note in the item, under :data:`BAD`, for :meth:`note_bad_bags` in the training process. Under the policy
    ``skip`` the next readable bag of the data set takes its place.

    Args:
        samples: In their fixed order.
        classes: Names of the classes; a label is a place in this list.
        on_bad_bag: The policy.
        skip_with: What the user does to choose ``skip``, for the message.

    Attributes:
        skipped: Why bags met so far could not be read, by id, filled in the training process.
    """

    def __init__(
        self, samples: list[BagSample], classes: list[str], on_bad_bag: OnBadBag, skip_with: str = SKIP_BY_RECIPE
    ) -> None:
        self.samples = samples
        self.on_bad_bag = on_bad_bag
        self.skip_with = skip_with
        self.skipped: dict[str, str] = {}
        self._class_index = {name: index for index, name in enumerate(classes)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: Position) -> dict[str, Any]:
        bad: dict[str, str] = {}
        attempts = len(self.samples) if self.on_bad_bag == "skip" else 1
        for offset in range(attempts):
            sample = self.samples[(position[0] + offset) % len(self.samples)]
            try:
                bag = sample.bag if isinstance(sample.bag, Bag) else read_bag(sample.bag)
            except BadBagError as error:
                bad[sample.id] = str(error)
                continue
            item: dict[str, Any] = {"id": sample.id, "features": bag.features, "coords": bag.coords, BAD: bad}
            if sample.label is not None:
                item["label"] = self._class_index[sample.label]
            return item
        return {BAD: bad}

    def note_bad_bags(self, bad: dict[str, str]) -> None:
        """Raise or count, by the policy, what the workers could not read.

        Raises:
            UserError: The policy is ``error``.
        """
        if bad and self.on_bad_bag == "error":
            raise bad_bags(bad, self.skip_with)
        self.skipped.update(bad)


def collate_bags(items: list[dict[str, Any]]) -> Batch:
    """Pad bags of unequal size to the largest.

    Returns:
        Batch of `id`, `features` (B N D, float32, zero on padding), `padding_mask` (B N, True on padding), `coords` (a
        list of n x 2, int64, or of None) and, where known, `label` (B). With items that could not be read, only the
        note about them.
    """
    bad = {bag_id: reason for item in items for bag_id, reason in item[BAD].items()}
    if any("features" not in item for item in items):
        return {BAD: bad}
    sizes = [len(item["features"]) for item in items]
    if len(items) == 1:
        features = items[0]["features"].float()[None]  # a bag of 100,000 instances need not be copied
    else:
        features = torch.zeros(len(items), max(sizes), items[0]["features"].shape[1])
        for row, item, size in zip(features, items, sizes, strict=True):
            row[:size] = item["features"]
    batch: Batch = {
        "id": [item["id"] for item in items],
        "features": features,
        "padding_mask": torch.arange(max(sizes)) >= torch.tensor(sizes)[:, None],
        "coords": [item["coords"] for item in items],
        BAD: bad,
    }
    if "label" in items[0]:
        batch["label"] = torch.tensor([item["label"] for item in items], dtype=torch.int64)
    return batch
