"""What users name as unlabelled images, and what comes of it: a clear message, or a stated way on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from vision_train.cli import app
from vision_train.data.toy.folder import make_image_folder
from vision_train.recipe import load_recipe
from vision_train.run.phase import scan
from vision_train.tasks.classification import asked
from vision_train.tasks.classification import pool as pool_module

RECIPE = """
task: classification
data: {root: photos, unlabelled: pool, image_size: 16, batch_size: 4, workers: 0}
model: {name: vit, args: {patch_size: 8, embed_dim: 12, depth: 1, num_heads: 1}}
optim: {ema: {half_life: run}}
semi: {method: freematch, burn_in: 0}
trainer: {max_epochs: 2, accelerator: cpu}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labelled images of three classes in folders of splits, and unlabelled ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    Path("fit.yaml").write_text(RECIPE)
    for seed, split in enumerate(("train", "val", "test")):
        make_image_folder(Path("photos", split), classes=3, per_class=3, size=(20, 20), seed=seed)
    make_image_folder(Path("made"), classes=1, per_class=9, size=(20, 20), seed=9)
    shutil.move("made/class_0", "pool")


def run(*overrides: str) -> tuple[int, str]:
    """Exit code of ``fit`` and all that it said."""
    done = CliRunner().invoke(app, ["fit", "fit.yaml", "--run-dir", "run", *overrides])
    return done.exit_code, done.output


def refused(*overrides: str, says: tuple[str, ...]) -> None:
    code, said = run(*overrides)
    assert code == 2, said
    assert said.count("Error") == 1
    for part in says:
        assert part in said


def finished(*overrides: str) -> str:
    code, said = run(*overrides)
    assert code == 0, said
    return said


def test_an_empty_pool():
    Path("empty").mkdir()
    refused("data.unlabelled=empty", says=("data.unlabelled=", "empty", "no images", "name a folder"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("list.txt", b"\n# nothing\n", ("no images in it", "name a folder")),
        ("list.csv", b"path,label\n", ("no images in it", "name a folder")),
        ("list.csv", b"name,label\na.png,1\n", ("no column path", "The first line must name the columns")),
        ("list.csv", b"path\ngone.png\n", ("line 2", "gone.png", "relative to")),
        ("list.txt", b"gone.png\n", ("gone.png", "relative to the list")),
        ("list.txt", b"\x89PNG\0\0", ("binary file", "export")),
        ("weights.pth", b"PK", ("neither a folder nor a list", ".csv or .txt")),
        ("labels.json", b"{}", ("neither a folder nor a list", ".csv or .txt")),
        ("photo.png", b"", ("neither a folder nor a list", ".csv or .txt")),
    ],
)
def test_a_file_of_another_kind_and_a_list_of_nothing(name: str, content: bytes, says: tuple[str, ...]):
    Path(name).write_bytes(content)
    refused(f"data.unlabelled={name}", says=("data.unlabelled", name, *says))


def test_what_is_not_there():
    refused("data.unlabelled=labeled", says=("data.unlabelled ", "labeled", "no such file or folder", "`labelled`"))


def test_a_method_without_a_pool():
    refused("data.unlabelled=null", says=("data.unlabelled", "semi.method=freematch", "set data.unlabelled=FOLDER"))


def test_a_pool_without_a_method_is_said_to_be_of_no_use():
    assert "semi.method=none, so the unlabelled images only say how long an epoch is" in finished("semi.method=none")


def test_images_of_other_modes_and_sizes_are_taken():
    noise = np.random.default_rng(0).integers(0, 256, (24, 30, 4), dtype=np.uint8)
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save("pool/sixteen.png")
    Image.fromarray(noise[..., 0]).save("pool/grey.png")
    Image.fromarray(noise).save("pool/transparent.png")
    Image.fromarray(noise, "CMYK").save("pool/print.jpg")
    Image.fromarray(noise[..., 0] > 128).save("pool/one_bit.png")
    Image.fromarray(noise[:1, :1, :3]).save("pool/one_pixel.png")
    Image.fromarray(noise[:2, :, :3]).resize((400, 3)).save("pool/thin.png")
    assert "16 unlabelled images" in finished()


def test_broken_images_follow_the_policy():
    Path("pool/cut.png").write_bytes(b"\x89PNG nothing")
    Path("pool/void.png").write_bytes(b"")
    refused(says=("unreadable image", "pool", "data.on_bad=skip"))
    said = finished("data.on_bad=skip")
    assert "skipped 2 unreadable images" in said
    assert "cut.png" in said


def test_nothing_but_broken_images():
    for file in Path("pool").iterdir():
        file.write_bytes(b"nothing")
    refused("data.on_bad=skip", says=("none of the 9 images can be read", "pool", "name others"))


def test_no_labelled_images():
    shutil.rmtree("photos")
    Path("photos").mkdir()
    refused(says=("photos", "no class folders", "Put the images"))


def test_one_label_a_class_and_the_rest_as_pool():
    said = finished("data.labels_per_class=1", "data.unlabelled=rest")
    assert "3 train, 9 val, 9 test, 6 unlabelled images" in said


def test_no_rest():
    refused(
        "data.unlabelled=rest", says=("data.unlabelled=rest", "no training images are left", "data.labels_per_class")
    )


def test_a_class_without_any_label():
    shutil.rmtree("photos/train/class_2")
    refused(says=("class_2", "train split", "Add samples"))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_pool_smaller_than_a_batch_fills_batches_again_and_again(count: int):
    for file in sorted(Path("pool").iterdir())[count:]:
        file.unlink()
    assert "8 images a step: 4 labelled + 4 unlabelled" in finished()


