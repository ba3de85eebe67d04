"""Which images make up the batches of one process, in which order.

Both samplers yield pairs ``(index, epoch)``: the epoch travels to the loader's workers with the index, so that
augmentation can be a function of (seed, epoch, index) even in workers that outlive an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from vision_train.seeds import derive_seed

Position = tuple[int, int]
"""Index in the data set and epoch."""


class TrainingSampler(Sampler[Position]):
    """A seeded permutation for each epoch, shared out over the processes.

    Every process draws the same permutation from (seed, epoch) and takes each ``world_size``-th entry, starting at its
    rank. All processes get equally many full batches and the rest of the permutation is left out; a data set smaller
    than one batch on every process gives one smaller batch.

    Args:
        length: Images in the data set, at least ``world_size``.
        batch_size: Images per process and step.
        seed: Of the run.
        rank: Of this process.
        world_size: Number of processes.

    Attributes:
        epoch: Set it before each pass with :meth:`set_epoch` (Lightning does).
        cursor: Batches of this epoch that have been handed out. The loader counts them, because its workers draw
            ahead of what training has seen.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.cursor = 0
        self._first_batch = 0  # where the next pass begins; above 0 only after loading a state

    def __len__(self) -> int:
        """Images of one whole epoch in this process."""
        full_batches = self.length // (self.world_size * self.batch_size)
        return full_batches * self.batch_size or self.length // self.world_size

    def __iter__(self) -> Iterator[Position]:
        self.cursor, self._first_batch = self._first_batch, 0
        order = np.random.default_rng(derive_seed(self.seed, "shuffling", self.epoch)).permutation(self.length)
        share = order[self.rank :: self.world_size][: len(self)]
        epoch = self.epoch
        for index in share[self.cursor * self.batch_size :]:
            yield int(index), epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of the next pass; a new epoch begins at its first batch."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.cursor = self._first_batch = 0

    def state_dict(self) -> dict[str, int]:
        """Seed, epoch and batches handed out: all that the position depends on."""
        return {"seed": self.seed, "epoch": self.epoch, "cursor": self.cursor}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass continue where ``state`` was taken; after a finished epoch it begins anew."""
        self.seed, self.epoch = state["seed"], state["epoch"]
        finished = state["cursor"] * self.batch_size >= len(self)
        self.cursor = self._first_batch = 0 if finished else state["cursor"]


class EvaluationSampler(Sampler[Position]):
    """All images in order, shared out over the processes.

    The first few images are repeated until every process has equally many, so that all of them run the same number of
    batches; metrics tell repeated images by their id.

    Args:
        length: Images in the data set, at least 1.
        rank: Of this process.
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
