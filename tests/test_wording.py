"""Counts and names in messages."""

import re
from pathlib import Path

import pytest

import vision_train
from vision_train.wording import count_of, first_named, percent


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


def test_a_share_is_told_with_a_space_and_as_many_decimals_as_asked_for():
    assert [percent(0.07), percent(0.07, 1), percent(1)] == ["7 %", "7.0 %", "100 %"]


def test_no_share_is_told_in_another_way():
    """Python's own format of percentages has no space, and tiles, tables and charts have one."""
    sources = Path(vision_train.__file__).parent.rglob("*.py")
    assert [file.name for file in sources if re.search(r":[<>\d.]*%\}", file.read_text(encoding="utf-8"))] == []
