"""The key `model.lora` of a recipe: low-rank adapters."""

from __future__ import annotations

from dataclasses import dataclass

from vision_train.data.kind import Problems


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the linear layers of attention and MLPs, for classification.

    Their scale (`alpha / rank`) is 1: the learning rate alone says how far they move. Checkpoints of a run keep frozen
    weights and adapters apart, since training goes on with both; whatever reads such a checkpoint gets merged weights
    under the plain names of the network.
    """

    rank: int
    """Rank of the change of each weight; few suffice, such as 4."""

    def problems(self) -> Problems:
        """Yield a rank that changes nothing."""
        if self.rank < 1:
            yield "rank", f"is {self.rank}; must be at least 1; without adapters, set lora itself to null"
