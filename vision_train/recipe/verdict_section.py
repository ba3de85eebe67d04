"""The key `semi.verdict` of a recipe: whether the pool helped, found out by training controls beside the run."""

from __future__ import annotations

from dataclasses import dataclass

from vision_train.data.kind import Problems
from vision_train.recipe.lora_section import Lora

FEWEST_SEEDS = 3
"""With fewer, the spread over the seeds says nothing."""


@dataclass(frozen=True)
class Verdict:
    """The method against controls that learn from the same labelled images, each in as many steps.

    The run itself is trained first. Then come, on each seed: the labelled images alone, at the best of three learning
    rates; the same in batches as large as with the pool; the same in the phases of a method that has some; the method
    with the labelled images as its pool; and the method.
    """

    seeds: int = 5
    """Seeds of each arm, from `seed` on. With five, a difference of 1.7 times the spread over the seeds is seen."""
    frozen: bool = False
    """One more control: a linear head on the weights of `model.checkpoint`, which stay as they are."""
    lora: Lora | None = None
    """One more control: low-rank adapters of this rank on the weights of `model.checkpoint`."""
    pretrain: bool = False
    """One more control, for large pools: the pool is pre-trained on first, and the labelled images are learnt after."""
    worth: bool = False
    """Also say how many labels the pool is worth: trains a quarter and a half of the labelled images on each seed."""

    def problems(self) -> Problems:
        """Yield too few seeds."""
        if self.seeds < FEWEST_SEEDS:
            yield "seeds", f"is {self.seeds}; a verdict takes {FEWEST_SEEDS} or more (semi.verdict=null for none)"
