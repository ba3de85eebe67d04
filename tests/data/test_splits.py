from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_train.data.classes import class_order, divide, draw_labels_per_class, label_map
from vision_train.data.sample import ImageSample
from vision_train.data.splits import whole_split
from vision_train.errors import UserError


def samples(counts: dict[str, int], split: str | None = None) -> list[ImageSample]:
    return [
        ImageSample(f"{split}/{label}/{index}", "unused", label, split)
        for label, count in counts.items()
        for index in range(count)
    ]


def labels(members: list[ImageSample]) -> Counter[str]:
    return Counter(str(sample.truth) for sample in members)


def ids(members: list[ImageSample]) -> list[str]:
    return [sample.id for sample in members]


def test_without_splits_a_tenth_of_each_class_goes_to_val_and_to_test() -> None:
    splits = divide(samples({"a": 100, "b": 20}), None)
    assert labels(splits["train"]) == {"a": 80, "b": 16}
    assert labels(splits["val"]) == labels(splits["test"]) == {"a": 10, "b": 2}


def test_named_splits_stay_and_only_the_missing_one_is_cut() -> None:
    named = samples({"a": 10, "b": 10}, "train") + samples({"a": 3, "b": 3}, "val")
    splits = divide(named, {"test": 0.3})
    assert labels(splits["train"]) == {"a": 7, "b": 7}
    assert labels(splits["val"]) == labels(splits["test"]) == {"a": 3, "b": 3}


def test_complete_splits_keep_their_order() -> None:
    named = [sample for split in ("train", "val", "test") for sample in samples({"b": 2, "a": 1}, split)]
    splits = divide(named, {"val": 0.5})
    assert [sample for split in ("train", "val", "test") for sample in splits[split]] == named


def test_an_image_that_joins_a_class_displaces_at_most_two_others() -> None:
    members = samples({"a": 40})
    for newcomer in range(100):
        before = divide(members, None)
        after = divide([*members, ImageSample(f"new/{newcomer}", "unused", "a")], None)
        kept = [set(ids(before[split])) & set(ids(after[split])) for split in ("val", "test")]
        assert sum(map(len, kept)) >= len(before["val"]) + len(before["test"]) - 2
        members = [*members, ImageSample(f"new/{newcomer}", "unused", "a")]


def test_the_order_of_the_source_does_not_matter() -> None:
    members = samples({"a": 50, "b": 50})
    there, back = divide(members, None), divide(members[::-1], None)
    assert {split: set(ids(there[split])) for split in there} == {split: set(ids(back[split])) for split in back}


def test_a_whole_split_is_cut_from_nothing() -> None:
    members = samples({"a": 2})
    assert whole_split(members, "test") == {"train": [], "val": [], "test": members}
    named = samples({"a": 2}, "val")
    assert whole_split([*samples({"a": 1}, "train"), *named], "val") == {"train": [], "val": named, "test": []}
    with pytest.raises(UserError, match=r"none of it is test.*val with --split"):
        whole_split(named, "test")


@given(
    counts=st.dictionaries(st.sampled_from("abcd"), st.integers(3, 40), min_size=1),
    val=st.floats(0.01, 0.49),
    test=st.floats(0.01, 0.5),
)
def test_splits_are_a_partition_with_every_class_in_each(counts: dict[str, int], val: float, test: float) -> None:
    all_samples = samples(counts)
    splits = divide(all_samples, {"val": val, "test": test})
    assert sorted(ids(splits["train"]) + ids(splits["val"]) + ids(splits["test"])) == sorted(ids(all_samples))
    for members in splits.values():
        assert set(labels(members)) == set(counts)


def test_too_few_images_to_split() -> None:
    with pytest.raises(UserError, match=r"class b: 2 training image.* too few to cut val and test from.*at least 3"):
        divide(samples({"a": 10, "b": 2}), None)


def test_the_label_map_is_sorted_or_fixed() -> None:
    splits = divide(samples({"b": 5, "a": 5}), None)
    assert label_map(splits) == ["a", "b"]
    assert label_map(splits, ["b", "c", "a"]) == ["b", "c", "a"]
    with pytest.raises(UserError, match=r"None/b/\d: label `b` is not one of the run's classes"):
        label_map(splits, ["a", "c"])


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["-1", "10", "2"], ["-1", "2", "10"]),
        (["010", "9", "1"], ["1", "9", "010"]),
        (["1", "01"], ["01", "1"]),
        (["10", "9", "b"], ["10", "9", "b"]),
        (["1.5", "10", "9"], ["1.5", "10", "9"]),
        (["class10", "class9"], ["class10", "class9"]),
    ],
)
def test_whole_numbers_are_ordered_by_value_and_other_names_as_text(names: list[str], ordered: list[str]) -> None:
    assert class_order(names) == ordered
    assert label_map({"train": samples(dict.fromkeys(names, 1))}) == ordered


def test_one_class_only() -> None:
    with pytest.raises(UserError, match=r"only one class, a; .*data.root.*data.labels"):
        label_map(divide(samples({"a": 10}), None))


@pytest.mark.parametrize("lacking", ["train", "val", "test"])
def test_a_class_missing_from_a_split(lacking: str) -> None:
    splits = {name: samples({"a": 2, "b": 2} if name != lacking else {"a": 2}) for name in ("train", "val", "test")}
    with pytest.raises(
        UserError, match=f"the {lacking} split has nothing of class b.*Add samples of it to {lacking}"
    ) as refused:
        label_map(splits)
    assert (f"remove the split {lacking}" in str(refused.value)) == (lacking != "train")


def test_few_label_subsets_are_stratified_seeded_and_nested() -> None:
    train = samples({"a": 30, "b": 12})
    four, ten = (draw_labels_per_class(train, count, seed=0) for count in (4, 10))
    assert labels(four) == {"a": 4, "b": 4}
    assert set(ids(four)) < set(ids(ten))
    assert draw_labels_per_class(train, 4, seed=1) != four
    with pytest.raises(UserError, match=r"labels_per_class is 13, .*: b \(12\)\. .* 12 or less"):
        draw_labels_per_class(train, 13, seed=0)


def test_all_classes_with_too_few_labels_are_named_up_to_five() -> None:
    train = samples(dict.fromkeys("abcdefg", 2) | {"h": 3})
    with pytest.raises(UserError, match=r"on: a \(2\), b \(2\), c \(2\), d \(2\), e \(2\) and 2 more classes\."):
        draw_labels_per_class(train, 3, seed=0)
