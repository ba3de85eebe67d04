"""Tables of predictions."""

import csv
import json

import pytest

from vision_train.errors import UserError
from vision_train.run.predictions import check_outputs, open_predictions
from vision_train.tasks.predicted import CsvRows, Predicted, class_shares

TOP = ({"tumour": 0.75, "normal": 0.25}, {"normal": 0.625, "tumour": 0.375})
PREDICTIONS = [
    Predicted(
        name,
        {"label": next(iter(top)), "confidence": max(top.values()), "top": top},
        cells={"label": next(iter(top)), "confidence": max(top.values()), "normal": top["normal"]},
    )
    for name, top in zip(("a,b", "c"), TOP, strict=True)
]


def table(path) -> list[list[str]]:
    return list(csv.reader(path.open()))


def write_predictions(out, predictions, key, noun="samples", results=None) -> str:
    with open_predictions(out, key, results) as writer:
        for predicted in predictions:
            writer.add(predicted)
    return writer.counted(noun)


def test_a_table_has_the_cells_that_a_task_gives(tmp_path):
    out = tmp_path / "new" / "out.csv"
    write_predictions(out, PREDICTIONS, "slide_id")
    assert table(out) == [
        ["slide_id", "label", "confidence", "normal"],
        ["a,b", "tumour", "0.750000", "0.250000"],
        ["c", "normal", "0.625000", "0.625000"],
    ]


def test_a_table_has_the_numbers_and_texts_of_the_rows_where_a_task_gives_no_cells(tmp_path):
    rows = [{"age": 3, "boxes": [[0, 1]], "top": {"a": 1.0}}, {"age": 4.5, "sure": True}]
    write_predictions(tmp_path / "out.csv", [Predicted(str(n), row) for n, row in enumerate(rows)], "path")
    assert table(tmp_path / "out.csv") == [["path", "age", "sure"], ["0", "3", ""], ["1", "4.500000", "True"]]


def test_a_table_has_the_rows_of_samples_that_have_any_number_of_them(tmp_path):
    columns = ("label", "score")
    cells = {"a": [("x", 0.5), ("y,z", 0.25)], "none": [], "b": [("x", 1.0)]}
    predictions = [Predicted(name, {}, cells=CsvRows(columns, rows)) for name, rows in cells.items()]
    written = write_predictions(tmp_path / "out.csv", predictions, "path", "images")
    assert written == "3 rows of 3 images"
    assert table(tmp_path / "out.csv") == [
        ["path", "label", "score"],
        ["a", "x", "0.500000"],
        ["a", "y,z", "0.250000"],
        ["b", "x", "1.000000"],
    ]
    write_predictions(tmp_path / "out.csv", predictions[1:2], "path")
    assert table(tmp_path / "out.csv") == [["path", "label", "score"]]


def test_one_json_is_what_the_kind_of_data_makes_of_all_results(tmp_path):
    class Results:
        notes = ()

        def entries(self, name, results):
            return [{"name": name, "of": results}]

    predictions = [Predicted(name, {}, results=number) for number, name in enumerate("ab")]
    assert write_predictions(tmp_path / "out.json", predictions, "path", "images", Results()) == "2 results of 2 images"
    assert json.loads((tmp_path / "out.json").read_text()) == [{"name": "a", "of": 0}, {"name": "b", "of": 1}]
    with pytest.raises(UserError, match=r"out\.json: ends in neither \.jsonl nor \.csv$"):
        check_outputs(tmp_path / "out.json", None)


def test_nothing_takes_the_name_where_predicting_fails(tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("old")
    unfit = Predicted("b", {}, cells=CsvRows(("label",), [("x", "one too many")]))
    with pytest.raises(ValueError, match="zip"):
        write_predictions(out, [PREDICTIONS[0], unfit], "path")
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_class_called_like_a_column_keeps_its_probability():
    row = class_shares(["label", "cat"], [0.25, 0.75])
    assert row == {"label": "cat", "confidence": 0.75, "class label": 0.25, "cat": 0.75}


def test_lines_hold_the_whole_row_in_its_order(tmp_path):
    write_predictions(tmp_path / "out.jsonl", PREDICTIONS, "slide_id")
    first, second = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(first) == {"slide_id": "a,b", "label": "tumour", "confidence": 0.75, "top": TOP[0]}
    assert list(json.loads(second)["top"]) == ["normal", "tumour"]


def test_no_predictions_are_a_heading_or_nothing(tmp_path):
    for name, text in (("out.csv", "path\n"), ("out.jsonl", "")):
        write_predictions(tmp_path / name, [], "path")
        assert (tmp_path / name).read_text() == text


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"--out .*out\.txt: .*\.jsonl .*\.csv"):
        check_outputs(tmp_path / "out.txt", None)
    with pytest.raises(UserError, match=r"--out .*folder\.csv: is a folder"):
        check_outputs(tmp_path / "folder.csv", None)
    for out, render in (("file/out.csv", None), ("out.csv", tmp_path / "file")):
        with pytest.raises(UserError, match="file: cannot be written"):
            check_outputs(tmp_path / out, render)
