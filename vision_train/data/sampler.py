"""Which samples make up the batches of one process, in which order.

Both classes yield pairs ``(index, epoch)``: the epoch travels to the loader's workers with the index, so that
augmentation can be a function of (seed, epoch, index) even in workers that outlive an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from vision_train.seeds import derive_seed

Position = tuple[int, int]
"""Index in the data set and epoch."""


class TrainingBatches(Sampler[list[Position]]):
    """Batches of a seeded permutation for each pass over the data, shared out over the processes.

    Every process draws the same permutation from (seed, pass) and takes each ``world_size``-th entry, starting at its
    rank. All processes get equally many full batches and the rest of the permutation is left out; a data set smaller
    than one batch on every process gives one smaller batch.

    An epoch is one pass, unless another stream decides how many batches it has: then passes follow one another across
    the epochs, and which batch comes next depends on the epoch and the place in it alone.

    Args:
        length: Samples in the data set, at least ``world_size``.
        batch_size: Samples per process and step.
        seed: Seed of the run.
        rank: Number of this process.
        world_size: Number of processes.
        batches: Batches of an epoch; None for those of one pass.
        purpose: Tells the permutations of several streams apart.

    Attributes:
        epoch: Set it before each pass with :meth:`set_epoch` (Lightning does).
        cursor: Batches of this epoch that have been handed out. The loader counts them, because its workers draw
            ahead of what training has seen.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        batches: int | None = None,
        purpose: str = "shuffling",
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.purpose = purpose
        self.epoch = 0
        self.cursor = 0
        self._of_one_pass = max(length // (world_size * batch_size), 1)
        self._batches = batches or self._of_one_pass
        self._first_batch = 0  # where the next epoch begins; above 0 only after loading a state
        self._shares: dict[int, NDArray[np.int64]] = {}

    @property
    def sampler(self) -> TrainingBatches:
        """The object itself: Lightning looks for ``set_epoch`` at the ``sampler`` of a batch sampler."""
        return self

    def __len__(self) -> int:
        """Batches of one whole epoch in this process."""
        return self._batches

    def __iter__(self) -> Iterator[list[Position]]:
        self.cursor, self._first_batch = self._first_batch, 0
        epoch = self.epoch
        for number in range(self.cursor, len(self)):
            turn, place = divmod(epoch * len(self) + number, self._of_one_pass)
            indices = self._share(turn)[place * self.batch_size : (place + 1) * self.batch_size]
            yield [(int(index), turn) for index in indices]

    def _share(self, turn: int) -> NDArray[np.int64]:
        """The samples of this process in one pass."""
        if turn not in self._shares:
            order = np.random.default_rng(derive_seed(self.seed, self.purpose, turn)).permutation(self.length)
            kept = (
                self.length // (self.world_size * self.batch_size) * self.batch_size or self.length // self.world_size
            )
            self._shares = {turn: order[self.rank :: self.world_size][:kept]}
        return self._shares[turn]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; a new epoch begins at its first batch."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.cursor = self._first_batch = 0

    def state_dict(self) -> dict[str, int]:
        """Seed, epoch and batches handed out: all that the position depends on."""
        return {"seed": self.seed, "epoch": self.epoch, "cursor": self.cursor}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass continue where ``state`` was taken; after a finished epoch it begins anew."""
        self.seed, self.epoch = state["seed"], state["epoch"]
        self._shares = {}
        finished = state["cursor"] >= len(self)
        self.cursor = self._first_batch = 0 if finished else state["cursor"]


class EvaluationSampler(Sampler[Position]):
    """All samples in order, shared out over the processes.

    The first few samples are repeated until every process has equally many, so that all of them run the same number of
    batches; metrics tell repeated samples by their id.

    Args:
        length: Samples in the data set, at least 1.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        self.length = length
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[Position]:
        for turn in range(len(self)):
            yield (turn * self.world_size + self.rank) % self.length, 0
