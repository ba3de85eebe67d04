from pathlib import Path

import pytest

from vision_train.data.images import Section
from vision_train.data.sources import read_folder, read_pool, read_samples
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
    samples = read_samples(Section(root=str(tmp_path))).samples
    assert [(s.id, s.truth, s.split) for s in samples] == [
        ("cat/deep/er/c.jpeg", "cat", None),
        ("dog/a.png", "dog", None),
        ("dog/b.JPG", "dog", None),
    ]
    assert samples[0].image == str(tmp_path / "cat/deep/er/c.jpeg")


def test_folders_of_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/a.png", "train/dog/a.png", "val/cat/a.png", "val/dog/a.png")
    samples = read_folder(tmp_path).samples
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
        (["train/cat/a.png", "photos/cat/b.png"], "train and also photos"),
        (["val/cat/a.png", "Validation/cat/b.png", "train/cat/a.png"], "Validation and val all stand for val"),
        (["cat/train/a.png", "cat/test/b.png", "dog/train/c.png"], r"cat: holds test and train.*test/cat"),
        (["train/train/cat/a.png", "train/train/dog/a.png"], "train/train: is called like a split"),
        (["valid/a.png", "invalid/b.png"], r"valid and also invalid.*data\.classes"),
        (["val/cat/a.png", "test/cat/b.png"], "val and test, but no folder train"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, files: list[str], message: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=message):
        read_folder(tmp_path)


def test_data_that_is_evaluated_needs_no_training_folder(tmp_path: Path) -> None:
    touch(tmp_path, "test/cat/a.png", "test/dog/a.png")
    for found in (read_folder(tmp_path, divided=False), read_samples(Section(root=str(tmp_path)), divided=False)):
        assert [(s.id, s.split) for s in found.samples] == [("test/cat/a.png", "test"), ("test/dog/a.png", "test")]


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root .*nowhere: no such folder"):
        read_samples(Section(root=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match="not a folder"):
        read_samples(Section(root=str(touch(tmp_path, "file") / "file")))
    with pytest.raises(UserError, match=r"data.root=FOLDER"):
        read_samples(Section())


@pytest.mark.parametrize(
    "names",
    [("Training", "Testing"), ("TRAIN", "valid"), ("train_set", "test_set"), ("seg_train", "dev"), ("trn", "Eval")],
)
def test_splits_by_any_name(tmp_path: Path, names: tuple[str, str]) -> None:
    touch(tmp_path, *(f"{name}/{label}/a.png" for name in names for label in ("cat", "dog")))
    found = read_folder(tmp_path)
    second = "test" if names[1].lower().startswith("test") else "val"
    assert [(s.id, s.truth, s.split) for s in found.samples] == [
        (f"{name}/{label}/a.png", label, split)
        for name, split in zip(names, ("train", second), strict=True)
        for label in ("cat", "dog")
    ]
    assert f"{names[1]} as {second}" in found.notes[0]
    assert [s.split for s in read_pool(tmp_path).samples] == ["train", "train", second, second]


def test_a_class_that_is_called_like_a_split_is_declared(tmp_path: Path) -> None:
    touch(tmp_path, "valid/a.png", "invalid/b.png", "invalid/test/c.png")
    section = Section(root=str(tmp_path), classes=["valid", "invalid"])
    assert [(s.truth, s.split) for s in read_samples(section).samples] == [("invalid", None)] * 2 + [("valid", None)]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.png", "cat/.ipynb_checkpoints/a.png", "cat/readme.txt", "__MACOSX/._a.png", "dog/b.png")
    touch(tmp_path, "beside.png", "dog/c.HEIC")
    touch(tmp_path, *(f"runs/tiny/0/{name}" for name in ("recipe.yaml", "environment.json", "classes.json", "x.png")))
    found = read_folder(tmp_path)
    assert [s.id for s in found.samples] == ["cat/a.png", "dog/b.png"]
    said = "\n".join(found.notes)
    for name in (
        "runs/tiny/0",
        "cat/.ipynb_checkpoints",
        "__MACOSX",
        "2 images there",
        "beside.png",
        "1 .txt",
        ".heic",
    ):
        assert name in said


def test_links_that_lead_back_are_no_class(tmp_path: Path) -> None:
    touch(tmp_path / "data", "cat/a.png", "dog/b.png")
    (tmp_path / "data" / "all").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "dog" / "up").symlink_to(tmp_path)
    touch(tmp_path, "other/c.png")
    found = read_folder(tmp_path / "data")
    assert [s.id for s in found.samples] == ["cat/a.png", "dog/b.png"]
    assert "same folder" in found.notes[0]
    (tmp_path / "data" / "feline").symlink_to(tmp_path / "data" / "cat")
    with pytest.raises(UserError, match=r"feline: no images.*same folder"):
        read_folder(tmp_path / "data")
