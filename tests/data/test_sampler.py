from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_train.data.sampler import EvaluationSampler, TrainingBatches

sizes = {"length": st.integers(1, 60), "batch_size": st.integers(1, 9), "world_size": st.integers(1, 4)}


@given(**sizes, epoch=st.integers(0, 3))
def test_training_ranks_share_one_permutation(length: int, batch_size: int, world_size: int, epoch: int) -> None:
    world_size = min(world_size, length)
    ranks = [TrainingBatches(length, batch_size, 0, rank, world_size) for rank in range(world_size)]
    for sampler in ranks:
        sampler.set_epoch(epoch)
    batches = [list(sampler) for sampler in ranks]
    assert [len(of_rank) for of_rank in batches] == [len(sampler) for sampler in ranks]
    sizes = {len(batch) for of_rank in batches for batch in of_rank}
    assert sizes == {min(batch_size, length // world_size)}, "every process has something to do, and as much as others"
    positions = list(chain(*chain(*batches)))
    assert len(set(positions)) == len(positions)
    if ranks[0].filled:
        return
    assert {position[1] for position in positions} == {epoch}
    assert length - len(positions) <= length / 10


@given(**sizes)
def test_where_much_would_be_left_out_batches_go_on_across_epochs(length: int, batch_size: int, world_size: int):
    world_size = min(world_size, length)
    ranks = [TrainingBatches(length, batch_size, 0, rank, world_size) for rank in range(world_size)]
    drawn: list[int] = []
    for epoch in range(4):
        for sampler in ranks:
            sampler.set_epoch(epoch)
        steps = [list(chain(*step)) for step in zip(*ranks, strict=True)]
        drawn += [index for step in steps for index, _ in step]
        if epoch == 0 and ranks[0].filled:
            assert set(drawn) == set(range(length)), "no sample is left out of the first epoch"
    if ranks[0].filled:
        times = np.bincount(drawn, minlength=length)
        assert times.max() - times.min() <= 1, "and none is drawn more often than another"


@pytest.mark.parametrize(
    ("length", "batch", "steps"), [(48, 48, 1), (40, 48, 1), (60, 48, 2), (100, 64, 2), (100, 32, 3)]
)
def test_an_epoch_takes_as_many_steps_as_show_every_sample(length: int, batch: int, steps: int):
    assert len(TrainingBatches(length, batch, 0)) == steps


def test_what_is_never_drawn_is_counted():
    assert TrainingBatches(100, 32, 0).never_drawn(1, 3, 3) == 4
    assert TrainingBatches(100, 32, 0).never_drawn(9, 3, 3) == 0
    assert TrainingBatches(100, 64, 0).never_drawn(1, 2, 2) == 0
    assert TrainingBatches(100, 10, 0).never_drawn(1, 2, 2) == 80
    assert TrainingBatches(100, 10, 0).never_drawn(1, 10, 3) == 70
    drawn = {index for epoch in range(3) for index in indices_of(epoch, TrainingBatches(100, 10, 5))[:20]}
    assert TrainingBatches(100, 10, 5).never_drawn(3, 2, 2) == 100 - len(drawn)


def test_what_is_never_drawn_is_estimated_where_counting_would_take_long(monkeypatch):
    counted = TrainingBatches(1000, 10, 0).never_drawn(40, 2, 2)
    monkeypatch.setattr("vision_train.data.sampler.LOOKED_THROUGH", 1000)
    assert TrainingBatches(1000, 10, 0).never_drawn(40, 2, 2) == pytest.approx(counted, rel=0.1)


def indices_of(epoch: int, batches: TrainingBatches) -> list[int]:
    batches.set_epoch(epoch)
    return indices(batches)


class TestBalance:
    CLASSES = ("rare",) * 3 + ("often",) * 40 + ("some",) * 7

    def draws(self, epochs: int, **options: Any) -> list[Any]:
        batches = TrainingBatches(50, 8, 0, classes=self.CLASSES, **options)
        found = []
        for epoch in range(epochs):
            batches.set_epoch(epoch)
            found += [position for batch in batches for position in batch]
        return found

    def test_every_class_is_drawn_equally_often(self):
        counts = Counter(self.CLASSES[index] for index, _ in self.draws(17))
        assert max(counts.values()) - min(counts.values()) <= 17, "but for what a pass leaves out"

    def test_samples_of_a_class_take_turns(self):
        times = np.bincount([index for index, _ in self.draws(17)], minlength=50)
        for name in set(self.CLASSES):
            of_class = [times[index] for index, each in enumerate(self.CLASSES) if each == name]
            assert min(of_class) > 0
            assert max(of_class) - min(of_class) <= 7

    def test_no_two_draws_are_alike_so_that_augmentation_differs(self):
        found = self.draws(17)
        assert len(set(found)) == len(found)

    def test_an_epoch_is_about_as_long_as_without(self):
        assert len(TrainingBatches(50, 8, 0, classes=self.CLASSES)) == len(TrainingBatches(50, 8, 0))

    def test_two_processes_share_what_one_draws(self):
        one = list(TrainingBatches(50, 8, 0, classes=self.CLASSES))
        two = [list(TrainingBatches(50, 4, 0, rank, 2, classes=self.CLASSES)) for rank in (0, 1)]
        for whole, *halves in zip(one, *two, strict=True):
            assert set(whole) == set(chain(*halves))

    def test_seeds_change_the_draws(self):
        orders = [list(TrainingBatches(50, 8, seed, classes=self.CLASSES)) for seed in (0, 1)]
        assert orders[0] != orders[1]


def test_one_process_and_two_train_on_the_same_images_per_step() -> None:
    one = list(TrainingBatches(40, 8, seed=3))
    two = [list(TrainingBatches(40, 4, 3, rank, 2)) for rank in (0, 1)]
    assert len(one) == 5
    for whole, *halves in zip(one, *two, strict=True):
        assert set(whole) == set(chain(*halves))


def indices(batches: TrainingBatches) -> list[int]:
    return [index for batch in batches for index, _ in batch]


def test_epochs_and_seeds_change_the_order() -> None:
    sampler = TrainingBatches(50, 5, seed=0)
    first = indices(sampler)
    sampler.set_epoch(1)
    assert indices(sampler) != first
    assert indices(TrainingBatches(50, 5, seed=1)) != first
    sampler.set_epoch(0)
    assert indices(sampler) == first


def test_state_continues_where_it_was_taken() -> None:
    sampler = TrainingBatches(20, 4, seed=0)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.cursor = 3  # the loader counts the batches it has handed out
    state = sampler.state_dict()
    assert state == {"seed": 0, "epoch": 2, "cursor": 3}

    resumed = TrainingBatches(20, 4, seed=9)
    resumed.load_state_dict(state)
    resumed.set_epoch(2)
    assert resumed.state_dict() == state
    assert list(resumed) == whole[3:]
    assert list(resumed) == whole  # only the first pass after loading starts inside the epoch


@pytest.mark.parametrize(("cursor", "next_epoch"), [(5, 2), (3, 3)])
def test_a_finished_or_another_epoch_starts_at_its_beginning(cursor: int, next_epoch: int) -> None:
    sampler = TrainingBatches(20, 4, seed=0)
    sampler.load_state_dict({"seed": 0, "epoch": 2, "cursor": cursor})
    sampler.set_epoch(next_epoch)
    assert len(list(sampler)) == 5


@given(length=sizes["length"], world_size=st.integers(1, 5))
def test_evaluation_covers_everything_in_equal_shares(length: int, world_size: int) -> None:
    shares = [[index for index, _ in EvaluationSampler(length, rank, world_size)] for rank in range(world_size)]
    assert {len(share) for share in shares} == {len(EvaluationSampler(length, 0, world_size))}
    assert set(chain(*shares)) == set(range(length))
    assert sum(map(len, shares)) < length + world_size
    if world_size == 1:
        assert shares[0] == list(range(length))
