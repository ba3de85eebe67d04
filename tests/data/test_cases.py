"""Bags of one case stay in one split, unless the splits are given."""

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from vision_train.data.bags.bag import Bag
from vision_train.data.bags.samples import BagSample
from vision_train.data.cases import divide_by_cases, shared_cases
from vision_train.errors import UserError

BAG = Bag(torch.ones(1, 1))


def cases(counts: dict[str, int], slides: int = 2) -> list[BagSample]:
    return [
        BagSample(f"{label}{case}_{slide}", BAG, label, f"case {label}{case}")
        for label, count in counts.items()
        for case in range(count)
        for slide in range(slides)
    ]


def test_splits_are_stratified_and_keep_cases_together() -> None:
    samples = cases({"a": 40, "b": 20})
    splits = divide_by_cases(samples, {"test": 0.25})
    assert Counter(sample.truth for sample in splits["test"]) == {"a": 20, "b": 10}
    assert Counter(sample.truth for sample in splits["val"]) == {"a": 8, "b": 4}
    found = [{sample.group for sample in members} for members in splits.values()]
    assert sum(map(len, found)) == len(set.union(*found)) == 60
    assert sum(map(len, splits.values())) == len(samples)


def test_neither_order_nor_labels_of_others_decide_who_is_tested() -> None:
    samples = cases({"a": 40, "b": 20})
    shuffled = random.Random(0).sample(samples, len(samples))
    there, back = divide_by_cases(samples, None), divide_by_cases(shuffled, None)
    assert {name: {s.id for s in members} for name, members in there.items()} == {
        name: {s.id for s in members} for name, members in back.items()
    }


def test_named_splits_stay() -> None:
    named = [BagSample(f"{label}{number}", BAG, label, split="test") for label in "ab" for number in range(2)]
    splits = divide_by_cases(cases({"a": 10, "b": 10}, slides=1) + named, None)
    assert splits["test"] == named
    assert Counter(sample.truth for sample in splits["val"]) == {"a": 1, "b": 1}


def test_a_case_counts_for_the_class_of_most_of_its_slides() -> None:
    mixed = [BagSample(f"x{number}", BAG, label, "x") for number, label in enumerate("aab")]
    samples = [*mixed, *cases({"a": 2, "b": 3}, slides=1)]
    assert sum(map(len, divide_by_cases(samples, None).values())) == 8
    with pytest.raises(
        UserError, match=r"class b: 1 training case.* too few to cut val and test from; it needs at least 3"
    ):
        divide_by_cases([*mixed, *cases({"a": 2, "b": 1}, slides=1)], None)


def test_a_class_that_cases_hold_beside_another_needs_no_cases_of_its_own() -> None:
    both = [BagSample(f"p{number}{label}", BAG, label, f"p{number}") for number in range(11) for label in "ab"]
    splits = divide_by_cases([*both, BagSample("p11b", BAG, "b", "p11")], None)
    assert all({sample.truth for sample in splits[name]} == {"a", "b"} for name in ("train", "val", "test"))


def test_bags_of_training_and_of_no_split_are_of_one_case() -> None:
    samples = cases({"a": 20, "b": 20})
    half_named = [replace(sample, split="train" if number % 2 else None) for number, sample in enumerate(samples)]
    assert shared_cases(divide_by_cases(half_named, None), "bags") == []


def test_cases_that_given_splits_share_are_counted_and_named() -> None:
    names = ("train", "val", "test")
    given = [replace(sample, split=names[number % 2]) for number, sample in enumerate(cases({"a": 12}))]
    apart = [BagSample("x", BAG, "a", "case x", "test"), BagSample("y", BAG, "a", None, "test")]
    (note,) = shared_cases(divide_by_cases([*given, *apart], None), "bags")
    named = ", ".join(f"case a{number} (train and val)" for number in range(10))
    assert note == f"cases with bags in several splits, so the test metrics may be too high: {named}, ... (12 in all)"
    assert shared_cases({"train": [apart[0]], "test": [apart[1]]}, "bags") == []
