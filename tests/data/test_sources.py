from pathlib import Path

import pytest

from vision_train.data.images import Section
from vision_train.data.sources import read_csv, read_folder, read_samples
from vision_train.errors import UserError


def touch(root: Path, *names: str) -> Path:
    """Empty files: listing does not decode."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "dog/b.JPG", "dog/a.png", "cat/deep/er/c.jpeg", "cat/notes.txt", "cat/._c.jpeg", ".cache/x/y.png")
    samples = read_samples(Section(root=str(tmp_path)))
    assert [(s.id, s.truth, s.split) for s in samples] == [
        ("cat/deep/er/c.jpeg", "cat", None),
        ("dog/a.png", "dog", None),
        ("dog/b.JPG", "dog", None),
    ]
    assert samples[0].image == str(tmp_path / "cat/deep/er/c.jpeg")


def test_folders_of_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/a.png", "train/dog/a.png", "val/cat/a.png", "val/dog/a.png")
    samples = read_folder(tmp_path)
    assert [(s.id, s.split) for s in samples] == [
        ("train/cat/a.png", "train"),
        ("train/dog/a.png", "train"),
        ("val/cat/a.png", "val"),
        ("val/dog/a.png", "val"),
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no class folders"),
        (["a.png", "b.png"], "no class folders"),
        (["cat/a.png", "dog/notes.txt"], "class folder .*dog: no images"),
        (["train/cat/a.png", "train/dog/a.png", "val/b.png"], "val: no class folders"),
        (["train/cat/a.png", "validation/cat/b.png"], "train and also validation"),
        (["val/cat/a.png", "test/cat/b.png"], "val and test, but no folder train"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, files: list[str], message: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=message):
        read_folder(tmp_path)


def test_data_that_is_evaluated_needs_no_training_folder(tmp_path: Path) -> None:
    touch(tmp_path, "test/cat/a.png", "test/dog/a.png")
    for samples in (read_folder(tmp_path, divided=False), read_samples(Section(root=str(tmp_path)), divided=False)):
        assert [(s.id, s.split) for s in samples] == [("test/cat/a.png", "test"), ("test/dog/a.png", "test")]


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root .*nowhere: no such folder"):
        read_samples(Section(root=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match="not a folder"):
        read_samples(Section(root=str(touch(tmp_path, "file") / "file")))
    with pytest.raises(UserError, match=r"data.root=FOLDER"):
        read_samples(Section())


def write_csv(folder: Path, text: str) -> Path:
    table = folder / "labels.csv"
    table.write_text(text, encoding="utf-8")
    return table


def test_csv_with_splits_beside_its_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "sub/b.png")
    table = write_csv(tmp_path, "\ufeffpath, label ,split,note\na.png,cat,train,x\n\n sub/b.png , dog ,val,\n")
    samples = read_csv(table, None)
    assert [(s.id, s.truth, s.split) for s in samples] == [("a.png", "cat", "train"), ("sub/b.png", "dog", "val")]
    assert samples[1].image == str(tmp_path / "sub/b.png")


def test_csv_paths_are_relative_to_the_root(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "tables/ignored")
    table = write_csv(tmp_path / "tables", "label,path\ncat,a.png\n")
    samples = read_samples(Section(root=str(tmp_path / "images"), labels=str(table)))
    assert [(s.image, s.split) for s in samples] == [(str(tmp_path / "images/a.png"), None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column path and label .found: nothing"),
        ("file;label\na.png;cat\n", "no column path .found: file, label"),
        ("path,class\na.png,cat\n", "no column label .found: path, class"),
        ("path,label, label\na.png,cat,0.5\n", "two columns are called label; give each a name of its own"),
        ("path,label\n", "no lines below the header"),
        ("path,label\na.png,cat\nb.png,\n", "line 3: the label is empty"),
        ("path,label\na.png\n", "line 2: the label is empty"),
        ("path,label\n,cat\n", "line 2: the path is empty"),
        ("path,label\na.png,cat\nabsent.png,cat\n", "line 3: no file .*absent.png"),
        ("path,label\na.png,cat\n./a.png,dog\n", "line 3: ./a.png is listed already in line 2"),
        ("path,label,split\na.png,cat,dev\n", "line 2: split is `dev`"),
        ("path,label,split\na.png,cat\n", "line 2: split is ``"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.png", "b.png")
    with pytest.raises(UserError, match=message):
        read_csv(write_csv(tmp_path, text), None)
