import json
from pathlib import Path

import pytest

from vision_train.data.bags.tables import SlideLabel, read_labels, read_splits
from vision_train.errors import UserError
from vision_train.wording import first_named


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def test_item_8_labels_of_clam(table: Path) -> None:
    write(table, ",case_id,slide_id,label\n0,patient_0,007,tumor_tissue\n1,patient_0,008.svs,normal_tissue\n,,,\n")
    labels = read_labels(table)
    assert labels.bad == {}
    assert labels.slides == {
        "007": SlideLabel("tumor_tissue", "patient_0"),
        "008": SlideLabel("normal_tissue", "patient_0"),
    }


def test_item_8_labels_and_splits_of_bracs(table: Path) -> None:
    write(
        table,
        ",case_id,slide_id,split_info,full_path,label\n"
        "0,patient_0,BRACS_1,test,/BRACS_1.svs,4\n1,patient_1,BRACS_2,Train,/BRACS_2.svs,0\n2,patient_2,BRACS_3,,/,0\n",
    )
    splits = {bag_id: slide.split for bag_id, slide in read_labels(table).slides.items()}
    assert splits == {"BRACS_1": "test", "BRACS_2": "train", "BRACS_3": None}
    assert read_splits(table).slides == {"BRACS_1": "test", "BRACS_2": "train"}


