"""COCO json, with the traps of those who write it."""

import json
from typing import Any

import pytest
from PIL import Image

from vision_train.errors import UserError

BOX = {"bbox": [8, 4, 16, 20]}
CORNERS = (8.0, 4.0, 24.0, 24.0)


def test_boxes_become_corners_in_pixels(place):
    place.pictures()
    place.coco(BOX, {**BOX, "image_id": 2, "category_id": 2})
    found = place.read()
    truths = {sample.id: sample.truth for sample in found.samples}
    assert truths["a.png"].boxes == (CORNERS,)
    assert truths["a.png"].labels == ("cat",)
    assert truths["b.png"].labels == ("dog",)
    assert truths["c.png"].boxes == ()
    assert (truths["a.png"].width, truths["a.png"].height) == (64, 48)
    assert [sample.image_id for sample in found.samples] == [1, 2, 3]
    assert found.categories == {"cat": 1, "dog": 2}
    assert not place.findings.wrong


@pytest.mark.parametrize("numbers", [(0, 1), (1, 2), (3, 90)])
def test_numbers_of_categories_are_kept_whatever_they_begin_with(place, numbers):
    place.pictures()
    categories = [{"id": number, "name": name} for number, name in zip(numbers, ("cat", "dog"), strict=True)]
    place.coco({**BOX, "category_id": numbers[0]}, {**BOX, "category_id": numbers[1]}, categories=categories)
    module = place.build()
    assert module.classes == ["cat", "dog"]
    assert module.category_ids == [*numbers]
    assert module.section.category_ids == [*numbers]


@pytest.mark.parametrize("child", ["pothole", "crack"])
def test_a_root_that_only_groups_others_is_no_class(place, child):
    place.pictures()
    categories = [
        {"id": 0, "name": "pothole", "supercategory": "none"},
        {"id": 1, "name": child, "supercategory": "pothole"},
    ]
    place.coco(BOX, categories=categories)
    assert place.read().categories == {child: 1}


def test_a_category_of_its_own_is_a_class_though_it_has_no_parent(place):
    place.pictures()
    place.coco(BOX, categories=[{"id": 1, "name": "cat", "supercategory": "none"}])
    assert place.read().categories == {"cat": 1}


@pytest.mark.parametrize("flag", [{"iscrowd": 1}, {"ignore": 1}, {"ignore": True}])
def test_crowds_and_ignored_boxes_become_ignored_regions(place, flag):
    place.pictures()
    place.coco({**BOX, **flag}, {"bbox": [0, 0, 4, 4], "iscrowd": 0})
    truth = place.truths()["a.png"]
    assert truth.ignored == (CORNERS,)
    assert truth.boxes == ((0.0, 0.0, 4.0, 4.0),)


@pytest.mark.parametrize(("flags", "crowds"), [({"iscrowd": 1}, ("cat",)), ({"ignore": 1}, ()), ({"iscrowd": 0}, ())])
def test_a_crowd_is_one_of_its_class(place, flags, crowds):
    place.pictures()
    place.coco({**BOX, **flags})
    assert place.truths()["a.png"].crowds == crowds


def test_objects_have_the_area_of_their_outline_and_else_that_of_their_box(place):
    place.pictures()
    place.coco({**BOX, "area": 150.5}, {**BOX, "area": 0}, BOX, {**BOX, "area": "large"}, {**BOX, "image_id": 2})
    truths = place.truths()
    assert truths["a.png"].object_areas == [150.5, 320, 320, 320]
    assert truths["b.png"].object_areas == [320]


@pytest.mark.parametrize("written", ["C:\\photos\\a.png", "/home/someone/photos/a.png", "file:///x/a.png", "sub/a.png"])
def test_images_of_another_machine_are_found_by_their_name(place, written):
    place.pictures("photos/a.png")
    place.coco(BOX, images=[written])
    assert place.truths()["photos/a.png"].boxes == (CORNERS,)
    assert any("found by their name" in kind for kind in place.findings.handled)


@pytest.mark.parametrize("written", ["/data/local-files/?d=set/a.png", "3f2a91bc-a.png", "a%20b.png"])
def test_names_of_label_studio_are_understood(place, written):
    place.pictures("a.png", "a b.png")
    place.coco(BOX, images=[written if "%" not in written else f"http://host/data/{written}"])
    assert len(place.truths()) == 1


