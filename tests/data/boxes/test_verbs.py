"""``vision-train data`` for images with boxes: what the commands print, write and refuse."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from vision_train.data.boxes.verbs import add_verbs
from vision_train.data.toy.digit_scenes import digit_scenes
from vision_train.data.toy.scenes import Scene, visible_shares, write_coco
from vision_train.data.toy.shapes import shapes
from vision_train.data.toy.thing_scenes import thing_scenes

BOX = {"bbox": [8, 4, 16, 20]}


def call(*arguments: object, exit_code: int = 0) -> str:
    app, make = typer.Typer(), typer.Typer()
    add_verbs(app, make)
    app.add_typer(make, name="make")
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == exit_code, result.output
    return result.output


def test_check_says_what_is_there(place):
    place.pictures()
    place.coco(BOX, BOX, {**BOX, "image_id": 2, "category_id": 2}, {**BOX, "iscrowd": 1})
    said = call("check", place.folder)
    for part in ("3 images", "3 boxes, 1 ignored", "1 without boxes", "cat: 2", "dog: 1", "same box twice", "nothing"):
        assert part in said
    assert call("check", place.folder / "boxes.json") == said


def test_check_says_how_far_it_is_where_it_takes_long(place, monkeypatch):
    monkeypatch.setattr("vision_train.progress.SECONDS_BETWEEN_LINES", -1.0)
    place.pictures()
    place.coco(BOX)
    said = call("check", place.folder)
    assert said.index("1/3 images") < said.index("2/3 images") < said.index("nothing has to be mended")


def test_check_exits_with_2_and_names_what_has_to_be_mended(place):
    place.pictures()
    place.pictures("b.png", size=(30, 30))
    (place.folder / "c.png").write_bytes(b"no image")
    place.coco(BOX, {"bbox": [8, 4, 0, 20]}, images=["a.png", "b.png", "c.png", "gone.png"])
    said = call("check", place.folder, exit_code=2)
    for part in ("zero or negative size", "b.png (64 x 48 annotated, 30 x 30", "cannot be read: c.png", "gone.png"):
        assert part in said


def test_check_names_a_class_that_is_never_learned(place):
    place.pictures("train/a.png", "valid/b.png")
    place.coco(BOX, name="train/_annotations.coco.json", images=["a.png"])
    place.coco({**BOX, "category_id": 2}, name="valid/_annotations.coco.json", images=["b.png"])
    assert "val has boxes of dog, and train has none" in call("check", place.folder)


def test_check_names_copies_in_several_splits(place):
    place.pictures("train/a.png", "valid/a.png")
    for split in ("train", "valid"):
        (place.folder / split / "a.png").write_bytes((place.folder / "train" / "a.png").read_bytes())
        place.coco(BOX, name=f"{split}/_annotations.coco.json", images=["a.png"])
    assert "in several splits: train train/a.png and val valid/a.png" in call("check", place.folder, exit_code=2)


def test_correlation_prints_both_figures(place):
    said = call("correlation", place.coco(BOX, {"bbox": [1, 2, 3, 9]}))
    assert "MC of 1 image:" in said
    assert "exchanged" in said


def test_a_drawn_data_set_is_written_and_read_back(place):
    scenes = shapes()[:3]
    write_coco(scenes, place.folder / "set")
    found = place.read(root=str(place.folder / "set"))
    assert [sample.truth.boxes for sample in found.samples] == [scene.boxes for scene in scenes]
    np.testing.assert_array_equal(np.asarray(Image.open(found.samples[0].place)), scenes[0].pixels)
    assert not place.findings.wrong


def test_a_folder_that_holds_things_is_left_alone(tmp_path: Path):
    (tmp_path / "mine").touch()
    app = typer.Typer()
    add_verbs(app, app)
    assert "not an empty folder" in str(CliRunner().invoke(app, ["shapes", str(tmp_path)]).exception)


def digest(scenes: list[Scene]) -> str:
    whole = hashlib.sha256()
    for scene in scenes:
        whole.update(scene.pixels.tobytes())
        whole.update(json.dumps([scene.name, scene.split, scene.boxes, scene.labels]).encode())
    return whole.hexdigest()[:16]


@pytest.mark.parametrize(
    ("draw", "expected", "counts"),
    [
        (shapes, "e029443f137338b3", (500, 150, 150)),
        (digit_scenes, "e349e039b8828fc9", (500, 150, 150)),
        (thing_scenes, "c01ff5e79a02fc3c", (3000, 200, 200)),
    ],
)
def test_drawn_scenes_stay_as_they_are(draw, expected, counts):
    scenes = draw()
    assert digest(scenes) == expected
    assert tuple(sum(each.split == split for each in scenes) for split in ("train", "val", "test")) == counts
    for scene in scenes:
        x1, y1, x2, y2 = np.array(scene.boxes).T
        assert min(x1.min(), y1.min()) >= 0
        assert max(x2.max(), y2.max()) <= len(scene.pixels)
        assert (x2 > x1).all()
        assert (y2 > y1).all()


def test_of_what_is_covered_the_share_is_known():
    below, above = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    below[:2], above[:1] = True, True
    assert visible_shares([below, above]) == [0.5, 1.0]
