"""Weights that were brought to the names and shapes of a model, and what they were before they were resized."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor


class Adapted(dict[str, Tensor]):
    """Weights by a model's names.

    Args:
        fitted: The weights, resized where they had to be.
        named: The same file's weights by the names they were brought to, before anything was resized.
        fresh: Names of the model's tensors that networks of the file's kind do not have, so that they may start fresh.
        notes: What to know of the translation, as sentences.
        classes: The classes of the heads' outputs as they are in ``fitted``, where the translation knows them.
    """

    def __init__(
        self,
        fitted: Mapping[str, Tensor],
        named: Mapping[str, Tensor],
        *,
        fresh: Collection[str] = (),
        notes: Sequence[str] = (),
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__(fitted)
        self.named = dict(named)
        self.fresh = frozenset(fresh)
        self.notes = tuple(notes)
        self.classes = None if classes is None else tuple(classes)
