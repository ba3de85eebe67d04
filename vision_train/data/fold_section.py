"""The keys of ``data.fold``, for kinds of data whose samples can be cut into folds."""

from __future__ import annotations

from dataclasses import dataclass

from vision_train.data.kind import Problems

FEWEST_FOLDS = 2


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One of several parts that together hold every sample once."""

    number: int
    """Which of them is the test split, from 1 on."""
    of: int
    """How many there are."""

    def problems(self) -> Problems:
        """Yield values outside their range."""
        if self.of < FEWEST_FOLDS:
            yield "of", f"is {self.of}; must be at least {FEWEST_FOLDS}"
        elif not 1 <= self.number <= self.of:
            yield "number", f"is {self.number}; must lie between 1 and data.fold.of={self.of}"
