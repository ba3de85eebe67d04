"""Weights that were brought to the names and shapes of a model, and what they were before they were resized."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


class Adapted(dict[str, Tensor]):
    """Weights by a model's names.

    Args:
        fitted: The weights, resized where they had to be.
        named: The same file's weights by the names they were brought to, before anything was resized.
    """

    def __init__(self, fitted: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> None:
        super().__init__(fitted)
        self.named = dict(named)
