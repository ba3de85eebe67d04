"""Which samples make up the batches of one process, in which order.

Both classes yield pairs ``(index, epoch)``: the epoch travels to the loader's workers with the index, so that
augmentation can be a function of (seed, epoch, index) even in workers that outlive an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from vision_train.data.grouping import arranged_by_group, as_array
from vision_train.seeds import derive_seed

Position = tuple[int, int]
"""Index in the data set, and the number of the pass over the data that it belongs to: no two draws are alike."""

LEFT_OUT = 0.1
"""Largest share of the samples that an epoch leaves out; where more would not fill a batch, batches go on across
epochs."""
LOOKED_THROUGH = 10**8
"""Samples of all epochs together beyond which those never drawn are estimated."""


class TrainingBatches(Sampler[list[Position]]):
    """Batches of a seeded permutation for each pass over the data, shared out over the processes.

    Every process draws the same permutation from (seed, pass); a step takes the next samples of it, of which each
    process gets every ``world_size``-th, starting at its rank. All batches of all processes are of one size.

    What does not fill a last batch is left out of a pass, up to a tenth of the samples; another shuffle leaves out
    others. Where it would be more, nothing is left out: the last batch of an epoch is filled from the next permutation,
    in which the next epoch begins where this one ended. A data set smaller than one batch on every process gives one
    smaller batch.

    An epoch has as many batches as one pass needs, unless their number is given: then passes follow one another across
    the batches and epochs, every batch is full, however few samples there are, and none is left out. Which batch comes
    next depends on the epoch and the place in it alone.

    Args:
        length: Samples in the data set, at least ``world_size``.
        batch_size: Samples per process and step.
        seed: Seed of the run.
        rank: Number of this process.
        world_size: Number of processes.
        batches: Batches of an epoch, in passes without end; None for those of one pass.
        purpose: Tells the permutations of several streams apart.
        classes: Class of each sample, to draw equally many of every class; None draws every sample equally often.
        groups: Group of each sample, such as its aspect ratio: a step of all processes draws from one group, but for a
            few steps of what is left of several. None lets any go together.

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
        classes: Sequence[str] | None = None,
        groups: Sequence[int] | None = None,
    ) -> None:
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.purpose = purpose
        self.epoch = 0
        self.cursor = 0
        self._members = None if classes is None else members_of(classes)
        self._groups = as_array(groups)
        drawn = length if self._members is None else len(self._members) * balanced_draws(length, len(self._members))
        self.step_size = (batch_size if batches else min(batch_size, drawn // world_size)) * world_size
        """Samples of a step over all processes."""
        whole = drawn // self.step_size
        self.filled = batches is not None or drawn - whole * self.step_size > LEFT_OUT * drawn
        """Whether batches are filled across epochs."""
        self._of_one_pass = drawn if self.filled else whole * self.step_size
        self._batches = batches or whole + self.filled
        self._first_batch = 0  # where the next epoch begins; above 0 only after loading a state
        self._passes: dict[int, NDArray[np.int64]] = {}

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
            step = self._step(epoch * len(self) + number)
            yield [(int(index), int(turn)) for index, turn in step[self.rank :: self.world_size]]

    def _step(self, number: int) -> NDArray[np.int64]:
        """What all processes together draw in a step, counted from the first epoch: S x 2, index and pass."""
        start, length = number * self.step_size, self._of_one_pass
        end = start + self.step_size
        parts = [
            self._pass(turn)[max(start - turn * length, 0) : min(end - turn * length, length)]
            for turn in range(start // length, (end - 1) // length + 1)
        ]
        return np.concatenate(parts)

    def _pass(self, turn: int) -> NDArray[np.int64]:
        """The samples of one pass in their order, each with the number that tells its draws apart: n x 2."""
        if turn not in self._passes:
            draws = self._every_sample(turn) if self._members is None else self._every_class(turn)
            random = np.random.default_rng(derive_seed(self.seed, self.purpose, turn))
            order = random.permutation(len(draws))
            if self._groups is not None:
                begun = -turn * self._of_one_pass % self.step_size
                order = arranged_by_group(order, self._groups[draws[:, 0]], self.step_size, begun, random)
            latest = {known: self._passes[known] for known in self._passes if known == turn - 1}
            self._passes = {**latest, turn: draws[order]}
        return self._passes[turn]

    def _every_sample(self, turn: int) -> NDArray[np.int64]:
        return np.stack([np.arange(self.length), np.full(self.length, turn)], axis=1)

    def _every_class(self, turn: int) -> NDArray[np.int64]:
        """Equally many of each class; each class goes through its samples again and again, in a new order each time."""
        assert self._members is not None
        count, draws = balanced_draws(self.length, len(self._members)), []
        for number, members in enumerate(self._members):
            rounds, places = np.divmod(np.arange(turn * count, (turn + 1) * count), len(members))
            for each in np.unique(rounds):
                seed = derive_seed(self.seed, f"{self.purpose} within classes", number, int(each))
                order = np.random.default_rng(seed).permutation(members)
                taken = order[places[rounds == each]]
                draws.append(np.stack([taken, np.full(len(taken), each)], axis=1))
        return np.concatenate(draws)

    def never_drawn(self, epochs: int, batches: int, last: int) -> int:
        """How many samples no process draws in so many epochs, of which only the first batches are trained on.

        Args:
            epochs: Epochs.
            batches: Batches of each epoch but the last.
            last: Batches of the last one.

        Returns:
            Their number; where much is left after many epochs, what is to be expected. Epochs are gone through one by
            one until nothing is left, which mostly is after two of them.
        """
        unseen = np.ones(self.length, dtype=bool)
        for epoch in range(epochs):
            if epoch * self.length > LOOKED_THROUGH:
                return round(int(unseen.sum()) * (1 - batches * self.step_size / self.length) ** (epochs - epoch))
            for number in range(batches if epoch < epochs - 1 else last):
                unseen[self._step(epoch * len(self) + number)[:, 0]] = False
            if not unseen.any():
                break
        return int(unseen.sum())

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
        self._passes = {}
        finished = state["cursor"] >= len(self)
        self.cursor = self._first_batch = 0 if finished else state["cursor"]


def members_of(classes: Sequence[str]) -> list[NDArray[np.int64]]:
    """Places of the samples of each class, classes in the order of their names."""
    names, numbers = np.unique(np.asarray(classes, dtype=object), return_inverse=True)
    return [np.flatnonzero(numbers == number) for number in range(len(names))]


def balanced_draws(length: int, classes: int) -> int:
    """Draws of each class in a pass in which all count alike: together as many as there are samples, or a few more."""
    return math.ceil(length / classes)


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
