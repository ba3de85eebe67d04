"""Copies in the unlabelled images of a run of what it is validated and tested on.

Items are those of the specification of learning from unlabelled images.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_train.data import pictures
from vision_train.data.module import SampleDataModule
from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.leakage import check_overlap, clear_pool, keep_apart
from vision_train.run.phase import scan

RECIPE = """
task: classification
data: {root: photos, unlabelled: pool, image_size: 16, batch_size: 4, workers: 0}
model: {name: vit, args: {patch_size: 8, embed_dim: 12, depth: 1, num_heads: 1}}
trainer: {max_epochs: 1, accelerator: cpu}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretraining_text: str) -> None:
    """Two classes have 6 images each to train on, 2 to validate and 2 to test; 12 images have no label."""
    monkeypatch.chdir(tmp_path)
    Path("fit.yaml").write_text(RECIPE)
    Path("pretraining.yaml").write_text(pretraining_text)
    for seed, (split, count) in enumerate({"train": 6, "val": 2, "test": 2}.items()):
        make_image_folder(Path("photos", split), classes=2, per_class=count, size=(40, 40), seed=seed)
    make_image_folder(Path("source"), classes=1, per_class=12, size=(40, 40), seed=9)
    Path("source/class_0").rename("pool")


def saved_anew(origin: str, name: str, **options) -> None:
    """The same pixels in a file of other bytes."""
    with Image.open(origin) as image:
        image.save(Path("pool", name), **options)


def cleared(*overrides: str) -> SampleDataModule:
    data = scan(load_recipe("fit.yaml", overrides)).data
    clear_pool(data)
    return data


def pool_of(data: SampleDataModule) -> set[str]:
    return {Path(sample.place).name for sample in data.samples("unlabelled")}


def test_a_pool_without_copies_is_left_as_it_is():
    data = cleared()
    assert data.counts["unlabelled"] == 12
    assert not [line for line in [*data.notes, *data.warnings] if "copies" in line or "look like" in line]


@pytest.mark.parametrize("split", ["val", "test"])
def test_item_7_copies_by_pixels_leave_the_pool_counted_and_said(split: str):
    saved_anew(f"photos/{split}/class_0/0001.png", "holiday.bmp")
    shutil.copy(f"photos/{split}/class_1/0000.jpg", "pool/again.jpg")
    data = cleared()
    assert data.counts["unlabelled"] == 12
    assert not {"holiday.bmp", "again.jpg"} & pool_of(data)
    (note,) = [note for note in data.notes if "left out" in note]
    for said in ("2 images", "data.unlabelled=", "holiday.bmp", f"{split}/class_0/0001.png", "again.jpg"):
        assert said in note
    assert data.left_out == [], "which is what a study refuses"


def test_copies_of_labelled_images_are_counted_and_stay():
    saved_anew("photos/train/class_0/0001.png", "holiday.bmp")
    data = cleared()
    assert data.pool_copies == 1
    assert data.counts["unlabelled"] == 13
    assert any("copies of labelled images: 1 image (7.7 %)" in note for note in data.notes)


def test_item_7_smaller_copies_of_measured_images_are_warned_of_and_stay():
    patches = np.random.default_rng(1).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    large = Image.fromarray(patches).resize((96, 96), Image.Resampling.BICUBIC)
    large.save("photos/test/class_0/large.png")
    large.resize((48, 48)).save("pool/small.png")
    data = cleared()
    assert data.counts["unlabelled"] == 13
    (warning,) = [line for line in data.warnings if "look like" in line]
    for said in ("1 of 13", "small.png", "test/class_0/large.png", "data.unlabelled="):
        assert said in warning


def test_the_labelled_images_as_pool_are_meant():
    data = cleared("data.unlabelled=labelled")
    assert data.counts["unlabelled"] == data.counts["train"] == 12
    assert data.pool_copies == 0
    assert not [line for line in [*data.notes, *data.warnings] if "copies" in line or "look like" in line]


def test_the_rest_of_the_training_images_is_no_copy_of_them():
    data = cleared("data.unlabelled=rest", "data.labels_per_class=2")
    assert (data.counts["train"], data.counts["unlabelled"]) == (4, 8)
    assert data.pool_copies == 0
    check_overlap(data)


def test_a_pool_that_is_the_labelled_folder_loses_what_is_measured():
    data = cleared("data.unlabelled=photos")
    assert data.counts["unlabelled"] == data.counts["train"] == data.pool_copies == 12


def test_a_pool_of_nothing_but_copies_is_refused():
    shutil.rmtree("pool")
    shutil.copytree("photos/test/class_0", "pool")
    with pytest.raises(UserError, match=r"data\.unlabelled=.*copies of validation or test.*name others"):
        cleared()


def test_a_broken_image_is_left_to_the_policy_that_reads_it():
    Path("pool/broken.png").write_bytes(b"no picture")
    assert cleared().counts["unlabelled"] == 13


def test_above_the_bound_bytes_alone_are_compared_and_said(monkeypatch: pytest.MonkeyPatch):
    saved_anew("photos/test/class_0/0001.png", "holiday.bmp")
    shutil.copy("photos/test/class_1/0000.jpg", "pool/again.jpg")
    monkeypatch.setattr(pictures, "MOST_IMAGES", 10)
    data = cleared()
    assert "holiday.bmp" in pool_of(data)
    assert "again.jpg" not in pool_of(data)
    assert any("bytes of files alone" in note for note in data.notes)


def test_pretraining_on_the_pool_leaves_out_copies_by_pixels_too():
    saved_anew("photos/test/class_0/0001.png", "holiday.bmp")
    earlier, later = (scan(load_recipe(recipe)).data for recipe in ("pretraining.yaml", "fit.yaml"))
    keep_apart(earlier, later)
    assert [sample.id for sample in earlier.left_out] == ["holiday.bmp"]