def test_a_name_that_several_files_have_is_not_guessed(place):
    place.pictures("one/a.png", "two/a.png", "two/b.png")
    place.coco(BOX, images=["a.png", "b.png"])
    assert [*place.truths()] == ["two/b.png"]
    assert place.findings.wrong
    assert "a.png" in next(iter(place.findings.wrong.values()))


def test_images_of_one_name_in_two_splits_are_told_apart(place):
    place.pictures("train/a.png", "valid/a.png")
    place.coco(BOX, name="train/_annotations.coco.json", images=["a.png"])
    place.coco(BOX, name="valid/_annotations.coco.json", images=["a.png"])
    assert {sample.id: sample.split for sample in place.read().samples} == {
        "train/a.png": "train",
        "valid/a.png": "val",
    }


def test_boxes_are_clipped_to_their_image_and_counted(place):
    place.pictures()
    place.coco({"bbox": [-8, 40, 20, 20]}, BOX)
    assert place.truths()["a.png"].boxes[0] == (0.0, 40.0, 12.0, 48.0)
    assert any("clipped" in kind for kind in place.findings.handled)


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ({"bbox": [8, 4, 0, 20]}, "zero or negative"),
        ({"bbox": [8, 4, 16, -2]}, "zero or negative"),
        ({"bbox": [80, 4, 16, 2]}, "outside"),
        ({"bbox": [1, 2, 3]}, "not four numbers"),
        ({"bbox": [1, 2, float("nan"), 3]}, "not four numbers"),
        ({"bbox": ["a", 2, 3, 4]}, "not four numbers"),
        ({"bbox": None}, "not four numbers"),
        ({"bbox": [8, 4, 16, 20], "image_id": 99}, "does not list"),
        ({"bbox": [8, 4, 16, 20], "image_id": [1]}, "does not list"),
        ({"bbox": [8, 4, 16, 20], "category_id": 7}, "does not list"),
    ],
)
def test_what_cannot_be_used_is_named_or_left_out(place, box: dict[str, Any], kind: str):
    place.pictures()
    place.coco(BOX, box)
    with pytest.raises(UserError, match=rf"(?s){kind}.*annotation 1.*data\.on_bad=skip"):
        place.build()
    module = place.build(on_bad="skip")
    assert sum(count["train"] + count["val"] + count["test"] for count in module.class_counts.values()) == 1
    assert any(kind in note for note in module.notes)


def test_an_image_that_is_not_there_or_listed_twice_is_named(place):
    place.pictures()
    place.coco(BOX, images=["a.png", "a.png", "gone.png", "b.png", "c.png"])
    with pytest.raises(UserError, match=r"(?s)listed twice.*a.png") as error:
        place.build()
    assert "gone.png" in str(error.value)
    assert sum(place.build(on_bad="skip").counts.values()) == 3


def test_polygons_give_the_boxes_around_them(place):
    place.pictures()
    place.coco({"segmentation": [[8, 4, 24, 4, 24, 24], [10, 6, 12, 6, 12, 8]]})
    assert place.truths()["a.png"].boxes == (CORNERS,)
    assert any("polygons" in kind for kind in place.findings.handled)


@pytest.mark.parametrize(
    ("order", "numbers"), [("left, top, right, bottom", (30, 20, 60, 44)), ("centre x", (45, 32, 30, 28))]
)
def test_boxes_in_another_order_of_numbers_are_refused(place, order, numbers):
    place.pictures()
    place.coco(*({"bbox": [*numbers]} for _ in range(4)))
    with pytest.raises(UserError, match=rf"boxes\.json.*{order}"):
        place.read()


def test_boxes_as_shares_of_their_images_are_refused(place):
    place.pictures()
    place.coco(*({"bbox": [0.1, 0.2, 0.3, 0.4]} for _ in range(3)))
    with pytest.raises(UserError, match=r"boxes\.json.*shares.*pixels.*annotation 0"):
        place.read()


