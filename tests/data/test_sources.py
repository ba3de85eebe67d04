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
        (["trainA/a/a.png", "testB/a/b.png"], r"testB, trainA .*call them train.*data\.classes"),
        (
            ["site_1/cat/a.png", "site_1/dog/a.png", "site_2/cat/a.png", "site_2/dog/a.png"],
            r"site_1, site_2 .*same fold.*cat, dog.*data\.classes",
        ),
        (
            ["train/cat/a.png", "train/dog/a.png", "test/1.png", "test/2.png"],
            "test: no class folders.*2 images.*predict",
        ),
        (["cat/images/a.png", "cat/masks/a.png", "dog/b.png"], r"cat: .*masks \(1\).*data\.labels"),
        (["cat/a.png", "dog/7/images/a.png", "dog/7/lung_masks/a.png"], r"dog: .*7/lung_masks \(1\).*Move"),
        (
            ["cat/a.png", "dog/b (1).png", "dog/b (1)_mask.png", "dog/b (1)_mask_1.png"],
            r"dog: .*_mask \(2\).*Move",
        ),
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
    [
        *(
            ("Training", "Testing"),
            ("TRAIN", "valid"),
            ("train_set", "test_set"),
            ("seg_train", "dev"),
            ("trn", "Eval"),
        ),
        *(
            ("train_dir", "test_dir"),
            ("cars_train", "cars_test"),
            ("train_v2", "validation_224x224"),
            ("x_train", "X_TEST"),
        ),
        *(("Train_Alphabet", "Test_Alphabet"), ("my cars train jpg", "my cars val jpg"), ("train_new", "test_resized")),
    ],
)
def test_splits_by_any_name(tmp_path: Path, names: tuple[str, str]) -> None:
    touch(tmp_path, *(f"{name}/{label}/a.png" for name in names for label in ("cat", "dog")))
    found = read_folder(tmp_path)
    second = "test" if "test" in names[1].lower() else "val"
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


def test_names_with_the_word_of_a_split_may_be_those_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, "eye_test/a.png", "test_tube/b.png", "trains/c.png")
    assert {s.truth for s in read_folder(tmp_path).samples} == {"eye_test", "test_tube", "trains"}
    (tmp_path / "trains").rename(tmp_path / "train_ride")
    declared = ["eye_test", "test_tube", "train_ride"]
    assert {s.truth for s in read_folder(tmp_path, declared=declared).samples} == {*declared}


def test_folders_inside_class_folders_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "cat/2019/a.png", "cat/2020/a.png", "dog/2019/b.png", "dog/masks/c.png", "dog/face_mask/d.png")
    with pytest.raises(UserError, match=r"dog: .*masks \(1\)"):
        read_folder(tmp_path)
    (tmp_path / "dog" / "masks").rename(tmp_path / "dog" / "2021")
    assert "2019 (2), 2020 (1), 2021 (1), face_mask (1)" in read_folder(tmp_path).notes[0]
    declared = ["cat", "dog"]
    touch(tmp_path, *(f"{name}/{part}/e.png" for name in declared for part in ("2019", "2020", "2021", "face_mask")))
    with pytest.raises(UserError, match="same folders"):
        read_folder(tmp_path)
    assert len(read_folder(tmp_path, declared=declared).samples) == 13


def test_pools_name_a_remedy_that_helps(tmp_path: Path) -> None:
    touch(tmp_path, "dev/a.png", "cats/b.png", "cats/masks/b.png")
    with pytest.raises(UserError, match=r"dev and also cats.*one folder inside data\.root") as refused:
        read_pool(tmp_path)
    assert "data.classes" not in str(refused.value)
    (tmp_path / "all").mkdir()
    for name in ("dev", "cats"):
        (tmp_path / name).rename(tmp_path / "all" / name)
    found = read_pool(tmp_path)
    assert len(found.samples) == 3
    assert "all/cats/masks (1)" in found.notes[-1]


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


def test_links_to_themselves_are_no_class_and_stop_no_list(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.png", "dog/b.png")
    for name in ("circle", "cat/circle", ".circle"):
        (tmp_path / name).symlink_to(Path(name).name)
    found = read_folder(tmp_path)
    assert [s.id for s in found.samples] == ["cat/a.png", "dog/b.png"]
    assert "1 no ending" in " ".join(found.notes)
