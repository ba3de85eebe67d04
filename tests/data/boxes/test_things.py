"""The drawn things of a size, a colour and a shape: their classes are what is seen, and no picture is described."""

from types import SimpleNamespace

import numpy as np

from vision_train.data.boxes import Section
from vision_train.data.boxes.build import build
from vision_train.data.toy.referring import PAINT, referring
from vision_train.data.toy.thing_scenes import LABELS, thing_scenes
from vision_train.recipe.sections import Augment


def test_the_class_of_a_thing_is_its_size_colour_and_shape():
    filled = {"circle": [], "square": [], "triangle": []}
    for scene in thing_scenes()[:100]:
        for (x1, y1, x2, y2), label in zip(scene.boxes, scene.labels, strict=True):
            size, colour, shape = label.split()
            assert (max(x2 - x1, y2 - y1) < 12) == (size == "small")
            inside = scene.pixels[int(y1) : int(y2), int(x1) : int(x2)].astype(int)
            middle = inside[inside.shape[0] // 2, inside.shape[1] // 2]
            assert min(PAINT, key=lambda name: np.abs(middle - PAINT[name]).sum()) == colour
            filled[shape].append((np.ptp(inside, axis=2) > 40).mean())  # the background is grey
    triangle, circle, square = (np.mean(filled[shape]) for shape in ("triangle", "circle", "square"))
    assert triangle < 0.65 < circle < 0.95 < square


def test_all_classes_are_in_every_split():
    for split in ("train", "val", "test"):
        assert {label for scene in thing_scenes() if scene.split == split for label in scene.labels} == {*LABELS}


def test_no_picture_is_one_that_expressions_are_about():
    described = {each.scene.pixels.tobytes() for each in referring()}
    drawn = [scene.pixels.tobytes() for scene in thing_scenes()]
    assert len({*drawn}) == len(drawn)
    assert not described & {*drawn}


def test_the_bundled_source_is_a_data_set_and_is_drawn_once():
    section = Section(source="things", short_side=48, long_side=48, batch_size=8, workers=0)
    module = build(SimpleNamespace(data=section, augment=Augment(), seed=0))
    assert module.counts == {"train": 3000, "val": 200, "test": 200}
    assert module.classes == sorted(LABELS)
    batch = next(iter(module.train_dataloader()))
    assert {len(boxes) for boxes in batch["boxes"]} <= {3, 4}
    assert thing_scenes() is thing_scenes()
