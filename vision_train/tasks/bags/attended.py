"""Where a network looks in the most telling bags of a pass, and how concentrated its attention is in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.mil.attention_maps import AttendedBag, AttentionMaps
from models.mil.bags import BagOutput
from models.mil.pictures import HOTTEST, pictured_instances
from vision_train.artefacts import Artefact, Curve
from vision_train.tasks.bags.scores import FIELDS
from vision_train.tasks.gallery import Gallery
from vision_train.tasks.scores import ScoreTable
from vision_train.wording import percent

SHOWN_OF_EACH = 2
"""Bags shown with the lowest loss of each class, and with the highest loss of all."""
MOST_SHOWN = 8
CURVE_LENGTH = 100


class _Shown(NamedTuple):
    label: int
    predicted: int
    confidence: float
    bag: AttendedBag


class AttendedBags:
    """Keeps the attention of the bags with the highest loss, and of those with the lowest loss of each class.

    Args:
        classes: C class names.
        encoder: Name of the network that computed the features.
    """

    def __init__(self, classes: Sequence[str], encoder: str | None) -> None:
        self.classes = classes
        self.encoder = encoder
        self._worst: Gallery[_Shown] = Gallery(SHOWN_OF_EACH)
        self._best: list[Gallery[_Shown]] = [Gallery(SHOWN_OF_EACH) for _ in classes]
        self._held = ScoreTable([str(count) for count in range(1, CURVE_LENGTH + 1)])

    def add(self, batch: dict[str, Any], output: BagOutput, rows: Tensor) -> None:
        """Consider a batch, the output of the network for it, and its scores (B x (5 + C))."""
        if (attention := output.branch_attention) is None:
            return
        for index, name in enumerate(batch["id"]):
            of_bag = attention[index][:, ~batch["padding_mask"][index]].float().cpu().numpy()
            held = np.sort(of_bag.mean(axis=0))[::-1][:CURVE_LENGTH].cumsum()
            held = np.pad(held, (0, CURVE_LENGTH - len(held)), mode="edge")
            self._held.add([name], torch.from_numpy(held)[None])
            loss, label = (rows[index, FIELDS.index(field)].item() for field in ("loss", "label"))
            for gallery, rank in ((self._worst, -loss), (self._best[int(label)], loss)):
                if gallery.wants(name, rank):
                    confidence, predicted = rows[index, len(FIELDS) :].max(dim=0)
                    bag = self._attended(batch, index, of_bag)
                    gallery.add(name, rank, _Shown(int(label), int(predicted), confidence.item(), bag))

    def _attended(self, batch: dict[str, Any], index: int, attention: np.ndarray) -> AttendedBag:
        coords = batch["coords"][index]
        return AttendedBag(
            id=batch["id"][index],
            caption="",
            attention=attention,
            coords=None if coords is None else coords.cpu().numpy(),
            patch_size_level0=batch["patch_size_level0"][index],
            pictures=hottest_pictures(batch["features"][index], attention, self.encoder),  # padding comes last
        )

    def artefacts(self, split: str) -> list[Artefact]:
        """Maps of the bags that were kept by all processes, and how much the hottest instances hold."""
        shown = {name: bag for gallery in (self._worst, *self._best) for name, bag in gallery.gather().items()}
        held = self._held.gather().rows
        if not len(held):
            return []
        bags = [_captioned(bag, self.classes) for bag in list(shown.values())[:MOST_SHOWN]]
        return [
            Curve(
                f"{split}_attention_cumulative",
                f"Attention held by the hottest instances on {split}",
                x_label="instances",
                y_label="share of attention",
                x=[float(count) for count in range(1, CURVE_LENGTH + 1)],
                lines={"mean over bags": held.mean(dim=0).clamp(max=1).tolist()},  # sums of float32 may exceed 1
                note="A line that starts near 1 is a network that looks at a single instance of each bag.",
            ),
            AttentionMaps(
                f"{split}_attention",
                f"Attention on {split}",
                bags,
                note=f"The {SHOWN_OF_EACH} bags with the highest loss, then those with the lowest loss of each class.",
            ),
        ]


def hottest_pictures(features: Tensor, attention: np.ndarray, encoder: str | None) -> list[np.ndarray]:
    """The instances with most attention as pictures (H W 3, uint8), where the features of the bag are pictures.

    Args:
        features: N D, rows of padding last.
        attention: T N, of each branch.
        encoder: Name of the network that computed the features.
    """
    return pictured_instances(features, np.argsort(-attention.mean(axis=0), kind="stable")[:HOTTEST], encoder)


def _captioned(shown: _Shown, classes: Sequence[str]) -> AttendedBag:
    taken = f", taken for {classes[shown.predicted]}" if shown.predicted != shown.label else ""
    return replace(shown.bag, caption=f"{classes[shown.label]}{taken} ({percent(shown.confidence)})")
