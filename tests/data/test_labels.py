"""Labels that are none, that are several, and names worth a look."""

import pytest

from vision_train.data.labels import (
    alike_names,
    in_declared_order,
    is_missing,
    listed_classes,
    several_in_one,
    suspicious_names,
    whole_numbers,
)
from vision_train.errors import UserError


def test_labels_that_say_that_there_is_none() -> None:
    assert all(
        map(is_missing, ("", "nan", "NaN", "NA", "n/a", "None", "NULL", "<NA>", "#N/A", "#REF!", "-", "?", "n.a."))
    )
    assert not any(map(is_missing, ("Nancy", "0", "no", "normal", "negative", "+", "-1")))
    assert not is_missing("none", ["none", "some"])


def test_labels_of_several_classes() -> None:
    alone = ["cat", "dog", "black/white", "tench, Tinca tinca", "new york", "12", "1.5", "5-6", "C++"]
    several = ["cat|dog", "a;b", "a | b", "['cat']", "0 1 0", "1,0", "cat,dog", "cat dog", "dog/cat", "cat & dog", "a|"]
    assert several_in_one([*alone, *several]) == sorted(several)
    assert several_in_one(["cat|dog", "cat"], ["cat|dog", "cat"]) == []


def test_classes_are_counted_on_one_line() -> None:
    assert listed_classes({"cat": {"train": 1200, "val": 3}, "a\nb": {"train": 1}}) == (
        r"cat (1,200 train, 3 val), a\nb (1 train)"
    )
    many = listed_classes({str(number): {"train": number} for number in range(1, 101)})
    assert many.endswith("10 (10 train), ... (100 in all, of 1 to 100 each)")


def test_names_that_are_rarely_those_of_classes() -> None:
    odd = ["runs", "nan", "None", "unlabelled", "images", "Annotations", "Training", "Unknown"]
    assert suspicious_names(["cat", *odd, "train station"]) == odd
    assert suspicious_names(odd, odd) == []


def test_names_that_are_nearly_the_same() -> None:
    alike = ["Cat", "cat", "CAT", "new york", "New_York"]
    assert alike_names([*alike, "dog", "C", "C++", "A-", "A"]) == alike
    assert alike_names(alike, alike) == []


def test_whole_numbers_that_were_made_floats() -> None:
    assert whole_numbers(["0.0", "1.0", "10.00", "2", "-1.0", "nan"]) == {
        **{"0.0": "0", "1.0": "1", "10.00": "10", "-1.0": "-1"}
    }
    assert whole_numbers(["1", "2"]) == whole_numbers(["1.0", "1.5"]) == whole_numbers(["1.0", "cat"]) == {}
    assert whole_numbers(["1.0", "2.0"], declared=["1.0", "2.0"]) == {}
    assert whole_numbers(["1.0", "other"], declared=["1", "other"]) == {"1.0": "1"}


def test_declared_classes_are_all_and_in_order() -> None:
    assert in_declared_order(["a", "b"], None) == ["a", "b"]
    assert in_declared_order(["a", "b"], ["b", "a"]) == ["b", "a"]
    with pytest.raises(UserError, match=r"data\.classes does not name c"):
        in_declared_order(["a", "b", "c"], ["b", "a"])
    with pytest.raises(UserError, match=r"data\.classes names c, .*nothing"):
        in_declared_order(["a", "b"], ["a", "b", "c"])
