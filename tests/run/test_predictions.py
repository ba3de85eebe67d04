"""Tables of predictions."""

import csv
import json

from vision_train.run.predictions import Prediction, write_predictions

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