def test_item_8_labels_of_json(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "labels.json", json.dumps({"007": 1, "b.svs": "tumour", "c": None})))
    assert list(labels.bad) == ["c"]
    assert {bag_id: slide.label for bag_id, slide in labels.slides.items()} == {"007": "1", "b": "tumour"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_item_8_whatever_a_spreadsheet_writes(table: Path, encoding: str, delimiter: str) -> None:
    lines = [["slide_id", "label", "remark"], ["0012", "Übergang", "a"], ["  b ", "normal", ""], ["c", "normal"]]
    write(table, "\r\n".join(delimiter.join(cells) for cells in lines), encoding)
    slides = read_labels(table).slides
    assert {bag_id: slide.label for bag_id, slide in slides.items()} == {
        "0012": "Übergang",
        "b": "normal",
        "c": "normal",
    }


def test_a_missing_case_is_no_patient(table: Path) -> None:
    labels = read_labels(write(table, "slide_id,case_id,label\na,nan,0\nb,NA,1\nc,,1\nd,p,0\n"))
    assert [slide.case for slide in labels.slides.values()] == [None, None, None, "p"]
    assert "no case_id of 3 slides" in labels.notes[0]
    assert "a, b, c (3 in all)" in labels.notes[0]
    assert read_labels(write(table, "slide_id,label\na,0\n")).notes == []


def test_slides_may_be_called_0_and_1(table: Path) -> None:
    assert read_splits(write(table, "train,test\n0,1\n")).slides == {"0": "train", "1": "test"}


def test_slides_without_a_label_and_slides_listed_twice(table: Path) -> None:
    write(table, "slide_id,label\na,1\nb,\nc,0\na.svs,0\n")
    labels = read_labels(table)
    assert list(labels.slides) == ["c"]
    assert labels.bad == {"a": f"listed more than once in {table}", "b": f"no label in {table}"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column slide_id and label (found: nothing)"),
        ("slide,label\na,1\n", "no column slide_id (found: slide, label). The first line must name the columns"),
        ("slide_id,label,label\na,1,2\n", "two columns are called label"),
        ("slide_id,label\n", "no slides in it"),
        ("slide_id,label\n,1\n", "line 2: the slide_id is empty"),
        ("slide_id,label,split\na,1,later\n", "line 2: split is `later`; write train, val or test"),
        ("\0\1binary", "is a binary file; export the table as csv"),
        ('slide_id,label\n"a,1\n' + "x" * 200_000, "not a csv file"),
        ('{"a": 1', "is damaged json"),
        ("[1, 2]", "the json must be one object"),
        ('{"train_names": ["a"]}', "json of labels must hold the label of each id"),
    ],
)
def test_tables_that_are_none(table: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        read_labels(write(table, text))
    assert str(refused.value).startswith(str(table))
    assert message in str(refused.value)


def test_a_table_that_is_absent(table: Path) -> None:
    with pytest.raises(UserError, match=r"table.csv: No such file"):
        read_labels(table)


SPLITS = {"007": "train", "a": "train", "b": "train", "c": "val", "d": "test"}


@pytest.mark.parametrize(
    "text",
    [
        ",train,val,test\n0,007,c,d\n1,a,,\n2,b.svs,,\n",
        "train,val,test\n007,c,d\na,,\nb,,\n",
        ",train,val,test\n007,True,False,False\na,True,False,False\nb,true,false,false\nc,False,True,False\n"
        "d,False,False,True\ne,False,False,False\n",
        "case_id,slide_id,train,val,test\nx,007,True,False,False\nx,a,True,False,False\ny,b,True,False,False\n"
        "z,c,False,True,False\nz,d,False,False,True\n",
        "slide_id,split,label\n007,train,0\na,train,1\nb,train,0\nc,val,\nd,test,\ne,,\n",
        json.dumps({"train_names": ["007", "a", "b"], "val_names": ["c"], "test_names": ["d"]}),
        json.dumps({"train": ["007", "a", "b"], "val": ["c"], "test": ["d"]}),
        ",Training,valid,Test\n0,007,c,d\n1,a,nan,\n2,b.svs,,\n",
        ",train,val,test\n007,True,,\na,True,False,\nb,TRUE,,\nc,,True,\nd,,,True\ne,,,False\n",
        "slide_id,train,val,test\n007,1,0,0\na,1,0,0\nb,1,0,0\nc,0,1,0\nd,0,0,1\ne,0,0,0\n",
        "slide_id,train,val,test\n007,1.0,,\na,1.0,,\nb,1.0,,\nc,,1.0,\nd,,,1.0\n",
        "slide_id,split\n007,train\na,train\nb.svs,train\nc,val\nd,test\ne,nan\n",
        json.dumps({"training_ids": ["007", "a", "b"], "valid_ids": ["c"], "Test": ["d"], "fold": 0}),
    ],
    ids=[
        *("clam", "clam without an index", "clam bool", "bool of slide_id", "column", "acmil", "json"),
        "other names",
        *("bool with gaps", "0 and 1", "floats with gaps", "column with nan", "json of other names"),
    ],
)
def test_item_8_splits_in_every_layout(table: Path, text: str) -> None:
    assert read_splits(write(table, text)).slides == SPLITS


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (",train,val,test\n0,a,b,c\n1,d,a,\n", "a (train and val)"),
        (",train,val,test\na,True,False,True\n", "a (train and test)"),
        ("slide_id,split\na,train\na.svs,test\nb,val\n", "a (train and test)"),
        (
            json.dumps({"train_names": ["a", "b"], "test_names": ["b", "a"]}),
            "a (train and test), b (train and test) (2 in",
        ),
        (",train,val,test\n0,a,b,c\n1,a,,\n", "a (train and train)"),
    ],
)
def test_item_8_a_slide_in_two_splits_is_refused(table: Path, text: str, named: str) -> None:
    with pytest.raises(UserError) as refused:
        read_splits(write(table, text))
    assert f"{table}: slides listed more than once: {named}" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide_id,label\na,1\n", "names no splits (columns: slide_id, label)"),
        (",train,val,test\n", "no slides in it"),
        ('{"train_names": ["a"], "test_names": "b"}', "names no splits; it needs lists called train_names"),
        ('{"a": "train"}', "names no splits; it needs lists called train_names"),
    ],
)
def test_splits_that_are_none(table: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        read_splits(write(table, text))
    assert message in str(refused.value)


def test_the_first_ten_are_named() -> None:
    assert first_named(["a"]) == "a"
    assert first_named(["a", "b"]) == "a, b (2 in all)"
    assert first_named(list("abcdefghijkl")) == "a, b, c, d, e, f, g, h, i, j, ... (12 in all)"
