"""Pseudo-labels as a file: everything that was said is read back, and only what is kept."""

import math
from pathlib import Path

import pytest

from vision_train.data.image_tables import read_csv
from vision_train.data.pseudo_labels import read_pseudo_labels
from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.semi.label_file import PseudoLabel, write_pseudo_labels

LABELS = [
    PseudoLabel("a/1.png", "cat", share=2 / 3, votes={"cat": 2, "dog, big": 1}, scores={"confidence": 0.1 + 0.2}),
    PseudoLabel("b.png", "dog, big", kept=False, votes={"dog, big": 3}, scores={"confidence": math.nan}),
    PseudoLabel("c\udcff.png", "cat", votes={"cat": 3}, round=2, weight=0.5, scores={"confidence": 1.0}),
]


def test_what_is_kept_is_read_back_to_the_last_digit(tmp_path):
    write_pseudo_labels(tmp_path / "labels.csv", LABELS)
    assert read_pseudo_labels(tmp_path / "labels.csv") == [LABELS[0], LABELS[2]]
    header, *rows = (tmp_path / "labels.csv").read_text().splitlines()
    assert header == "path,label,share,voters,kept,round,weight,confidence"
    assert len(rows) == 3
    assert "nan" not in rows[1]


def test_a_table_of_paths_and_labels_is_enough(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\nx.png,cat\n")
    assert read_pseudo_labels(tmp_path / "labels.csv") == [PseudoLabel("x.png", "cat")]


def test_the_file_is_readable_as_labels_with_provenance(tmp_path):
    make_image_folder(tmp_path / "photos", classes=1, per_class=2, size=(8, 8))
    names = sorted(path.relative_to(tmp_path / "photos").as_posix() for path in tmp_path.glob("photos/*/*"))
    write_pseudo_labels(tmp_path / "labels.csv", [PseudoLabel(name, f"class {n}") for n, name in enumerate(names)])
    found = read_csv(tmp_path / "labels.csv", tmp_path / "photos")
    assert [(each.id, each.truth) for each in found.samples] == [(names[0], "class 0"), (names[1], "class 1")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("path,kept\nx,1\n", "no column label"),
        ("path,label\nx,cat\nx,dog\n", "line 3: x is listed twice"),
        ("path,label,share\nx,cat,2\n", "line 2: a share of 2"),
        ("path,label,voters\nx,cat,many\n", "line 2"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line_and_a_remedy(tmp_path, text, message):
    file: Path = tmp_path / "labels.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        read_pseudo_labels(file)
    assert str(file) in str(refused.value)
