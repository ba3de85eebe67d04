"""What can be wrong with images with boxes: named before training, or trained on to the end."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vision_train.recipe import load_recipe

TINY = """
extends: relation_detr/shapes
data: {source: boxes, root: photos, short_side: 64, long_side: 256, batch_size: 2, eval_batch_size: 1, workers: 0}
model: {args: {dim: 32, heads: 2, encoder_layers: 1, decoder_layers: 2, queries: 20}}
optim: {warmup_steps: 0}
trainer: {max_epochs: 1}
"""
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 90, "name": "dog"}]
FIT = ("fit", "detector.yaml")


def picture(name: str, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> None:
    path = Path("photos", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if mode == "I;16":
        Image.fromarray(random.integers(0, 65535, (size[1], size[0]), dtype=np.uint16)).save(path)
        return
    Image.fromarray(random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).convert(mode).save(path)


def annotate(images: list[tuple[str, tuple[int, int], list[dict[str, Any]]]], name: str = "boxes.json") -> None:
    """Write a COCO json of images, each a name, a size and its boxes."""
    listed = [
        {"id": number, "file_name": file, "width": size[0], "height": size[1]}
        for number, (file, size, _) in enumerate(images, start=1)
    ]
    boxes = [
        {"category_id": 7, "image_id": number, **box} for number, (*_, own) in enumerate(images, start=1) for box in own
    ]
    annotations = [{"id": number, **box} for number, box in enumerate(boxes, start=1)]
    content = {"images": listed, "annotations": annotations, "categories": CATEGORIES}
    Path("photos", name).write_text(json.dumps(content))


@pytest.fixture
def detector(place: Path) -> list[tuple[str, tuple[int, int], list[dict[str, Any]]]]:
    """A detector's recipe, and twelve photos with a box each; the photos of classification are gone."""
    for path in sorted(Path("photos").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    Path("detector.yaml").write_text(TINY)
    images = [(f"{number:02d}.png", (64, 48), [{"bbox": [8, 4, 16, 20]}]) for number in range(12)]
    for name, *_ in images:
        picture(name)
    annotate(images)
    return images


Spoil = Callable[[list[tuple[str, tuple[int, int], list[dict[str, Any]]]]], None]


def add(**box: Any) -> Spoil:
    return lambda images: annotate([*images[:-1], (*images[-1][:2], [{"bbox": [8, 4, 16, 20]}, box])])


def other_json(content: Any) -> Spoil:
    return lambda images: Path("photos/boxes.json").write_text(json.dumps(content)) and None


SPOILT: dict[str, tuple[Spoil, str]] = {
    "json that is not COCO": (other_json({"foo": 1}), r"boxes\.json: is an object of foo and no COCO json"),
    "outside": (add(bbox=[99, 99, 9, 9]), r"lie outside.*annotation 13.*data\.on_bad=skip"),
    "zero": (add(bbox=[5, 5, 0, 9]), r"zero or negative size.*annotation 13.*data\.on_bad=skip"),
    "negative": (add(bbox=[5, 5, -4, 9]), r"zero or negative size.*annotation 13.*data\.on_bad=skip"),
    "nan": (add(bbox=[5, 5, float("nan"), 9]), r"not four numbers.*annotation 13.*data\.on_bad=skip"),
    "absent image": (add(bbox=[5, 5, 4, 9], image_id=99), r"images that the file does not list.*annotation 13"),
    "label beyond the classes": (add(bbox=[5, 5, 4, 9], category_id=91), r"categories that.*not list.*category 91"),
    "no number": (add(bbox=[5, 5, 4, 9], category_id=[7]), r"categories that.*not list.*category \[7\]"),
    "listed twice": (lambda images: annotate([*images, images[0]]), r"listed twice: 00\.png.*data\.on_bad=skip"),
    "no file": (lambda images: Path("photos/03.png").unlink(), r"not below .*photos: 03\.png"),
    "no box": (lambda images: annotate([(*each[:2], []) for each in images]), r"no training image has a box"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_wrong_with_annotations_is_named_before_anything_is_written(kind, detector, refused):
    spoil, says = SPOILT[kind]
    spoil(detector)
    refused(*FIT, says=says)


def test_pixels_that_cannot_be_read_are_named_by_both_commands(detector, cli):
    images = [(f"{name[:2]}.jpg", size, boxes) for name, size, boxes in detector]
    for name, *_ in images:
        picture(name)
    annotate(images)
    cut = Path("photos/06.jpg")
    cut.write_bytes(cut.read_bytes()[:-600])
    checked = cli("data", "check", "photos")
    assert checked.exit_code == 2
    assert "cannot be read: 06.jpg (image file is truncated" in checked.output
    result = cli(*FIT)
    assert result.exit_code == 2
    assert "06.jpg" in result.stderr
    assert "data.on_bad=skip" in result.stderr
    skipping = cli(*FIT, "data.on_bad=skip")
    assert skipping.exit_code == 0, skipping.output
    assert "06.jpg" in skipping.output


def test_odd_images_and_annotations_train_to_the_end(detector, cli):
    """Modes, sizes, images without boxes, very many boxes, and paths of another machine, in one data set."""
    odd = [("32.png", (32, 32), "RGB"), ("wide.jpg", (20_000, 200), "RGB"), ("point.png", (1, 1), "RGB")]
    odd += [(f"{mode[:4]}.png".replace(";", "_"), (64, 48), mode) for mode in ("RGBA", "P", "I;16", "L", "1", "LA")]
    odd += [("cmyk.jpg", (64, 48), "CMYK"), ("many.png", (200, 200), "RGB"), ("none.png", (64, 48), "RGB")]
    listed = []
    for name, size, mode in odd:
        picture(f"inner/{name}", size, mode)
        boxes = [{"bbox": [0, 0, size[0] * 0.9, size[1] * 0.9]}]
        if name == "many.png":
            boxes = [{"bbox": [each % 190, each * 7 % 187, 8, 9]} for each in range(1500)]
        listed.append((f"C:\\Users\\a\\{name}", size, [] if name == "none.png" else boxes))
    annotate(listed, "train.json")
    val = [(name, size, [{"bbox": [8, 4, 16, 20], "category_id": 90}]) for name, size, _ in detector[:3]]
    annotate(val, "val.json")
    Path("photos/boxes.json").unlink()
    result = cli(*FIT, "--run-dir", "run")
    assert result.exit_code == 0, result.output
    assert "no training image has a box of dog, which val or test have" in result.output
    assert "found by their name" in result.output
    summary = json.loads(Path("run/summary.json").read_text())
    assert all(np.isfinite(value) for value in summary.values() if isinstance(value, float))
    assert load_recipe("run/recipe.yaml").data.category_ids == [7, 90]


def test_batches_without_any_box_and_a_split_without_one(detector, cli):
    annotate([(name, size, boxes if name in ("02.png", "03.png") else []) for name, size, boxes in detector])
    result = cli(*FIT, "trainer.max_epochs=2")
    assert result.exit_code == 0, result.output
    assert "no test image has a box, so that its AP is not defined" in result.output
