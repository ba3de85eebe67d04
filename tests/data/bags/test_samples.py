import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vision_train.data.bags.bag import Bag
from vision_train.data.bags.index import BagIndex, index_bags
from vision_train.data.bags.join import join_bags
from vision_train.data.bags.samples import (
    BagSample,
    FeatureKind,
    check_feature_kind,
    feature_kind,
    map_labels,
)
from vision_train.data.bags.tables import Labels, SlideLabel, SlideSplits
from vision_train.errors import UserError


def write(folder: Path, *ids: str, width: int = 3) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for bag_id in ids:
        np.save(folder / f"{bag_id}.npy", np.ones((2, width), np.float32))


def listed(*ids: str, **labels: Any) -> Labels:
    return Labels({**{bag_id: SlideLabel("0") for bag_id in ids}, **labels}, {})


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(UserError) as refused:
        join_bags(*arguments, **options)
    return str(refused.value)


def test_labels_say_what_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c")
    joined = join_bags(index_bags(tmp_path), listed(b=SlideLabel("1", "case", "val"), a=SlideLabel("0", None, "train")))
    assert [(sample.id, sample.truth, sample.group, sample.split) for sample in joined.samples] == [
        ("b", "1", "case", "val"),
        ("a", "0", None, "train"),
    ]
    assert joined.notes() == ["left out, as they have no label: c"]


def test_splits_say_what_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c", "d")
    splits = {"a": "train", "b": "test"}
    joined = join_bags(index_bags(tmp_path), listed("a", "b", "c", "gone"), SlideSplits(splits))
    assert {sample.id: sample.split for sample in joined.samples} == splits
    assert joined.notes() == [
        "left out, as they have no label: d",
        "left out, as they are in no split: c, gone (2 in all)",
    ]


def test_bad_bags_that_nobody_asked_for_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (tmp_path / "broken.npy").touch()
    assert len(join_bags(index_bags(tmp_path), listed("a")).samples) == 1


def test_labels_of_the_files_themselves(written: Any, labels: dict[str, str]) -> None:
    index = index_bags(written("acmil"))
    samples = join_bags(index).samples
    assert {sample.id: sample.truth for sample in samples} == labels
    assert [sample.split for sample in join_bags(index, splits=SlideSplits({"007": "test"})).samples] == ["test"]


