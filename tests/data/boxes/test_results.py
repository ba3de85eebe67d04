"""Files of results: whose ids they carry."""

import numpy as np
import pytest

from vision_train.data.boxes import Section
from vision_train.data.boxes.annotations import BoxSample
from vision_train.data.boxes.read import read_boxes
from vision_train.data.boxes.results import open_results
from vision_train.errors import UserError
from vision_train.previews import BoxesOnImage
from vision_train.recipe.recipe import Recipe

CLASSES = ["cat", "dog"]
FOUND = BoxesOnImage(np.array([[1.0, 2, 11, 22], [-3, 0, 5, 5]]), np.array([1, 0]), CLASSES, np.array([0.75, 0.5]))


def opened(section: Section, *places: str, classes: list[str] = CLASSES):
    recipe = Recipe(task="detection", data=section, method=None)
    return open_results(recipe, classes, [BoxSample(place, place) for place in places])


def test_boxes_have_the_ids_of_the_annotations(place):
    place.pictures("a.png", "b.png")
    place.coco(images=("a.png", "b.png"), categories=[{"id": 5, "name": "cat"}, {"id": 90, "name": "dog"}])
    results = opened(Section(root=str(place.folder), category_ids=[5, 90]), str(place.folder / "b.png"))
    assert results.entries(str(place.folder / "b.png"), FOUND) == [
        {"image_id": 2, "category_id": 90, "bbox": [1, 2, 10, 20], "score": 0.75},
        {"image_id": 2, "category_id": 5, "bbox": [-3, 0, 8, 5], "score": 0.5},
    ]
    assert results.notes == []
    assert FOUND.corners[0].tolist() == [1, 2, 11, 22], "what is drawn later stays as it is"


def test_large_annotations_are_not_read_where_small_ones_list_all_images(place, monkeypatch):
    place.pictures("train/a.png", "val/b.png")
    read = []
    monkeypatch.setattr(
        "vision_train.data.boxes.results.read_boxes",
        lambda section, findings: read.append([*section.labels]) or read_boxes(section, findings),
    )
    place.coco(*[{"bbox": [8, 4, 16, 20]}] * 9, name="annotations/train.json", images=("a.png",))
    categories = [{"id": 8, "name": "cat"}, {"id": 9, "name": "dog"}]
    place.coco(name="annotations/val.json", images=("x.png", "b.png"), categories=categories)
    section = Section(root=str(place.folder), category_ids=[1, 2])
    seen, learned = str(place.folder / "val/b.png"), str(place.folder / "train/a.png")
    results = opened(section, seen)
    assert (read, results.image_ids, results.category_ids) == ([["val"]], {seen: 2}, [8, 9])
    results = opened(section, learned)
    assert (read[1:], results.image_ids, results.category_ids) == ([["val"], ["train"]], {learned: 1}, [1, 2])


def test_other_images_have_the_number_or_the_name_of_their_file_and_this_is_told(place):
    place.pictures("a.png", "000000000139.png", "x.7.png")
    place.coco(images=("a.png",))
    paths = [str(place.folder / name) for name in ("a.png", "000000000139.png", "x.7.png")]
    results = opened(Section(root=str(place.folder), category_ids=[1, 2]), *paths)
    assert list(results.image_ids.values()) == [1, 139, "x.7"]
    assert "139" in results.notes[0]
    assert "a.png" not in results.notes[0]


def test_a_link_has_the_name_of_the_link(place):
    place.pictures("blobs/3f7a.png", "a.png")
    place.coco(images=("a.png",))
    (place.folder / "000000000139.png").symlink_to("blobs/3f7a.png")
    (place.folder / "linked.png").symlink_to("a.png")
    paths = [str(place.folder / name) for name in ("000000000139.png", "linked.png")]
    assert list(opened(Section(root=str(place.folder)), *paths).image_ids.values()) == [139, 1]


def test_annotations_that_are_gone_are_told_and_do_not_hinder(place):
    place.pictures("12.png")
    results = opened(Section(root=str(place.folder / "gone"), category_ids=[4, 9]), str(place.folder / "12.png"))
    assert list(results.image_ids.values()) == [12]
    assert "gone" in results.notes[0]
    assert list(results.category_ids) == [4, 9]


def test_classes_have_the_numbers_of_the_annotations_that_are_named(place):
    place.pictures()
    place.coco(categories=[{"id": 8, "name": "dog"}, {"id": 3, "name": "cat"}])
    assert list(opened(Section(root=str(place.folder), category_ids=[1, 2]), "c.png").category_ids) == [3, 8]
    place.coco(categories=[{"id": 2, "name": "cat"}])
    with pytest.raises(UserError, match=r"data\.root=.* the number 2, .* dog"):
        opened(Section(root=str(place.folder), category_ids=[1, 2]), "c.png")


def test_two_images_of_one_id_are_refused(place):
    place.pictures("one/7.png", "two/7.png")
    paths = [str(place.folder / name) for name in ("one/7.png", "two/7.png")]
    with pytest.raises(UserError, match=r"one/7\.png .*two/7\.png.* image_id 7.*data\.labels=FILE"):
        opened(Section(source="shapes", category_ids=[1, 2]), *paths)
