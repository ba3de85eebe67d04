"""Images listed in csv files as people write them."""

import os
from pathlib import Path

import pytest

from vision_train.data.image_tables import listed_files, read_csv
from vision_train.data.images import Section
from vision_train.data.sources import read_samples
from vision_train.errors import UserError
from vision_train.files import escape_name, mark_output


def touch(root: Path, *names: str) -> Path:
    """Empty files: listing does not decode."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def write_csv(folder: Path, text: str) -> Path:
    table = folder / "labels.csv"
    table.write_text(text, encoding="utf-8")
    return table


def test_csv_with_splits_beside_its_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "sub/b.png")
    table = write_csv(tmp_path, "\ufeffpath, label ,split,note\na.png,cat,train,x\n\n sub/b.png , dog ,val,\n")
    samples = read_csv(table, None).samples
    assert [(s.id, s.truth, s.split) for s in samples] == [("a.png", "cat", "train"), ("sub/b.png", "dog", "val")]
    assert samples[1].image == str(tmp_path / "sub/b.png")


def test_csv_paths_are_relative_to_the_root(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "tables/ignored")
    table = write_csv(tmp_path / "tables", "label,path\ncat,a.png\n")
    samples = read_samples(Section(root=str(tmp_path / "images"), labels=str(table))).samples
    assert [(s.image, s.split) for s in samples] == [(str(tmp_path / "images/a.png"), None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column path and label .found: nothing"),
        ("file;label\na.png;cat\n", "no column path .found: file, label"),
        ("path,class\na.png,cat\n", "no column label .found: path, class"),
        ("path,label, label\na.png,cat,0.5\n", "two columns are called label; give each a name of its own"),
        ("path,label\n", "no lines below the header"),
        ("path,label\na.png,cat\nb.png,\n", r"no label of 1 image.*b.png in line 3.*data\.on_bad=skip"),
        ("path,label\na.png\n", "no label .*line 2"),
        ("path,label\na.png,cat\nb.png,cat|dog\n", r"several classes.*`cat\|dog` in line 3.*data\.classes"),
        ("path,label\n,cat\n", "line 2: the path is empty"),
        ("path,label\na.png,cat\nabsent.png,cat\n", "line 3: no file .*absent.png"),
        ("path,label\na.png,cat\n./a.png,dog\n", "line 3: ./a.png is listed already in line 2; keep one"),
        ("path,label,split\na.png,cat,later\n", "line 2: split is `later`"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.png", "b.png")
    with pytest.raises(UserError, match=message):
        read_csv(write_csv(tmp_path, text), None)


MISSING = ("nan", "NaN", "NA", "N/A", "None", "null", "<NA>", "")


@pytest.mark.parametrize("word", MISSING)
def test_a_missing_label_is_no_class(tmp_path: Path, word: str) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    table = write_csv(tmp_path, f"path,label\na.png,cat\nb.png,{word}\nc.png,dog\n")
    with pytest.raises(UserError, match=r"labels.csv: no label of 1 image .*b.png in line 3.*data\.on_bad=skip"):
        read_csv(table, None)
    found = read_csv(table, None, "skip")
    assert [s.id for s in found.samples] == ["a.png", "c.png"]
    assert "left out 1 image without a label" in found.notes[0]
    if word:
        assert [s.truth for s in read_csv(table, None, declared=["cat", "dog", word]).samples] == ["cat", word, "dog"]


def test_images_in_no_split_are_left_out_where_others_are_in_one(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    table = write_csv(tmp_path, "path,label,split\na.png,cat,train\nb.png,dog,\nc.png,,nan\n")
    for labelled in (True, False):
        found = read_csv(table, None, labelled=labelled)
        assert [(s.id, s.split) for s in found.samples] == [("a.png", "train")]
        assert "left out 2 images, as their split is empty: b.png in line 3, c.png in line 4" in found.notes[0]
    found = read_csv(write_csv(tmp_path, "path,label,split\na.png,cat,\nb.png,dog,\n"), None)
    assert [s.split for s in found.samples] == [None, None]
    assert found.notes == []


def test_labels_that_were_made_floats_are_whole_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    table = write_csv(tmp_path, "path,label\na.png,10.0\nb.png,2\nc.png,\n")
    found = read_csv(table, None, "skip")
    assert [s.truth for s in found.samples] == ["10", "2"]
    assert "10.0 is 10" in found.notes[0]
    assert [s.truth for s in read_csv(table, None, "skip", declared=["10.0", "2"]).samples] == ["10.0", "2"]


def test_labels_of_several_classes_serve_no_probe(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    table = write_csv(tmp_path, "path,label\na.png,cat\nb.png,nan\nc.png,cat|dog\n")
    assert [s.truth for s in read_csv(table, None, labelled=False).samples] == ["cat", None, None]
    assert len(read_csv(table, None, "skip", declared=["cat|dog"]).samples) == 2


def test_names_that_are_no_utf_8_come_back(tmp_path: Path) -> None:
    name = "caf\udce9, a\\udce9\nb.png"
    touch(tmp_path, name, "folder/c.png")
    table = write_csv(tmp_path, f'path\n"{escape_name(name)}"\nfolder\\c.png\n')
    files, notes = listed_files(table, None)
    assert [file.name for file in files] == [name, "folder/c.png"]
    assert all(os.path.exists(file.path) for file in files)  # noqa: PTH110
    assert "backslashes" in notes[0]


def test_files_that_we_wrote_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "seen/b.png")
    mark_output(tmp_path / "seen")
    files, notes = listed_files(write_csv(tmp_path, "path\na.png\nseen/b.png\n"), None)
    assert [file.name for file in files] == ["a.png"]
    assert "b.png" in notes[0]
