"""Counts and names in messages."""

import pytest

from vision_train.wording import count_of, first_named


@pytest.mark.parametrize(
    ("noun", "one"),
    [
        *(("images", "image"), ("boxes", "box"), ("branches", "branch"), ("classes", "class")),
        *(("instances", "instance"), ("validation expressions", "validation expression")),
    ],
)
def test_one_of_a_kind_is_told_in_the_singular(noun, one):
    assert [count_of(count, noun) for count in (0, 1, 1200)] == [f"0 {noun}", f"1 {one}", f"1,200 {noun}"]


def test_ten_names_are_listed_and_the_others_counted():
    assert first_named(["a"]) == "a"
    assert first_named(["a", "b\n"]) == "a, b\\n (2 in all)"
    assert first_named([str(number) for number in range(12)]).endswith(" 8, 9, ... (12 in all)")
