"""Tables of predictions, and names that suit every file system."""

import csv
import json

import pytest

from vision_train.run.predictions import Prediction, as_file_name, names_apart, write_predictions

PREDICTIONS = [
    Prediction("a,b", [("tumour", 0.75), ("normal", 0.25)]),
    Prediction("c", [("normal", 0.625), ("tumour", 0.375)]),
]


def test_a_table_has_a_column_for_each_class(tmp_path):
    out = tmp_path / "new" / "out.csv"
    write_predictions(out, PREDICTIONS, "slide_id", ["normal", "tumour"])
    assert list(csv.reader(out.open())) == [
        ["slide_id", "label", "confidence", "normal", "tumour"],
        ["a,b", "tumour", "0.750000", "0.250000", "0.750000"],
        ["c", "normal", "0.625000", "0.625000", "0.375000"],
    ]


def test_lines_name_the_classes_likeliest_first(tmp_path):
    write_predictions(tmp_path / "out.jsonl", PREDICTIONS, "slide_id")
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert first == {"slide_id": "a,b", "label": "tumour", "confidence": 0.75, "top": {"tumour": 0.75, "normal": 0.25}}


def test_names_suit_every_file_system():
    assert as_file_name('../a/b:c?"d.tar') == "..-a-b-c-d.tar"
    assert len(as_file_name("ü" * 400 + "/1").encode()) <= 200


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (["007", "slide.1", "slide.2"], ["007", "slide.1", "slide.2"]),
        (["a/b", "a:b", "a-b"], ["a-b", "a-b (2)", "a-b (3)"]),
        (["a", "A"], ["a", "A (2)"]),
        (["a", "a-top"], ["a", "a-top (2)"]),
        (["a-top", "a"], ["a-top", "a (2)"]),
    ],
)
def test_no_file_of_one_id_is_anothers(ids, names):
    assert names_apart(ids, (".png", "-top.png")) == dict(zip(ids, names, strict=True))


def test_long_ids_are_told_apart():
    names = names_apart(["1" + "x" * 300, "2" + "x" * 300], (".png",)).values()
    assert len(set(names)) == 2
    assert max(map(len, names)) < 210
