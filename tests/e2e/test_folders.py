"""Folders and tables as people have them, through every verb that reads them."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from vision_train.data.toy.folder import make_image_folder
from vision_train.files import OUTPUT_MARK, unescape_name

NAMES = ("caf\udce9.png", "two\nlines.png", "🐱 a,b.png", "é" * 125 + "x.png", 'back\\slash "q".png', "plain.png")

ROOT = "ph\udcf6tos"


@pytest.fixture
def odd_names(place: Path) -> list[str]:
    """Give the photos names that file systems allow, and the classes too."""
    for folder, name in (("class_0", "猫"), ("class_1", "caf\udce9")):
        for image, named in zip(sorted(Path("photos", folder).iterdir()), NAMES, strict=True):
            image.rename(image.with_name(named))
        Path("photos", folder).rename(Path("photos", name))
    Path("photos").rename(ROOT)
    return sorted(str(path) for path in Path(ROOT).glob("*/*.png"))


def test_any_name_that_the_file_system_allows(cli, odd_names: list[str]) -> None:
    result = cli("fit", "tiny.yaml", f"data.root={ROOT}", "--run-dir", "run")
    assert result.exit_code == 0, result.output
    assert r"classes: caf\udce9 (4 train, 1 val, 1 test), 猫 (4 train" in result.stdout
    assert json.loads(Path("run/classes.json").read_text(encoding="utf-8")) == ["caf\udce9", "猫"]
    assert r"caf\udce9" in Path("run/report.html").read_text(encoding="utf-8")
    assert cli("evaluate", "run").exit_code == 0
    for out in ("seen.csv", "seen.jsonl"):
        result = cli("predict", "run", ROOT, "--out", out, "--render", "pictures", "--force")
        assert result.exit_code == 0, result.output
    lines = [json.loads(line)["path"] for line in Path("seen.jsonl").read_text(encoding="utf-8").splitlines()]
    with Path("seen.csv").open(encoding="utf-8", newline="") as file:
        rows = [unescape_name(row["path"]) for row in csv.DictReader(file)]
    assert sorted(lines) == sorted(rows) == odd_names
    assert len(list(Path("pictures").glob("*.png"))) == len(odd_names)
    result = cli("predict", "run", "seen.csv", "--out", "again.csv")
    assert result.exit_code == 0, result.output
    assert Path("again.csv").read_bytes() == Path("seen.csv").read_bytes()


def test_our_own_output_is_never_input(cli, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.move("tiny.yaml", "photos")
    monkeypatch.chdir("photos")
    for number in range(2):
        result = cli("fit", "tiny.yaml", "data.root=.")
        assert result.exit_code == 0, result.output
        assert json.loads(Path(f"runs/tiny/{number}/classes.json").read_text()) == ["class_0", "class_1"]
    assert "left out, as vision-train wrote it: runs" in result.stdout
    assert cli("predict", "runs/tiny/0", ".", "--out", "seen.csv", "--render", "class_0/pictures").exit_code == 0
    assert cli("preview", "tiny.yaml", "data.root=.", "--out", "preview.png", "--count", "1").exit_code == 0
    result = cli("predict", "runs/tiny/0", ".", "--out", "seen.csv", "--force")
    assert "12 predictions" in result.stdout
    for name in ("class_0/pictures", "preview.png", "runs"):
        assert name in result.stdout
    result = cli("predict", "runs/tiny/0", "class_0/pictures")
    assert result.exit_code == 2
    assert OUTPUT_MARK in result.stderr


def test_one_rule_lists_folders_for_training_and_prediction(cli, run: Path, place: Path) -> None:
    make_image_folder(place / "store", classes=1, per_class=5, size=(20, 20))
    for folder in ("in/real", "in/.ipynb_checkpoints", "in/@eaDir"):
        shutil.copytree("photos/class_0", folder)
    Path("in/day1").symlink_to(place / "store" / "class_0")
    Path("in/real/loop").symlink_to(place / "in")
    image = next(Path("in/real").glob("*.*g"))
    image.rename(image.with_suffix(image.suffix.upper()))
    result = cli("predict", "run", "in", "--out", "seen.csv")
    assert result.exit_code == 0, result.output
    assert "11 predictions" in result.stdout
    for said in (".ipynb_checkpoints", "@eaDir", "12 images there", "real/loop"):
        assert said in result.stdout


def test_the_dry_run_counts_classes_and_warns_of_suspicious_ones(cli, place: Path) -> None:
    os.rename("photos/class_1", "photos/images")  # noqa: PTH104
    result = cli("fit", "tiny.yaml", "data.root=photos", "--dry-run")
    assert "class_0 (4 train, 1 val, 1 test), images (4 train, 1 val, 1 test)" in result.stdout
    assert re.search(r"^warnings +images is a class", result.stdout, re.MULTILINE)
    assert "data.classes=[class_0,images]" in result.stdout
    result = cli("fit", "tiny.yaml", "data.root=photos", "data.classes=[images,class_0]", "--run-dir", "run")
    assert result.exit_code == 0, result.output
    assert "images is a class" not in result.stdout
    assert json.loads(Path("run/classes.json").read_text()) == ["images", "class_0"]


def test_missing_labels_are_no_class(cli, refused, place: Path) -> None:
    images = sorted(path.relative_to("photos") for path in Path("photos").glob("*/*.*"))
    labels = [path.parent.name if number % 6 else "nan" for number, path in enumerate(images)]
    rows = "".join(f"{path},{label}\n" for path, label in zip(images, labels, strict=True))
    Path("labels.csv").write_text(f"path,label\n{rows}")
    arguments = ("fit", "tiny.yaml", "data.root=photos", "data.labels=labels.csv")
    refused(*arguments, says=r"labels\.csv: no label of 2 images \(`nan` 2 times\).*data\.on_bad=skip")
    result = cli(*arguments, "data.on_bad=skip", "--run-dir", "run")
    assert result.exit_code == 0, result.output
    assert "left out 2 images without a label" in result.stdout
    assert json.loads(Path("run/classes.json").read_text()) == ["class_0", "class_1"]
