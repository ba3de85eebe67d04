"""The worst mistakes of a pass over a split, kept as small pictures for the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from vision_train.artefacts import ImageGrid
from vision_train.processes import gather_objects
from vision_train.tasks.classification.scores import Scores

KEPT = 24
LONGEST_SIDE = 224
"""Pictures are shrunk to this, in pixels, before they are kept."""


class WorstMistakes:
    """Keeps the wrongly classified images with the highest loss; memory does not grow with the split.

    Args:
        mean: Channel means that were subtracted from pixels in [0, 1].
        std: Channel standard deviations that they were divided by.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = np.array(mean), np.array(std)
        self.kept: dict[str, tuple[float, np.ndarray, tuple[int, int, float]]] = {}

    def add(self, scores: Scores, images: Tensor) -> None:
        """Consider a batch: its scores and its normalised images (B C H W)."""
        losses = scores.column("loss")
        wrong = scores.column("predicted") != scores.column("label")
        floor = min((loss for loss, _, _ in self.kept.values()), default=0.0) if len(self.kept) >= KEPT else -1.0
        for row in (wrong & (losses > floor)).nonzero().flatten().tolist():
            caption = (
                int(scores.column("label")[row]),
                int(scores.column("predicted")[row]),
                scores.column("confidence")[row].item(),
            )
            self.kept[scores.ids[row]] = (losses[row].item(), self._picture(images[row]), caption)
        for name in sorted(self.kept, key=lambda name: -self.kept[name][0])[KEPT:]:
            del self.kept[name]

    def grid(self, classes: Sequence[str], split: str) -> ImageGrid:
        """The worst of all processes, worst first."""
        merged = {name: entry for kept in gather_objects(self.kept) for name, entry in kept.items()}
        worst = sorted(merged, key=lambda name: (-merged[name][0], name))[:KEPT]
        captions = []
        for name in worst:
            label, predicted, confidence = merged[name][2]
            captions.append(f"{classes[label]}, taken for {classes[predicted]} ({confidence:.0%})\n{name}")
        return ImageGrid(
            f"{split}_mistakes",
            f"Worst mistakes on {split}",
            images=[merged[name][1] for name in worst],
            captions=captions,
            note="Wrong predictions with the highest loss: the class, what it was taken for, how sure the model was.",
        )

    def _picture(self, image: Tensor) -> np.ndarray:
        pixels = image.float().cpu().numpy().transpose(1, 2, 0) * self.std + self.mean
        picture = Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        return np.asarray(picture)
