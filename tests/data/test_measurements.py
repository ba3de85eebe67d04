"""Images with numbers in a csv, and drawn ones."""

from pathlib import Path
from typing import Any

import pytest
import torch

from vision_train.data.fold_section import Fold
from vision_train.data.measurements import Section
from vision_train.data.measurements.build import all_samples, build
from vision_train.data.measurements.look import look
from vision_train.data.toy.discs import COUNTS, TABLE_NAME, make_discs
from vision_train.errors import UserError
from vision_train.recipe import Recipe


def recipe(text: str, folder: Path, **keys: Any) -> Recipe:
    for number in range(10):
        (folder / f"{number}.png").touch()
    (folder / "numbers.csv").write_text(text)
    section = Section(labels=str(folder / "numbers.csv"), image_size=16, workers=0, **keys)
    return Recipe(task="regression", data=section, method=None)


LINES = "\n".join(f"{number}.png,{number / 2},{'test' if number > 7 else ''}" for number in range(10))


def test_the_only_further_column_is_the_number(tmp_path: Path) -> None:
    asked = recipe("path,Age\n" + "\n".join(f"{n}.png,{n / 2}" for n in range(10)), tmp_path)
    module = build(asked)
    assert module.classes == ["Age"]
    assert module.counts == {"train": 8, "val": 1, "test": 1}
    assert {sample.id: sample.truth for sample in all_samples(asked)}["3.png"] == (1.5,)
    assert "Age" in module.described()
    assert "Age from" in module.class_lines()[0]


def test_several_columns_are_named(tmp_path: Path) -> None:
    text = "path,age,Height,note\n" + "\n".join(f"{n}.png,{n},{n + 100},x" for n in range(10))
    with pytest.raises(UserError, match=r"3 columns could hold the number.*data\.targets=\[COLUMN\]"):
        build(recipe(text, tmp_path))
    module = build(recipe(text, tmp_path, targets=["Height", "age"]))
    assert module.classes == ["Height", "age"]
    with pytest.raises(UserError, match=r"no column weight .*data\.targets"):
        build(recipe(text, tmp_path, targets=["weight"]))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("12,5 cm", "line 2: age is `12,5 cm`; write a number"),
        ("inf", "line 2: age is `inf`"),
        ("1_000", "line 2: age is `1_000`"),
        ("1e300", "1e300.*at most"),
    ],
)
def test_what_is_no_number_is_refused(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(recipe(f'path,age\n0.png,"{cell}"\n', tmp_path))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (lambda n: 5, r"data\.labels=.*every training image has age 5"),
        (lambda n: 1_700_000_000 + n, r"age reaches from 170000000\d to .*32 bits; subtract"),
    ],
)
def test_numbers_that_nothing_can_be_learnt_of_are_refused(tmp_path: Path, numbers: Any, message: str) -> None:
    asked = recipe("path,age\n" + "\n".join(f"{n}.png,{numbers(n)}" for n in range(10)), tmp_path)
    with pytest.raises(UserError, match=message):
        build(asked)
    with pytest.raises(UserError, match=message):
        look(asked)
    assert build(asked, ["age"], only="test").counts["test"] == 10


def test_missing_numbers_stop_or_are_counted(tmp_path: Path) -> None:
    text = "path,age\n" + "\n".join(f"{n}.png,{'' if n == 4 else n}" for n in range(10))
    with pytest.raises(UserError, match=r"no number of 1 image: 4.png in line 6.*data\.on_bad=skip"):
        build(recipe(text, tmp_path))
    module = build(recipe(text, tmp_path, on_bad="skip"))
    assert sum(module.counts.values()) == 9
    assert "left out 1 image without a number" in module.notes[0]


def test_images_of_a_group_stay_together_and_shared_groups_are_told(tmp_path: Path) -> None:
    text = "path,age,group\n" + "\n".join(f"{n}.png,{n},patient {n // 2}" for n in range(10))
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(bytes([number]))
    module = build(recipe(text, tmp_path))
    groups = [{sample.group for sample in module.samples(split)} for split in ("train", "val", "test")]
    assert module.classes == ["age"]
    assert [len(each) for each in groups] == [3, 1, 1]
    named = "path,age,group,split\n" + "\n".join(
        f"{n}.png,{n},{n // 2},{'test' if n == 9 else 'val' if n < 2 else 'train'}" for n in range(10)
    )
    assert any("several splits" in note and "4" in note for note in build(recipe(named, tmp_path)).notes)


def test_folds_test_every_image_once_with_its_group(tmp_path: Path) -> None:
    text = "path,age,group\n" + "\n".join(f"{n}.png,{n},{n // 2}" for n in range(10))
    tested = [
        {sample.id for sample in build(recipe(text, tmp_path, fold=Fold(number=number, of=5))).samples("test")}
        for number in range(1, 6)
    ]
    assert sorted(name for names in tested for name in names) == sorted(f"{n}.png" for n in range(10))
    assert {frozenset(int(name[0]) // 2 for name in names) for names in tested} == {frozenset({n}) for n in range(5)}


def test_an_earlier_run_is_measured_on_its_own_columns_in_its_own_order(tmp_path: Path) -> None:
    text = "path,a,b\n" + "\n".join(f"{n}.png,{n},{n + 100}" for n in range(10))
    asked = recipe(text, tmp_path, targets=["b", "a"])
    module = build(asked, ["a", "b"])
    assert module.classes == ["a", "b"]
    assert {each.id: each.truth for each in module.samples("train")}["3.png"] == (3.0, 103.0)
    for targets in (["b"], ["a", "b", "c"]):
        with pytest.raises(UserError, match=r"data\.targets=.*the run has learnt \[a,b\]"):
            build(recipe(text, tmp_path, targets=targets), ["a", "b"])


def test_drawn_discs_are_the_same_from_a_table(tmp_path: Path) -> None:
    assert make_discs(tmp_path / "discs") == COUNTS
    modules = [
        build(Recipe(task="regression", data=section, method=None))
        for section in (
            Section(source="discs", image_size=48, workers=0),
            Section(labels=str(tmp_path / "discs" / TABLE_NAME), image_size=48, workers=0),
        )
    ]
    assert modules[0].classes == modules[1].classes == ["diameter"]
    batches = [next(iter(each.split_loader("val"))) for each in modules]
    assert batches[0]["target"].shape == (64, 1)
    assert torch.equal(batches[0]["target"], batches[1]["target"])
    assert torch.equal(batches[0]["image"], batches[1]["image"])
