from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vision_train.data.bags.bag import Bag
from vision_train.data.bags.dataset import BagDataset
from vision_train.data.bags.index import index_bags
from vision_train.data.bags.join import join_bags
from vision_train.data.bags.samples import BagSample
from vision_train.data.dataset import BAD
from vision_train.errors import UserError


def test_bags_of_unequal_size_are_padded() -> None:
    bags = [Bag(torch.full((size, 2), float(size), dtype=torch.float16), torch.ones(size, 2)) for size in (1, 3)]
    dataset = BagDataset([BagSample(f"{len(bag.features)}", bag, "b") for bag in bags], ["a", "b"], "error")
    batch = dataset.to_batch([dataset[0, 0], dataset[1, 0]])
    assert batch.pop(BAD) == {}
    assert batch["id"] == ["1", "3"]
    assert batch["label"].tolist() == [1, 1]
    assert batch["features"].dtype == torch.float32
    assert batch["features"].tolist() == [[[1, 1], [0, 0], [0, 0]], [[3, 3]] * 3]
    assert batch["padding_mask"].tolist() == [[False, True, True], [False, False, False]]
    assert [coords.shape for coords in batch["coords"]] == [(1, 2), (3, 2)]


def test_one_bag_needs_no_padding_and_unlabelled_bags_no_label() -> None:
    bag = Bag(torch.ones(3, 2, dtype=torch.float16))
    dataset = BagDataset([BagSample("a", bag)], [], "error")
    batch = dataset.to_batch([dataset[0, 0]])
    assert batch.keys() == {"id", "features", "padding_mask", "coords", "patch_size_level0", BAD}
    assert batch["features"].dtype == torch.float16
    assert batch["features"].data_ptr() == bag.features.data_ptr()
    assert batch["features"].shape == (1, 3, 2)
    assert not batch["padding_mask"].any()
    assert batch["coords"] == [None]


@pytest.mark.parametrize("name", ["acmil", "clam h5", "h5 in one piece"])
def test_workers_read_hdf5_that_their_parent_has_read(
    name: str, written: Callable[[str], Path], expected: dict[str, Any]
) -> None:
    samples = join_bags(index_bags(written(name)), labelled=False).samples
    dataset = BagDataset(samples, ["0", "1"], "error")
    loader: DataLoader[Any] = DataLoader(
        dataset,  # type: ignore[arg-type]
        sampler=[(0, 0), (1, 0), (0, 1)],  # type: ignore[arg-type]
        collate_fn=dataset.to_batch,
        num_workers=2,
    )
    for batch, bag_id in zip(loader, ["007", "slide.b", "007"], strict=True):
        assert batch["id"] == [bag_id]
        np.testing.assert_array_equal(batch["features"][0].numpy(), expected[bag_id][0])


@pytest.mark.parametrize("name", ["trident", "clam pt"])
def test_coordinates_are_read_where_they_are_shown(name: str, written: Callable[[str], Path]) -> None:
    samples = join_bags(index_bags(written(name)), labelled=False).samples
    for coords in (True, False):
        dataset = BagDataset(samples, [], "error", coords=coords)
        batch = dataset.to_batch([dataset[0, 0], dataset[1, 0]])
        assert [places is not None for places in batch["coords"]] == [coords, coords]
        assert batch["patch_size_level0"] == [512, 512]


@pytest.fixture
def one_bad(tmp_path: Path) -> list[BagSample]:
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.full((2, 3), np.nan if number == 1 else number, np.float32))
    return join_bags(index_bags(tmp_path), labelled=False).samples


def test_a_bad_bag_stops_the_training_process(one_bad: list[BagSample]) -> None:
    dataset = BagDataset(one_bad, [], "error")
    batch = dataset.to_batch([dataset[0, 0], dataset[1, 0]])
    assert batch.keys() == {BAD}
    with pytest.raises(UserError) as raised:
        dataset.note_bad(batch[BAD])
    assert str(raised.value) == (
        "1 bag(s) cannot be used. 1: NaN or infinite values in 2 of 2 instances. "
        "Mend them, or set data.on_bad=skip to go on without such samples"
    )


def test_a_bad_bag_is_skipped_and_counted(one_bad: list[BagSample]) -> None:
    dataset = BagDataset(one_bad, [], "skip")
    batch = dataset.to_batch([dataset[0, 0], dataset[1, 0]])
    assert batch["id"] == ["0", "2"]
    dataset.note_bad(batch[BAD])
    assert dataset.skipped == {"1": "NaN or infinite values in 2 of 2 instances"}


def test_no_bag_is_readable(one_bad: list[BagSample]) -> None:
    dataset = BagDataset(one_bad[1:2], [], "skip")
    batch = dataset.to_batch([dataset[0, 0]])
    assert list(batch) == [BAD]
    assert list(batch[BAD]) == ["1"]
