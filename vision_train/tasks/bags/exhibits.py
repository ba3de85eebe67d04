"""What a test pass over bags has to show: result tables, curves, and maps of the attention to single bags."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from models.mil.bags import BagOutput
from vision_train.artefacts import Artefact, AttendedBag, AttentionMaps, Curve, Items, Recomputed, Table
from vision_train.processes import gather_objects
from vision_train.tasks.bags.scores import ATTENTION_METRICS, FIELDS, RECOMPUTED, Scores, metrics
from vision_train.tasks.classification.scores import confusion_matrix, per_class_table

SHOWN_OF_EACH = 2
"""Bags that are shown of those with the lowest loss in each class, and of those with the highest of all."""
MOST_SHOWN = 8
HOTTEST = 12
"""Instances of a bag that are shown as pictures."""
CURVE_LENGTH = 100
PIXELS = "pixels"
"""Encoder whose features are the square grey pictures themselves, in [0, 1]."""


class _Kept(NamedTuple):
    loss: float
    label: int
    predicted: int
    confidence: float
    bag: AttendedBag


class Exhibits:
    """Keeps the attention of the most telling bags, and how concentrated it is in all; memory stays bounded.

    Args:
        encoder: What computed the features.
    """

    def __init__(self, encoder: str | None) -> None:
        self.encoder = encoder
        self._kept: dict[str, _Kept] = {}
        self._held: dict[str, np.ndarray] = {}

    def add(self, batch: dict[str, Any], output: BagOutput, rows: Tensor) -> None:
        """Consider a batch: what the network made of it, and its scores (B x (5 + C))."""
        if (attention := output.branch_attention) is None:
            return
        for index, name in enumerate(batch["id"]):
            of_bag = attention[index][:, ~batch["padding_mask"][index]].float().cpu().numpy()
            self._held[name] = np.sort(of_bag.mean(axis=0))[::-1][:CURVE_LENGTH].cumsum()
            loss, label = (rows[index, FIELDS.index(field)].item() for field in ("loss", "label"))
            confidence, predicted = rows[index, len(FIELDS) :].max(dim=0)
            bag = self._attended(batch, index, of_bag)
            self._kept[name] = _Kept(loss, int(label), int(predicted), confidence.item(), bag)
        self._kept = {name: self._kept[name] for name in _telling(self._kept)}

    def _attended(self, batch: dict[str, Any], index: int, attention: np.ndarray) -> AttendedBag:
        coords, features = batch["coords"][index], batch["features"][index]  # padded, if at all, at its end
        hottest = np.argsort(-attention.mean(axis=0), kind="stable")[:HOTTEST]
        return AttendedBag(
            id=batch["id"][index],
            caption="",
            attention=attention,
            coords=None if coords is None else coords.cpu().numpy(),
            patch_size_level0=batch["patch_size_level0"][index],
            pictures=pictured_instances(features, hottest, self.encoder),
        )

    def artefacts(self, classes: Sequence[str], split: str) -> list[Artefact]:
        """Maps of the bags that were kept by all processes, and how much the hottest instances hold."""
        kept = {name: entry for each in gather_objects(self._kept) for name, entry in each.items()}
        held = {name: curve for each in gather_objects(self._held) for name, curve in each.items()}
        if not held:
            return []
        bags = [_captioned(kept[name], classes) for name in _telling(kept)[:MOST_SHOWN]]
        padded = [np.pad(curve, (0, CURVE_LENGTH - len(curve)), mode="edge") for curve in held.values()]
        return [
            Curve(
                f"{split}_attention_cumulative",
                f"Attention held by the hottest instances on {split}",
                x_label="instances",
                y_label="share of attention",
                x=[float(count) for count in range(1, CURVE_LENGTH + 1)],
                lines={"mean over bags": np.mean(padded, axis=0).tolist()},
                note="A line that starts near 1 is a network that looks at a single instance of each bag.",
            ),
            AttentionMaps(
                f"{split}_attention",
                f"Attention on {split}",
                bags,
                note=f"The {SHOWN_OF_EACH} bags with the highest loss, then those with the lowest loss of each class.",
            ),
        ]


def pictured_instances(features: Tensor, instances: np.ndarray, encoder: str | None) -> list[np.ndarray]:
    """Instances of a bag as pictures, where its features are pictures; else none.

    Args:
        features: N D.
        instances: K, which of them.
        encoder: What computed the features.

    Returns:
        K times H W 3, uint8, or nothing.
    """
    side = math.isqrt(features.shape[1])
    if encoder != PIXELS or side * side != features.shape[1]:
        return []
    chosen = features[torch.from_numpy(instances).to(features.device)].float().cpu()
    grey = (chosen.clamp(0, 1) * 255).round().to(torch.uint8).view(-1, side, side, 1)
    return list(grey.expand(-1, -1, -1, 3).numpy())


def _telling(kept: Mapping[str, _Kept]) -> list[str]:
    """The bags with the highest loss, then those with the lowest of each class; each bag once."""
    ordered = sorted(kept, key=lambda name: (kept[name].loss, name))
    best = [
        [name for name in ordered if kept[name].label == label][:SHOWN_OF_EACH]
        for label in sorted({bag.label for bag in kept.values()})
    ]
    return list(dict.fromkeys([*ordered[::-1][:SHOWN_OF_EACH], *chain.from_iterable(best)]))


def _captioned(kept: _Kept, classes: Sequence[str]) -> AttendedBag:
    taken = f", taken for {classes[kept.predicted]}" if kept.predicted != kept.label else ""
    return replace(kept.bag, caption=f"{classes[kept.label]}{taken} ({kept.confidence:.0%})")


def result_artefacts(
    scores: Scores,
    classes: Sequence[str],
    split: str,
    warnings: Sequence[str],
    groups: Mapping[str, str] | None = None,
) -> list[Artefact]:
    """Size and metrics, per-class table, confusion matrix, and every bag.

    Args:
        scores: Results of all bags.
        classes: C class names, in the order of the labels.
        split: Split that the bags are of.
        warnings: Notes for the reader of the result.
        groups: Id of a bag -> its patient, where known. Bags of one patient are resampled together.
    """
    labels, predicted, names = scores.column("label").long(), scores.predicted, list(classes)
    confusion = multiclass_confusion_matrix(predicted, labels, num_classes=len(names))
    rows: list[list[str | float]] = [[name, value] for name, value in metrics(scores).items()]
    return [
        Table(
            f"{split}_summary",
            f"Result on {split}",
            ["metric", "value"],
            [["bags", len(scores.ids)], *rows],
            note=" ".join(f"Warning: {text}." for text in warnings),
        ),
        per_class_table(confusion, names, split, "bags"),
        confusion_matrix(confusion, names, split),
        _items(scores, split, groups or {}),
    ]


def _items(scores: Scores, split: str, groups: Mapping[str, str]) -> Items:
    """Every bag's results; metrics that are not finite are left out."""
    labels, predicted = scores.column("label").long(), scores.predicted
    means = {
        "accuracy": (predicted == labels).double(),
        **{name: scores.column(name) for name in ("loss", *ATTENTION_METRICS)},
    }
    measured = metrics(scores)
    return Items(
        f"{split}_items",
        scores.ids,
        {name: values.tolist() for name, values in means.items() if values.isfinite().all()},
        [groups.get(name, name) for name in scores.ids] if groups else None,
        {
            "label": labels.tolist(),
            "predicted": predicted.tolist(),
            "probabilities": scores.probabilities.tolist(),
        },
        {name: Recomputed(statistic) for name, statistic in RECOMPUTED.items() if math.isfinite(measured[name])},
    )
