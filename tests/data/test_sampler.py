from itertools import chain

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
    assert len({tuple(map(len, of_rank)) for of_rank in batches}) == 1
    assert all(len({len(batch) for batch in of_rank}) == 1 for of_rank in batches)
    shares = [list(chain(*of_rank)) for of_rank in batches]
    assert shares[0]  # every process has something to do
    if len(shares[0]) >= batch_size:
        assert len(shares[0]) % batch_size == 0
        assert length - world_size * len(shares[0]) < world_size * batch_size
    positions = list(chain(*shares))
    assert len(set(positions)) == len(positions)
    assert {position[1] for position in positions} == {epoch}


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
