"""Folds hold every sample once, whole groups, all classes, and depend on nothing but the seed and the samples."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from vision_train.data.cases import divide_by_cases
from vision_train.data.divide import divide_images
from vision_train.data.fold_section import Fold
from vision_train.data.folds import with_fold
from vision_train.data.images import Section
from vision_train.data.images.build import build
from vision_train.data.sample import ImageSample
from vision_train.errors import UserError
from vision_train.recipe import load_recipe

FOLDS = 5


def samples(counts: dict[str, int], group: int = 1) -> list[ImageSample]:
    """So many images of each class, some in a group each."""
    return [
        ImageSample(f"{label}{index}", "unused", label, group=f"{label} {index // group}" if group > 1 else None)
        for label, count in counts.items()
        for index in range(count)
    ]


def fold_of(found: list[ImageSample], fold: int, seed: int = 0, of: int = FOLDS) -> list[ImageSample]:
    section = Section(fold=Fold(number=fold, of=of))
    return [sample for sample in with_fold(found, section, seed) if sample.split == "test"]


def ids(found: list[ImageSample]) -> list[str]:
    return sorted(sample.id for sample in found)


@pytest.mark.parametrize("group", [1, 4])
def test_every_sample_is_tested_once_with_its_group_and_its_class_in_like_shares(group: int) -> None:
    found = samples({"a": 100, "b": 40}, group)
    folds = [fold_of(found, fold) for fold in range(1, FOLDS + 1)]
    assert ids([sample for fold in folds for sample in fold]) == ids(found)
    for fold in folds:
        assert Counter(sample.truth for sample in fold) == {"a": 20, "b": 8}
    if group > 1:
        places = [{sample.group for sample in fold} for fold in folds]
        assert sum(map(len, places)) == len(set().union(*places)) == 35


def test_samples_without_a_class_are_cut_by_groups_alone() -> None:
    found = [replace(sample, truth=None) for sample in samples({"a": 60}, 3)]
    folds = [fold_of(found, fold) for fold in range(1, FOLDS + 1)]
    assert [len(fold) for fold in folds] == [12] * FOLDS
    assert len({sample.group for fold in folds for sample in fold}) == 20


def test_folds_depend_on_the_seed_and_not_on_the_order() -> None:
    found = samples({"a": 50, "b": 50})
    shuffled = random.Random(1).sample(found, len(found))
    assert ids(fold_of(found, 2)) == ids(fold_of(shuffled, 2))
    assert ids(fold_of(found, 2)) != ids(fold_of(found, 2, seed=1))


def test_val_is_cut_from_the_other_folds_or_stays_as_it_is_named() -> None:
    found = samples({"a": 50, "b": 50}, 2)
    section = Section(fold=Fold(number=1, of=FOLDS))
    cut = divide_by_cases(with_fold(found, section, 0), None)
    assert {name: len(members) for name, members in cut.items()} == {"train": 72, "val": 8, "test": 20}
    assert not {each.group for each in cut["val"]} & {each.group for each in [*cut["train"], *cut["test"]]}
    named = [replace(each, split="val" if each.id.endswith("0") else None) for each in samples({"a": 50, "b": 50})]
    splits = divide_images(with_fold(named, section, 0), section)[0]
    assert {name: len(members) for name, members in splits.items()} == {"train": 72, "val": 10, "test": 18}


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (samples({"a": 50, "b": 3}), r"data.source=images: .*5 folds of b \(3\).*--folds to 3"),
        (samples({"a": 50, "b": 8}, 4), r"b \(2\).*--folds to 2"),
        (samples({"a": 50, "b": 1}), r"b \(1\).*without --folds"),
        ([replace(each, split="test") for each in samples({"a": 5})], "its own test split.*--folds"),
        ([], r"all samples \(0\).*--folds"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_key_and_the_remedy(found: list[ImageSample], says: str) -> None:
    with pytest.raises(UserError, match=says):
        fold_of(found, 1)


def test_groups_that_leave_a_fold_without_a_class_are_refused() -> None:
    both = [ImageSample(f"{label}{index}", "unused", label, group="all") for label in "ab" for index in range(20)]
    others = [ImageSample(f"{label}_{index}", "unused", label, group=label * 2) for label in "ab" for index in range(5)]
    with pytest.raises(UserError, match=r"groups are too large for 2 folds.*nothing of class.*--folds"):
        fold_of([*both, *others], 1, of=2)


def test_the_group_of_a_table_stays_together_in_every_split(tmp_path) -> None:
    rows = [f"{label}{index}.png,{label},{label}{index // 3}" for label in "ab" for index in range(30)]
    (tmp_path / "images.csv").write_text("\n".join(["path,label,group", *rows]))
    for row in rows:
        (tmp_path / row.partition(",")[0]).touch()
    keys = ["data.source=images", f"data.labels={tmp_path}/images.csv"]
    for more in ([], ["data.fold={number: 2, of: 5}"]):
        data = build(load_recipe("quickstart", ["data.labels_per_class=null", *keys, *more]))
        groups = {split: {sample.group for sample in data.samples(split)} for split in ("train", "val", "test")}
        assert sum(map(len, groups.values())) == 20
        assert len(data.samples("test")) == (12 if more else 6)