def test_no_labels_at_all(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    index = index_bags(tmp_path)
    assert "the features come without labels; name them with data.labels=FILE.csv" in refusal(index)
    assert [sample.truth for sample in join_bags(index, labelled=False).samples] == [None, None]


def test_everything_that_is_wrong_is_named_counted_or_skipped(tmp_path: Path) -> None:
    write(tmp_path, *(f"good_{number}" for number in range(3)))
    write(tmp_path, "wide", width=5)
    (tmp_path / "broken.npy").touch()
    index = index_bags(tmp_path)
    labels = listed("good_0", "good_1", "good_2", "wide", "broken", *(f"absent_{number}" for number in range(12)))
    labels.bad["twice"] = "listed more than once in labels.csv"
    absent = ", ".join(f"absent_{number}" for number in range(10))
    assert refusal(index, labels) == (
        "15 bag(s) cannot be used. broken: empty file (0 bytes); twice: listed more than once in labels.csv; "
        f"{absent}, ... (12 in all): no features in {tmp_path}; wide: 5 features an instance, where 3 bag(s) have 3. "
        "Mend them, or set data.on_bad=skip to go on without such samples"
    )
    joined = join_bags(index, labels, on_bad="skip")
    assert [sample.id for sample in joined.samples] == ["good_0", "good_1", "good_2"]
    assert len(joined.skipped) == 15
    assert joined.notes()[2] == f"skipped {absent}, ... (12 in all): no features in {tmp_path}"


def test_slides_in_the_splits_without_a_label(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    message = refusal(index_bags(tmp_path), listed("a"), SlideSplits({"a": "train", "b": "test"}))
    assert message.startswith("1 bag(s) cannot be used. b: no label.")


@pytest.mark.parametrize(("there", "here"), [("7", "007"), ("12.0", "012"), ("0", "000")])
def test_item_8_ids_that_a_spreadsheet_took_for_numbers(tmp_path: Path, there: str, here: str) -> None:
    write(tmp_path, here, "slide")
    message = refusal(index_bags(tmp_path), listed(there, "slide"))
    assert f"of ids that are the same number, as `{here}` is to `{there}`; write ids as text" in message


def test_item_8_ids_with_leading_zeros_are_text(tmp_path: Path) -> None:
    write(tmp_path, "007", "07", "7")
    assert [sample.id for sample in join_bags(index_bags(tmp_path), listed("07", "7")).samples] == ["07", "7"]


def test_ids_with_endings_and_as_floats_are_those_of_the_features(tmp_path: Path) -> None:
    write(tmp_path, "12", "slide")
    write(tmp_path / "old", "ignored")
    splits = SlideSplits({"12": "train", "slide.h5": "test"})
    joined = join_bags(index_bags(tmp_path), listed("12.0", "slide.npy"), splits)
    assert [(sample.id, sample.truth, sample.split) for sample in joined.samples] == [
        ("12", "0", "train"),
        ("slide", "0", "test"),
    ]
    said = "\n".join(joined.notes())
    for part in ("old (1)", "floats: 12.0 is 12", "slide.npy is slide", "slide.h5 is slide"):
        assert part in said


def test_labels_that_are_none_or_several(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c")
    labels = Labels({bag_id: SlideLabel(label) for bag_id, label in zip("abc", ("x", "nan", "y"), strict=True)}, {})
    message = refusal(index_bags(tmp_path), labels)
    assert message.startswith("1 bag(s) cannot be used. b: label `nan`")
    assert "data.on_bad=skip" in message
    assert [sample.id for sample in join_bags(index_bags(tmp_path), labels, on_bad="skip").samples] == ["a", "c"]
    assert len(join_bags(index_bags(tmp_path), labels, declared=["nan"]).samples) == 3
    labels.slides["b"] = SlideLabel("x|y")
    for on_bad in ("error", "skip"):
        assert re.search(r"`x\|y` of b.*data\.classes", refusal(index_bags(tmp_path), labels, on_bad=on_bad))


def test_bags_in_no_split_are_left_out_where_others_are_in_one(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c")
    slides = listed("b", "c", a=SlideLabel("0", None, "test"))
    joined = join_bags(index_bags(tmp_path), slides)
    assert [sample.id for sample in joined.samples] == ["a"]
    assert joined.notes() == ["left out, as they are in no split: b, c (2 in all)"]
    assert len(join_bags(index_bags(tmp_path), listed("a", "b", "c")).samples) == 3


def test_labels_that_were_made_floats_are_whole_numbers(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c")
    slides = Labels({bag_id: SlideLabel(label) for bag_id, label in zip("abc", ("1.0", "1", "2.0"), strict=True)}, {})
    joined = join_bags(index_bags(tmp_path), slides)
    assert [sample.truth for sample in joined.samples] == ["1", "1", "2"]
    assert "1.0 is 1" in joined.notes()[0]
    declared = join_bags(index_bags(tmp_path), slides, declared=["1.0", "1", "2.0"])
    assert [sample.truth for sample in declared.samples] == ["1.0", "1", "2.0"]


def test_mixed_encoders(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c", "d")
    entries = index_bags(tmp_path).entries
    encoders = {"a": "uni", "b": "uni", "c": "conch", "d": None}
    index = BagIndex(tmp_path, {bag_id: replace(entry, encoder=encoders[bag_id]) for bag_id, entry in entries.items()})
    labels = listed("a", "b", "c", "d")
    assert "c: features of the encoder conch, where 2 bag(s) have those of uni." in refusal(index, labels)
    assert len(join_bags(index, labels, on_bad="skip").samples) == 3


def test_nothing_is_left(tmp_path: Path) -> None:
    write(tmp_path, "a")
    message = refusal(index_bags(tmp_path), listed("b"), on_bad="skip")
    assert message == f"{tmp_path}: no bag is left. b: no features in {tmp_path}"


def test_feature_kind_another_encoder_than_the_checkpoint_learned_from(written: Any) -> None:
    found = feature_kind(join_bags(index_bags(written("trident")), labelled=False).samples)
    assert found == FeatureKind(4, "uni")
    for learned in (found, FeatureKind(4, None)):
        check_feature_kind(found, learned)
    with pytest.raises(UserError, match="those of the encoder uni, but the network learned from those of conch"):
        check_feature_kind(found, FeatureKind(4, "conch"))
    with pytest.raises(UserError, match="the bags have 4 features an instance, but the network learned from 8"):
        check_feature_kind(found, FeatureKind(8, "uni"))
    assert feature_kind([BagSample("a", BAG)]) == FeatureKind(1, None)


BAG = Bag(torch.ones(1, 1))


def test_label_maps() -> None:
    samples = [BagSample(str(label), BAG, str(label)) for label in range(7)]
    merged = map_labels(samples, {"0": "0", "1": "0", "2": "0", "3": "1", "4": "1", "5": "2", "6": "2"})
    assert [sample.truth for sample in merged] == ["0", "0", "0", "1", "1", "2", "2"]
    with pytest.raises(UserError, match=r"data.label_map does not say what becomes of the label `5` of 5; `6` of 6$"):
        map_labels(samples, {str(label): "any" for label in range(5)})