@pytest.mark.parametrize("size", [None, (0, 0), ("wide", "high"), (float("inf"), float("nan"))])
def test_sizes_that_the_json_lacks_are_read_from_the_images(place, size):
    place.pictures(size=(40, 30))
    place.coco(BOX, size=size)
    assert place.truths()["a.png"].width == 40


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "results of a detector"),
        ([{"id": 1, "annotations": [], "data": {"image": "a.png"}}], "Label Studio"),
        ([{"image": "a.png", "annotations": []}], "CreateML"),
        ({"shapes": [], "imagePath": "a.png"}, "labelme"),
        ({"a.png": {"regions": []}}, "VGG Image Annotator"),
        ({"images": [], "annotations": [{"caption": "a cat"}]}, "captions"),
        ({"images": [], "categories": []}, "images alone"),
        ({"images": [], "annotations": [{"segments_info": []}], "categories": []}, "panoptic"),
        ({"type": "FeatureCollection", "features": []}, "GeoJSON"),
        ({"answer": 42}, "answer"),
        ([], "0 items"),
        (42, "single value"),
    ],
)
def test_json_that_is_not_coco_is_called_what_it_is(place, content, what):
    path = place.text("boxes.json", json.dumps(content))
    with pytest.raises(UserError, match=rf"(?s)boxes\.json.*{what}.*COCO"):
        place.read(labels=str(path))


def test_a_file_that_is_no_json_is_named(place):
    path = place.text("boxes.json", "{")
    with pytest.raises(UserError, match=r"boxes\.json.*no json"):
        place.read(labels=str(path))


@pytest.mark.parametrize(
    "categories", [[], [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}], [{"id": "x", "name": "cat"}], [{"id": 1}]]
)
def test_categories_that_cannot_be_used_are_named(place, categories):
    place.coco(BOX, categories=categories)
    with pytest.raises(UserError, match=r"boxes\.json.*categor"):
        place.read()


def test_files_are_named_for_splits_and_joined_by_the_names_of_classes(place):
    place.pictures()
    first = place.coco(BOX, images=["a.png"])
    cat = {"id": 7, "name": "cat"}
    second = place.coco({**BOX, "category_id": 7}, name="v.json", images=["b.png"], categories=[cat])
    module = place.build(labels={"train": str(first), "val": str(second)})
    assert module.category_ids == [1, 2]
    assert any("matched by name" in note for note in module.notes)
    assert [sample.id for sample in module.samples("val")] == ["b.png"]


def test_two_classes_of_one_number_are_refused(place):
    place.pictures()
    first = place.coco(BOX, images=["a.png"], categories=[{"id": 1, "name": "cat"}])
    second = place.coco(BOX, name="v.json", images=["b.png"], categories=[{"id": 1, "name": "dog"}])
    with pytest.raises(UserError, match=r"v\.json: category 1 is dog, and cat"):
        place.read(labels={"train": str(first), "val": str(second)})


def test_images_drawn_on_before_exif_turned_them_are_named(place):
    place.coco(BOX, images=["a.jpg"])
    turned = Image.new("RGB", (64, 48))
    turned.getexif()[274] = 6
    turned.save(place.folder / "a.jpg", exif=turned.getexif())
    sample = place.read().samples[0]
    with pytest.raises(UserError, match=r"(?s)a\.jpg.*64 x 48.*48 x 64.*EXIF"):
        next(iter(place.build(only="val").split_loader("val")))
    assert sample.truth.width == 64


def test_ids_are_paths_below_the_folder_that_all_images_are_in(place):
    place.pictures("one/a.png", "two/b.png")
    first = place.coco(BOX, name="one/x.json", images=["a.png"])
    second = place.coco(BOX, name="two/x.json", images=["b.png"])
    found = place.read(root=None, labels={"train": str(first), "val": str(second)})
    assert [sample.id for sample in found.samples] == ["one/a.png", "two/b.png"]


def test_a_folder_of_images_is_named_by_itself_or_for_each_split(place):
    place.pictures("x/a.png", "y/a.png", "y/b.png")
    path = place.coco(BOX, name="labels/boxes.json", images=["a.png"])
    assert [*place.truths(root=None, labels=str(path), images=str(place.folder / "x"))] == ["a.png"]
    second = place.coco(BOX, name="labels/v.json", images=["a.png"])
    folders = {"train": str(place.folder / "x"), "val": str(place.folder / "y")}
    found = place.read(root=None, labels={"train": str(path), "val": str(second)}, images=folders)
    assert {sample.id: sample.split for sample in found.samples} == {"x/a.png": "train", "y/a.png": "val"}


def test_one_file_is_divided_by_the_folders_of_its_images(place):
    place.pictures("x/a.png", "y/b.png")
    path = place.coco(BOX, images=["a.png", "b.png"])
    folders = {"train": str(place.folder / "x"), "val": str(place.folder / "y")}
    found = place.read(labels=str(path), images=folders)
    assert [sample.split for sample in found.samples] == ["train", "val"]
