import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vision_train.data.bags.bag import Bag, read_bag
from vision_train.data.bags.digits import BAGS, Variant, digit_bag_samples, digit_bags, make_digit_bags
from vision_train.data.bags.index import index_bags
from vision_train.data.bags.join import join_bags
from vision_train.data.bags.tables import read_labels, read_splits
from vision_train.data.cases import divide_by_cases
from vision_train.errors import UserError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "acmil" / "digit_bags.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("variant", "letter"), [("rare", "A"), ("patterns", "B")])
def test_item_10_bags_are_those_of_the_reference(variant: Variant, letter: str, seed: int) -> None:
    bags = digit_bags(variant, seed)
    for split in BAGS:
        members = [bag for bag in bags if bag.split == split]
        scans = np.concatenate([bag.scans for bag in members])
        assert GOLDEN["sets"][f"{letter}/{split}/seed{seed}"] == {
            "bags": len(members),
            "positives": sum(bag.label == "1" for bag in members),
            "instances": len(scans),
            "positive_instances": int(sum(bag.witnesses.sum() for bag in members)),
            "first_bag_size": len(members[0].scans),
            "first_bag_head": members[0].scans[:8].tolist(),
            "sha256": hashlib.sha256(scans.astype("<i8").tobytes()).hexdigest(),
        }


def test_witnesses_follow_the_permutation() -> None:
    from sklearn.datasets import load_digits

    target = load_digits().target
    for bag in digit_bags("rare", 0):
        np.testing.assert_array_equal(target[bag.scans] == 9, bag.witnesses)
    for bag in digit_bags("patterns", 0):
        assert set(target[bag.scans[bag.witnesses]]) <= {0, 5, 9}
        assert not set(target[bag.scans[~bag.witnesses]]) & {0, 5, 9}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent") / "bags"
    assert make_digit_bags(folder, "patterns", seed=1) == BAGS
    return folder


def test_the_written_folder_holds_the_same_bags(written: Path) -> None:
    index = index_bags(written)
    joined = join_bags(index, read_labels(written / "labels.csv"), read_splits(written / "splits_0.csv"))
    assert joined.notes() == []
    samples = {sample.id: sample for sample in joined.samples}
    expected = digit_bag_samples("patterns", seed=1)
    assert len(samples) == len(expected) == 360
    for sample in expected:
        found = samples[sample.id.removeprefix("patterns_1_")]
        assert (found.truth, found.split) == (sample.truth, sample.split)
    for sample in expected[::40]:
        bag = read_bag(index.entries[sample.id.removeprefix("patterns_1_")])
        assert isinstance(sample.bag, Bag)
        assert torch.equal(bag.features, sample.bag.features)
        assert sample.bag.coords is not None
        assert bag.coords is not None
        assert torch.equal(bag.coords, sample.bag.coords)
        assert bag.patch_size_level0 == sample.bag.patch_size_level0 == 8
    entry = index.entries["train_000"]
    assert (entry.width, entry.dtype, entry.encoder) == (64, "float32", "pixels")


def test_bags_in_memory_are_divided_as_they_are() -> None:
    samples = digit_bag_samples("rare", seed=0)
    splits = divide_by_cases(samples, None)
    assert {name: len(members) for name, members in splits.items()} == BAGS
    assert {str(sample.truth) for sample in samples} == {"0", "1"}
    bag = samples[0].bag
    assert isinstance(bag, Bag)
    assert bag.features.shape == (135, 64)
    assert (bag.features.min(), bag.features.max()) == (0, 1)
    assert bag.coords is not None
    assert len(bag.coords.unique(dim=0)) == 135


def test_a_folder_in_use_is_refused(written: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an empty folder"):
        make_digit_bags(written, "rare")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        make_digit_bags(tmp_path / "file" / "below", "rare")
