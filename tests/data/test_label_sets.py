"""Images that bear any number of labels: tables, label maps, splits, subsets and batches."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from vision_train.data.fold_section import Fold
from vision_train.data.folds import with_fold
from vision_train.data.image_tables import read_csv
from vision_train.data.images import Section
from vision_train.data.images.build import build
from vision_train.data.images.multi_label import LabelSetTargets
from vision_train.data.label_set_tables import read_label_sets
from vision_train.data.label_sets import (
    LabelSet,
    divide_label_sets,
    draw_positives_per_class,
    label_set_map,
    without_positives,
)
from vision_train.data.sample import ImageSample
from vision_train.data.sources import read_folder
from vision_train.data.toy.signs import COUNTS, SHARES, make_signs, signs_samples
from vision_train.errors import UserError
from vision_train.recipe import Recipe


def written(folder: Path, text: str) -> Path:
    for name in "abcdef":
        (folder / f"{name}.png").touch()
    table = folder / "labels.csv"
    table.write_text(text, encoding="utf-8")
    return table


def bearing(*names: str, unknown: tuple[str, ...] = ()) -> LabelSet:
    return LabelSet(names, unknown)


def sample(number: int, *names: str, split: str | None = None) -> ImageSample:
    return ImageSample(f"{number:04d}.png", "", bearing(*names), split)


def test_labels_are_divided_by_a_bar_and_an_empty_cell_bears_none(tmp_path: Path) -> None:
    table = written(tmp_path, "path,label,split\na.png,dog|cat,train\nb.png,,val\nc.png, cat | cat |,test\n")
    found = read_label_sets(table, None)
    assert [(each.id, each.truth, each.split) for each in found.samples] == [
        ("a.png", bearing("cat", "dog"), "train"),
        ("b.png", bearing(), "val"),
        ("c.png", bearing("cat"), "test"),
    ]
    assert "1 image with an empty label bear none" in " ".join(found.notes)


def test_columns_of_0_and_1_are_classes_and_a_missing_value_is_unknown(tmp_path: Path) -> None:
    table = written(
        tmp_path, "path,split,Pleural Effusion,Edema\na.png,train,1,0\nb.png,train,0.0,\nc.png,val,nan,1.0\n"
    )
    found = read_label_sets(table, None)
    assert [each.truth for each in found.samples] == [
        bearing("Pleural Effusion"),
        bearing(unknown=("Edema",)),
        bearing("Edema", unknown=("Pleural Effusion",)),
    ]
    assert "2 values missing" in found.notes[0]
    assert "Edema (1), Pleural Effusion (1)" in found.notes[0]


def test_columns_beside_that_of_labels_are_told(tmp_path: Path) -> None:
    found = read_label_sets(written(tmp_path, "path,label,dog\na.png,cat,1\nb.png,,0\n"), None)
    assert any("not read: dog" in note for note in found.notes)


def test_declared_classes_choose_the_columns(tmp_path: Path) -> None:
    table = written(tmp_path, "path,age,Edema\na.png,71,1\nb.png,35,0\n")
    assert [each.truth.present for each in read_label_sets(table, None, declared=["Edema"]).samples] == [("Edema",), ()]
    with pytest.raises(UserError, match=r"line 2: age is `71`.*data\.classes"):
        read_label_sets(table, None)
    with pytest.raises(UserError, match="no column Oedema"):
        read_label_sets(table, None, declared=["Oedema"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,cat;dog\n", r"line 2: `cat;dog` names several classes; divide labels by \|"),
        ("path,label\na.png,cat|nan\n", "line 2: `nan` stands among labels"),
        ("path,label\na.png,cat\nb.png,NA\n", r"no label of 1 image.*b.png in line 3.*data\.on_bad=skip"),
        ("path,split\na.png,train\n", "no column label, and no column of a class"),
        ("path,cat|dog\na.png,1\n", r"the column cat\|dog holds a \|"),
        ("path,label\na.png,cat\na.png,dog\n", "line 3: a.png is listed already in line 2"),
        ("path,cat\na.png,-1\n", "line 2: cat is `-1`"),
    ],
)
def test_what_a_table_may_not_say(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_label_sets(written(tmp_path, text), None)


def test_an_image_whose_label_is_missing_is_left_out_where_asked(tmp_path: Path) -> None:
    found = read_label_sets(written(tmp_path, "path,label\na.png,cat\nb.png,NA\n"), None, "skip")
    assert [each.id for each in found.samples] == ["a.png"]
    assert "b.png in line 3" in found.notes[0]


@pytest.mark.parametrize("label", ["cat|dog", "cat|", "|cat"])
def test_a_bar_makes_no_class_where_images_have_one_label(tmp_path: Path, label: str) -> None:
    table = written(tmp_path, f"path,label\na.png,cat\nb.png,{label}\n")
    with pytest.raises(UserError, match=r"line 3.*data\.multi_label=true, method\.loss=bce"):
        read_csv(table, None)
    (tmp_path / "photos" / label).mkdir(parents=True)
    (tmp_path / "photos" / label / "a.png").touch()
    with pytest.raises(UserError, match=r"holds a \|.*data\.multi_label=true"):
        read_folder(tmp_path / "photos")


def test_targets_say_what_is_unknown() -> None:
    targets = LabelSetTargets(["a", "b", "c"])([bearing("c", "a"), bearing("b", unknown=("a",))])["label"]
    assert torch.equal(targets.nan_to_num(-1), torch.tensor([[1.0, 0, 1], [-1, 1, 0]]))


def test_the_label_map_wants_every_class_present_and_absent_in_training() -> None:
    train = [sample(0, "b"), sample(1, "a"), sample(2)]
    assert label_set_map({"train": train, "val": []}) == ["a", "b"]
    with pytest.raises(UserError, match=r"no training image bears c \(c is in val alone\)"):
        label_set_map({"train": train, "val": [sample(3, "c")]})
    with pytest.raises(UserError, match="every training image bears a"):
        label_set_map({"train": [sample(0, "a"), sample(1, "a", "b")]})
    with pytest.raises(UserError, match=r"0001.png: a is not one of the run's classes"):
        label_set_map({"train": train}, fixed=["b"])
    assert "no image of val bears b" in without_positives({"train": train, "val": [sample(3, "a")]}, ["a", "b"])[0]


def test_splits_hold_about_the_same_share_of_every_class() -> None:
    samples = [ImageSample(each.id, "", each.truth) for each in signs_samples()]
    splits = divide_label_sets(samples, {"val": 0.2, "test": 0.1})
    assert sorted(each.id for members in splits.values() for each in members) == sorted(each.id for each in samples)
    assert len(splits["val"]) == pytest.approx(0.2 * len(samples), rel=0.03)
    for name in SHARES:
        shares = [sum(name in each.truth.present for each in members) / len(members) for members in splits.values()]
        assert max(shares) / min(shares) < 1.3, name
    again = divide_label_sets(samples[::-1], {"val": 0.2, "test": 0.1})
    assert {each.id for each in again["val"]} == {each.id for each in splits["val"]}


def test_images_of_a_group_stay_together(tmp_path: Path) -> None:
    for number in range(24):
        (tmp_path / f"{number}.png").write_bytes(bytes([number]))
    lines = [f"{number}.png,{'cat|dog' if number % 3 else 'dog'},patient {number // 4}" for number in range(24)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,group", *lines]))
    found = read_label_sets(tmp_path / "labels.csv", None).samples
    splits = divide_label_sets(found, {"val": 0.2, "test": 0.2})
    groups = [{sample.group for sample in members} for members in splits.values()]
    assert all(groups)
    assert sum(map(len, groups)) == len(set().union(*groups)) == 6


@pytest.mark.parametrize("group", [1, 3])
def test_folds_hold_whole_groups_and_each_class_in_like_shares(group: int) -> None:
    names = [("rare",) if number % 20 == 0 else ("often",) if number % 2 else () for number in range(300)]
    found = [
        ImageSample(f"{n:03d}", "", bearing(*names[n]), group=None if group == 1 else str(n // group))
        for n in range(300)
    ]
    for seed in range(4):
        folds = [
            [each for each in with_fold(found, Section(fold=Fold(number=number, of=5)), seed) if each.split == "test"]
            for number in range(1, 6)
        ]
        assert sorted(each.id for fold in folds for each in fold) == [each.id for each in found]
        assert sum(len({each.group or each.id for each in fold}) for fold in folds) == 300 // group
        for name in ("rare", "often"):
            held = [sum(name in each.truth.present for each in fold) for fold in folds]
            assert max(held) - min(held) <= (0 if name == "rare" else group), (name, held)
    with pytest.raises(UserError, match=r"20 folds of rare \(15\).*--folds to 15"):
        with_fold(found, Section(fold=Fold(number=1, of=20)), 0)


def test_the_few_images_of_a_rare_class_stay_to_be_learnt_from() -> None:
    samples = [sample(n, "common") for n in range(40)] + [sample(90, "rare"), sample(91, "rare", "common")]
    splits = divide_label_sets(samples, None)
    assert sum("rare" in each.truth.present for each in splits["train"]) == 2
    assert splits["val"]
    assert splits["test"]


def test_a_subset_holds_so_many_of_each_class_and_grows_with_the_number() -> None:
    train = [each for each in signs_samples() if each.split == "train"]
    drawn = {count: draw_positives_per_class(train, count, seed=3) for count in (5, 20)}
    for count, members in drawn.items():
        held = Counter(name for each in members for name in each.truth.present)
        assert min(held.values()) >= count
        assert sum(not each.truth.present for each in members) >= count
        assert len(members) <= count * (len(SHARES) + 1)
    assert {each.id for each in drawn[5]} <= {each.id for each in drawn[20]}
    with pytest.raises(UserError, match=r"ring \(\d+\).*Set it to"):
        draw_positives_per_class(train, 200, seed=0)


def test_drawn_signs_are_the_same_from_a_table(tmp_path: Path) -> None:
    assert make_signs(tmp_path / "signs") == COUNTS
    table = str(tmp_path / "signs" / "labels.csv")
    modules = [
        build(Recipe(task="classification", data=section, method=None))
        for section in (
            Section(source="signs", multi_label=True, image_size=48, workers=0),
            Section(labels=table, multi_label=True, image_size=48, workers=0),
        )
    ]
    assert modules[0].classes == modules[1].classes == sorted(SHARES)
    assert modules[0].class_counts == modules[1].class_counts
    batches = [next(iter(each.split_loader("val"))) for each in modules]
    assert torch.equal(batches[0]["label"], batches[1]["label"])
    assert torch.equal(batches[0]["image"], batches[1]["image"])
