"""What a regression recipe may say under ``method``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vision_train.data.kind import Problems
from vision_train.data.measurements import MEASUREMENTS

DATA = MEASUREMENTS
"""The kind of data that the task trains on."""
GOAL = "numbers of new images"
"""What training makes of them."""
SUGGESTED = "regression/vit_small"
"""The built-in recipe to start from."""
OF_TIMM = True
"""Networks are timm's, or built as timm builds its own."""


@dataclass(frozen=True)
class Method:
    """Training objective: how far predicted numbers are from measured ones, in standard deviations of the latter."""

    loss: Literal["mse", "smooth_l1"] = "smooth_l1"
    """`mse` squares every error. `smooth_l1` squares those below one standard deviation of the training numbers and
    takes the size of larger ones, so that a few odd measurements weigh less."""

    def misplaced(self, recipe: Any) -> Problems:
        """Yield keys of other sections that regression does not use."""
        mixing = recipe.augment.mixing
        if mixing.maskmix + mixing.mixup + mixing.cutmix > 0:
            yield "augment.mixing", "mixes images, which regression does not; leave maskmix, mixup and cutmix at 0"
        if recipe.run.select.metric == "val/accuracy":
            yield (
                "run.select.metric",
                "is val/accuracy, which numbers do not have; set 'run.select={metric: val/mae, mode: min}'",
            )