def test_a_threshold_that_nothing_reaches_is_said_and_the_run_ends_on_labelled_images():
    said = finished("semi.method=fixmatch", "semi.threshold=0.97", "method.label_smoothing=0")
    assert "none of the images of the pool was accepted" in said
    assert "lower the threshold" in said


def test_a_teacher_that_returns_nan_is_said_and_the_run_ends_on_labelled_images(monkeypatch: pytest.MonkeyPatch):
    ask = pool_module.ask_teacher
    monkeypatch.setattr(pool_module, "ask_teacher", lambda *inputs: ask(*inputs) * torch.nan)
    said = finished()
    assert "values that are not finite for" in said
    assert "the run goes on with labelled images alone" in said
    weights = torch.load("run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for name, tensor in weights.items() if name.startswith("network."))


@pytest.mark.parametrize("method", ["mean_teacher", "fixmatch", "softmatch"])
def test_no_method_lets_such_a_teacher_into_the_weights(method: str, monkeypatch: pytest.MonkeyPatch):
    ask = pool_module.ask_teacher
    monkeypatch.setattr(pool_module, "ask_teacher", lambda *inputs: ask(*inputs) * torch.nan)
    finished(f"semi.method={method}", "trainer.max_epochs=1")
    weights = torch.load("run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for name, tensor in weights.items() if name.startswith("network."))


BETWEEN_PHASES = ("semi.method={}", "semi.burn_in=0.5", "semi.views=0", "semi.rounds.count=1")


@pytest.mark.parametrize("method", ["self_training", "active_rounds"])
class TestLabelledBetweenPhases:
    def keys(self, method: str) -> list[str]:
        return [key.format(method) for key in BETWEEN_PHASES]

    def test_broken_images_follow_the_policy_and_are_counted(self, method: str):
        Path("pool/void.png").write_bytes(b"")
        refused(*self.keys(method), says=("unreadable image", "pool/void.png", "data.on_bad=skip"))
        shutil.rmtree("run")
        said = finished(*self.keys(method), "data.on_bad=skip")
        assert "get no label" in said
        assert "void.png: the file is empty" in said
        assert "of 9 images of the pool" in said

    def test_one_label_a_class_and_fewer_images_than_a_batch(self, method: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(asked, "COLLAPSED", 0.0)  # a network that has learnt nothing names one class
        said = finished(*self.keys(method), "data.labels_per_class=1", "data.unlabelled=rest", "data.batch_size=8")
        assert "3 train, 9 val, 9 test, 6 unlabelled images" in said
        assert "Estimated on 9 validation images" in said

    def test_a_pool_of_one_image(self, method: str):
        for file in sorted(Path("pool").iterdir())[1:]:
            file.unlink()
        assert "no pseudo-label was kept; this phase trains on labelled samples alone" in finished(*self.keys(method))

    def test_voters_that_return_nan_label_nothing_and_the_run_ends_on_labelled_images(
        self, method: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(asked, "teacher_probabilities", lambda logits: logits.float() * torch.nan)
        said = finished(*self.keys(method))
        assert "values that are not finite for 9 of its 9 images" in said
        assert "labelled 0 of 9 images" in said
        assert "Estimated" not in said


class TestBelowTheLabelledRoot:
    """A pool that lies where classes lie is no class."""

    def classes(self, *overrides: str) -> tuple[list[str], int, list[str]]:
        data = scan(load_recipe("fit.yaml", overrides)).data
        return data.classes, data.counts["unlabelled"], data.notes

    def test_beside_folders_of_splits(self):
        shutil.move("pool", "photos/unlabelled")
        classes, count, notes = self.classes("data.unlabelled=photos/unlabelled")
        assert classes == ["class_0", "class_1", "class_2"]
        assert count == 9
        assert "left out, as data.unlabelled names it: unlabelled" in notes

    def test_beside_folders_of_classes(self):
        shutil.copytree("photos/train", "plain")
        shutil.move("pool", "plain/more")
        cut = ("data.root=plain", "data.splits={val: 0.34, test: 0.34}")
        assert self.classes("data.unlabelled=plain/more", *cut)[:2] == (["class_0", "class_1", "class_2"], 9)

    def test_inside_a_class(self):
        shutil.move("pool", "photos/train/class_0/more")
        data = scan(load_recipe("fit.yaml", ["data.unlabelled=photos/train/class_0/more"])).data
        assert (data.counts["train"], data.counts["unlabelled"]) == (9, 9)

    def test_the_training_folder_itself_is_meant_twice(self):
        data = scan(load_recipe("fit.yaml", ["data.unlabelled=photos/train"])).data
        assert (data.counts["train"], data.counts["unlabelled"]) == (9, 9)

    def test_the_root_inside_the_pool(self):
        shutil.move("pool", "photos")
        Path("photos/pool").rename("photos/test/class_0/deep")
        Path("all").mkdir()
        shutil.move("photos", "all/photos")
        classes, count, _ = self.classes("data.root=all/photos", "data.unlabelled=all")
        assert classes == ["class_0", "class_1", "class_2"]
        assert count == 36

    def test_folders_called_like_splits_in_a_pool_mean_nothing(self):
        for name in ("train", "test"):
            Path("pool", name).mkdir()
        for file in sorted(Path("pool").glob("*.*"))[:4]:
            file.rename(Path("pool/test", file.name))
        assert self.classes()[1] == 9
