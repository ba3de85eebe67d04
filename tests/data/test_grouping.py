import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vision_train.data.grouping import arranged_by_group
from vision_train.data.sampler import TrainingBatches

sizes = {"length": st.integers(1, 60), "batch_size": st.integers(1, 9), "world_size": st.integers(1, 3)}


@given(**sizes, groups=st.integers(2, 4), seed=st.integers(0, 3))
def test_groups_change_no_count_only_which_samples_meet(length, batch_size, world_size, groups, seed):
    world_size = min(world_size, length)
    of_group = np.random.default_rng(seed).integers(groups, size=length).tolist()
    plain, grouped = (
        [TrainingBatches(length, batch_size, seed, rank, world_size, groups=of) for rank in range(world_size)]
        for of in (None, of_group)
    )
    drawn = []
    for epoch in range(4):
        for each in (*plain, *grouped):
            each.set_epoch(epoch)
        batches = [list(each) for each in grouped]
        assert [len(each) for each in batches] == [len(list(each)) for each in plain]
        assert {len(batch) for of_rank in batches for batch in of_rank} == {grouped[0].step_size // world_size}
        drawn += [index for of_rank in batches for batch in of_rank for index, _ in batch]
    times = np.bincount(drawn, minlength=length)
    assert times.sum() == 4 * len(grouped[0]) * grouped[0].step_size
    if grouped[0].filled:
        assert times.max() - times.min() <= 1


def test_all_processes_draw_a_step_from_one_group():
    groups = [0] * 400 + [1] * 90 + [2] * 10
    ranks = [TrainingBatches(500, 4, 0, rank, 2, groups=groups) for rank in range(2)]
    for epoch in range(3):
        for each in ranks:
            each.set_epoch(epoch)
        steps = [{groups[index] for batch in step for index, _ in batch} for step in zip(*ranks, strict=True)]
        assert sum(len(step) > 1 for step in steps) <= 3, "at most one step of remains a group"


def test_remains_that_an_epoch_leaves_out_are_of_any_group():
    groups = [0] * 47 + [1] * 46
    left = set()
    for epoch in range(8):
        batches = TrainingBatches(93, 10, 0, groups=groups)
        batches.set_epoch(epoch)
        drawn = {index for batch in batches for index, _ in batch}
        left |= {groups[index] for index in set(range(93)) - drawn}
    assert left == {0, 1}


def test_a_pass_goes_on_where_it_was_cut_short():
    groups = np.random.default_rng(0).integers(3, size=83).tolist()
    whole = TrainingBatches(83, 6, 5, groups=groups)
    whole.set_epoch(2)
    expected = list(whole)
    resumed = TrainingBatches(83, 6, 5, groups=groups)
    resumed.load_state_dict({"seed": 5, "epoch": 2, "cursor": 4})
    assert list(resumed) == expected[4:]


def test_an_arranged_pass_holds_every_sample_once():
    random = np.random.default_rng(0)
    groups = random.integers(3, size=50)
    arranged = arranged_by_group(random.permutation(50), groups, 8, 3, random)
    assert sorted(arranged) == list(range(50))
