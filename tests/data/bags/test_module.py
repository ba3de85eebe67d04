"""From the data section of a recipe to splits of bags and their batches."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vision_train.data.bags import Section
from vision_train.data.bags.build import BagDataModule, build
from vision_train.errors import UserError
from vision_train.recipe import Recipe

WIDTH = 4


def write(folder: Path, ids: Sequence[str], width: int = WIDTH, encoder: str = "uni") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, bag_id in enumerate(ids):
        features = torch.full((1 + number % 3, width), float(number))
        save_file({"features": features}, folder / f"{bag_id}.safetensors", {"encoder": encoder})


def table(path: Path, header: str, rows: Sequence[Sequence[str]]) -> str:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return str(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Forty bags in twenty cases of two classes, the labels of which are 0 and 1, in turn."""
    ids = [f"{number:03d}" for number in range(40)]
    write(tmp_path / "bags", ids)
    rows = [(f"case {int(bag_id) // 2}", bag_id, str(int(bag_id) // 2 % 2)) for bag_id in ids]
    table(tmp_path / "labels.csv", "case_id,slide_id,label", rows)
    return tmp_path


def labelled_bags(
    section: Section, seed: int = 0, classes: list[str] | None = None, only: str | None = None
) -> BagDataModule:
    return build(Recipe(task="bags", seed=seed, data=section, method=None), classes, only)


def module(place: Path, /, **keys: Any) -> BagDataModule:
    data = {"root": str(place / "bags"), "labels": str(place / "labels.csv"), "workers": 0, "batch_size": 1}
    return labelled_bags(Section(**data | keys))


def ids_of(bags: BagDataModule) -> dict[str, set[str]]:
    return {split: {sample.id for sample in bags.samples(split)} for split in bags.counts}


def refusal(place: Path, /, **keys: Any) -> str:
    with pytest.raises(UserError) as refused:
        module(place, **keys)
    return str(refused.value)


def test_shares_are_cut_by_cases_and_classes(root: Path) -> None:
    bags = module(root, splits={"val": 0.2, "test": 0.3})
    assert bags.counts == {"train": 20, "val": 8, "test": 12}
    cases = [{int(bag_id) // 2 for bag_id in ids} for ids in ids_of(bags).values()]
    assert sum(map(len, cases)) == len(set.union(*cases)) == 20
    for split in bags.counts:
        assert len(set(Counter(sample.truth for sample in bags.samples(split)).values())) == 1
    assert bags.classes == ["0", "1"]
    assert bags.notes == []
    assert bags.described() == "20 train, 8 val, 12 test bags of 2 classes, 4 features of uni an instance"


def test_shares_are_those_of_every_seed(root: Path) -> None:
    data = module(root).section
    first, second = (ids_of(labelled_bags(data, seed)) for seed in (0, 1))
    assert first == second


def test_a_file_of_splits_decides_and_others_are_named(root: Path) -> None:
    splits = {"train": ["000", "001", "002"], "val": ["004", "006"], "test": ["008", "010"]}
    rows = [(str(row), *(splits[name][row] if row < len(splits[name]) else "" for name in splits)) for row in range(3)]
    bags = module(root, splits=table(root / "splits_0.csv", ",train,val,test", rows))
    assert ids_of(bags) == {name: set(ids) for name, ids in splits.items()}
    assert len(bags.notes) == 1
    assert bags.notes[0].startswith("left out, as they are in no split: 003, 005, ")


def test_cases_that_a_file_of_splits_divides_are_named(root: Path) -> None:
    rows = [(f"{n:03d}", "test" if n in (5, 9) else "val" if n in (10, 11, 12, 13) else "train") for n in range(40)]
    notes = module(root, splits=table(root / "splits.csv", "slide_id,split", rows)).notes
    shared = "case 2 (train and test), case 4 (train and test) (2 in all)"
    assert f"cases with bags in several splits, so the test metrics may be too high: {shared}" in notes


def test_splits_of_the_table_of_labels_stay(root: Path) -> None:
    rows = [(f"{number:03d}", str(number % 2), "test" if number >= 30 else "train") for number in range(40)]
    table(root / "labels.csv", "slide_id,label,split", rows)
    bags = module(root)
    assert ids_of(bags)["test"] == {f"{number:03d}" for number in range(30, 40)}
    assert bags.counts == {"train": 26, "val": 4, "test": 10}


def test_labels_are_mapped_to_classes_in_order(root: Path) -> None:
    assert module(root, label_map={"0": "normal", "1": "malignant"}).classes == ["malignant", "normal"]
    assert refusal(root, label_map={"0": "normal"}).startswith(
        "data.label_map does not say what becomes of the label `1` of "
    )
    assert refusal(root, label_map={"0": "any", "1": "any"}).startswith("only one class, any;")


def test_labels_of_digit_bags_are_mapped_too() -> None:
    bags = labelled_bags(Section(source="digit_bags", label_map={"0": "without", "1": "with nines"}))
    assert bags.classes == ["with nines", "without"]
    assert bags.counts == {"train": 100, "val": 60, "test": 200}


def test_digit_bags_follow_variant_and_seed() -> None:
    def first(seed: int, **keys: Any) -> torch.Tensor:
        return labelled_bags(Section(source="digit_bags", **keys), seed).samples("train")[0].bag.features

    assert torch.equal(first(0), first(0, variant="rare"))
    assert len(first(0)) != len(first(0, variant="patterns"))
    assert len(first(0)) != len(first(1))


def test_what_the_features_are_is_filled_in(root: Path) -> None:
    data = module(root).section
    assert (data.feature_width, data.encoder) == (WIDTH, "uni")
    assert module(root, feature_width=WIDTH, encoder="uni").section == data


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"feature_width": 8}, "the bags have 4 features an instance, but the network learned from 8"),
        (
            {"encoder": "conch"},
            "the features are those of the encoder uni, but the network learned from those of conch",
        ),
        ({"root": "nowhere"}, "nowhere: no such file or folder"),
        ({"labels": "nowhere.csv"}, "nowhere.csv: No such file"),
        ({"splits": "nowhere.csv"}, "nowhere.csv: No such file"),
        ({"labels": None}, "the features come without labels; name them with data.labels=FILE.csv"),
        ({"labels_per_class": 50}, "data.labels_per_class is 50, but these classes have fewer to train on: 0 ("),
    ],
)
def test_what_does_not_fit_is_refused(root: Path, keys: dict[str, Any], message: str) -> None:
    assert message in refusal(root, **keys)


def test_no_bag_to_learn_from(root: Path) -> None:
    rows = [(f"{number:03d}", "val" if number % 2 else "test") for number in range(40)]
    splits = table(root / "splits.csv", "slide_id,split", rows)
    assert refusal(root, splits=splits).endswith("no bag to learn from; all of them are val or test")


def test_classes_that_a_split_lacks(root: Path) -> None:
    def split(**of_label: str) -> str:
        rows = [(f"{n:03d}", "train" if n < 30 else of_label["one" if n // 2 % 2 else "zero"]) for n in range(40)]
        return table(root / "splits.csv", "slide_id,split", rows)

    notes = module(root, splits=split(zero="val", one="test")).notes
    assert notes == [
        "the val split has no bag of class 1; AUROC cannot be measured there, and where run.select needs it, the lower "
        "loss chooses the epoch",
        "the test split has no bag of class 0; AUROC cannot be measured there",
    ]
    labels = table(root / "three.csv", "slide_id,label", [(f"{n:03d}", str(n % 3)) for n in range(40)])
    rows = [(f"{n:03d}", "train" if n < 30 else "test" if n % 3 else "val" if n == 39 else "train") for n in range(40)]
    rows[38] = ("038", "val")
    notes = module(root, labels=labels, splits=table(root / "splits.csv", "slide_id,split", rows)).notes
    assert notes == [
        "the val split has no bag of class 1; its AUROC is over the others",
        "the test split has no bag of class 0; its AUROC is over the others",
    ]
    rows = [(f"{n:03d}", "val" if n // 2 % 2 else "train") for n in range(40)]
    splits = table(root / "splits.csv", "slide_id,split", rows)
    assert refusal(root, splits=splits).startswith("only one class, 0;")
    rows = [(f"{n:03d}", str(n % 3), "val" if n % 3 == 2 else "train") for n in range(40)]
    table(root / "labels.csv", "slide_id,label,split", rows)
    assert "label `2` is not one of the run's classes: ['0', '1']" in refusal(root)


def test_few_labels_are_drawn_with_the_seed_from_training_alone(root: Path) -> None:
    data = module(root, labels_per_class=3).section
    drawn = [labelled_bags(data, seed) for seed in (0, 0, 1)]
    for bags in drawn:
        assert Counter(sample.truth for sample in bags.samples("train")) == {"0": 3, "1": 3}
        assert ids_of(bags)["test"] == ids_of(module(root))["test"]
    first, again, other = (ids_of(bags)["train"] for bags in drawn)
    assert first == again != other
    assert first <= ids_of(module(root))["train"]


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_bags_that_cannot_be_used_are_named_and_counted(root: Path, on_bad: str) -> None:
    (root / "bags" / "003.safetensors").unlink()
    (root / "bags" / "005.safetensors").write_bytes(b"")
    save_file({"features": torch.zeros(0, WIDTH)}, root / "bags" / "007.safetensors")
    reasons = {"003": "no features in", "005": "empty file (0 bytes)", "007": "empty: it has no instances"}
    if on_bad == "error":
        message = refusal(root)
        assert message.startswith("3 bag(s) cannot be used. ")
        assert message.endswith("Mend them, or set data.on_bad=skip to go on without such samples")
        assert all(f"{bag_id}: {reason}" in message for bag_id, reason in reasons.items())
        return
    bags = module(root, on_bad="skip")
    assert sum(bags.counts.values()) == 37
    assert len(bags.notes) == 3
    for bag_id, reason in reasons.items():
        assert any(note.startswith(f"skipped {bag_id}: {reason}") for note in bags.notes)


def test_batches_are_padded_and_follow_the_label_map(root: Path) -> None:
    bags = module(root, batch_size=3, label_map={"0": "b", "1": "a"})
    (loader,) = bags.evaluation_loaders("test")
    samples = {sample.id: sample for sample in bags.samples("test")}
    seen = []
    for batch in loader:
        for row, bag_id in enumerate(batch["id"]):
            number = int(bag_id)
            own = batch["features"][row][~batch["padding_mask"][row]]
            assert own.shape == (1 + number % 3, WIDTH)
            assert (own == number).all()
            assert bags.classes[batch["label"][row]] == samples[bag_id].truth
        seen += batch["id"]
    assert sorted(seen) == sorted(samples)


def test_bags_of_another_run_are_one_split_with_its_classes(root: Path) -> None:
    data = module(root).section
    bags = labelled_bags(data, 0, classes=["1", "0"], only="val")
    assert bags.counts == {"train": 0, "val": 40, "test": 0}
    assert bags.classes == ["1", "0"]
    with pytest.raises(UserError, match=r"label `0` is not one of the run's classes: \['1', '2'\]"):
        labelled_bags(data, 0, classes=["1", "2"], only="val")
    write(root / "others", ["a"], encoder="conch")
    others = table(root / "others.csv", "slide_id,label", [("a", "0")])
    with pytest.raises(UserError, match="those of the encoder conch, but the network learned from those of uni"):
        labelled_bags(Section(**{**vars(data), "root": str(root / "others"), "labels": others}), 0, ["0", "1"], "test")


def test_bags_of_unlike_features_are_misfits(root: Path) -> None:
    np.save(root / "bags" / "003.npy", np.ones((2, 7), np.float32))
    (root / "bags" / "003.safetensors").unlink()
    assert "003: 7 features an instance, where 39 bag(s) have 4" in refusal(root)
