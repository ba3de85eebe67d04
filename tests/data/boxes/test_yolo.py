"""YOLO folders, as Ultralytics, Roboflow, CVAT and Label Studio lay them out."""

import pytest

from vision_train.errors import UserError

LINE = "0 0.25 0.5 0.25 0.5"
CORNERS = (8.0, 12.0, 24.0, 36.0)
YAML = "names: [cat, dog]\n"


def test_boxes_are_centre_and_size_as_shares_of_the_image(place):
    place.pictures("images/a.png", "images/b.png")
    place.text("labels/a.txt", f"{LINE}\n\n1 0.5 0.5 1 1\n")
    place.text("data.yaml", YAML)
    found = place.read()
    truths = {sample.id: sample.truth for sample in found.samples}
    assert truths["images/a.png"].boxes == (CORNERS, (0.0, 0.0, 64.0, 48.0))
    assert truths["images/a.png"].labels == ("cat", "dog")
    assert truths["images/b.png"].boxes == ()
    assert found.categories == {"cat": 0, "dog": 1}


@pytest.mark.parametrize("path", ["", "path: /content/somewhere\n", "path: .\n"])
@pytest.mark.parametrize("ahead", ["", "../", "/content/datasets/pets/"])
def test_splits_are_found_though_their_paths_are_of_another_machine(place, path, ahead):
    for split in ("train", "valid"):
        place.pictures(f"{split}/images/a.png")
        place.text(f"{split}/labels/a.txt", LINE)
    place.text("data.yaml", f"{path}train: {ahead}train/images\nval: {ahead}valid/images\ntest: ../test/images\n{YAML}")
    found = place.read()
    assert {sample.id: sample.split for sample in found.samples} == {
        "train/images/a.png": "train",
        "valid/images/a.png": "val",
    }
    assert all(sample.truth.boxes == (CORNERS,) for sample in found.samples)


def test_a_split_may_be_a_list_of_files(place):
    place.pictures("images/a.png", "images/b.png")
    place.text("labels/a.txt", LINE)
    place.text("train.txt", "./images/a.png\n")
    place.text("val.txt", "/home/else/images/b.png\n")
    place.text("data.yaml", "train: train.txt\nval: val.txt\nnames: {0: cat, 4: dog}\n")
    found = place.read()
    assert [sample.split for sample in found.samples] == ["train", "val"]
    assert found.categories == {"cat": 0, "dog": 4}, "numbers keep their gaps"


def test_an_export_of_label_studio_has_names_alone(place):
    place.pictures("images/a.png")
    place.text("labels/a.txt", LINE)
    place.text("classes.txt", "cat\ndog\n")
    place.text("notes.json", '{"categories": []}')
    assert place.truths()["images/a.png"].labels == ("cat",)


def test_an_export_of_cvat_has_its_texts_beside_the_images(place):
    place.pictures("obj_train_data/a.png")
    place.text("obj_train_data/a.txt", LINE)
    place.text("obj.names", "cat\ndog\n")
    place.text("train.txt", "data/obj_train_data/a.png\n")
    assert place.truths()["obj_train_data/a.png"].boxes == (CORNERS,)


def test_splits_that_an_export_of_cvat_names_are_kept(place):
    for split in ("train", "valid"):
        place.pictures(f"obj_{split}_data/{split}.png")
        place.text(f"obj_{split}_data/{split}.txt", LINE)
        place.text(f"{split}.txt", f"data/obj_{split}_data/{split}.png\n")
    place.text("obj.names", "cat\ndog\n")
    place.text("obj.data", "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\neval = coco\nbackup = b/\n")
    assert [sample.split for sample in place.read().samples] == ["train", "val"]
    (place.folder / "train.txt").unlink()
    with pytest.raises(UserError, match=r"obj\.data.* train names data/train\.txt"):
        place.read()


def test_folders_of_images_may_be_named_for_each_split(place):
    folders = {}
    for split in ("train", "val"):
        place.pictures(f"images/{split}/{split}.png")
        place.text(f"labels/{split}/{split}.txt", LINE)
        folders[split] = str(place.folder / "images" / split)
    names = place.text("classes.txt", "cat\n")
    found = place.read(root=None, labels=str(names), images=folders)
    assert [(sample.split, len(sample.truth.boxes)) for sample in found.samples] == [("train", 1), ("val", 1)]
    assert [sample.split for sample in place.read(labels={"val": str(names)}, images=folders).samples] == ["val"]


def test_key_points_behind_a_box_are_no_polygon(place):
    place.pictures("images/a.png")
    place.text("labels/a.txt", f"{LINE} 0.3 0.3 0.4 0.4\n")
    place.text("data.yaml", f"kpt_shape: [2, 2]\n{YAML}")
    assert place.truths()["images/a.png"].boxes == (CORNERS,)
    place.text("data.yaml", f"kpt_shape: 2\n{YAML}")
    with pytest.raises(UserError, match=r"data\.yaml.*kpt_shape"):
        place.read()


def test_pictures_of_more_pixels_than_pillow_opens_by_default_are_read(place, monkeypatch):
    place.pictures("images/a.png")
    place.text("labels/a.txt", LINE)
    place.text("data.yaml", YAML)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 64 * 48 // 3)
    assert place.truths()["images/a.png"].boxes == (CORNERS,)


@pytest.mark.parametrize("line", [f"{LINE} 0.93", f"{LINE} 17", "0 0.125 0.25 0.375 0.25 0.375 0.75 0.125 0.75"])
def test_a_sixth_number_and_polygons_are_read_and_told(place, line):
    place.pictures("images/a.png")
    place.text("labels/a.txt", line)
    place.text("data.yaml", YAML)
    assert place.truths()["images/a.png"].boxes == (CORNERS,)
    assert place.findings.handled
    assert not place.findings.wrong


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 16 24 16 24", "no shares of the image"),
        ("2 0.25 0.5 0.25 0.5", "classes that are not named"),
        ("0.5 0.25 0.5 0.25 0.5", "classes that are not named"),
        ("0 0.25 0.5 0.25", "neither a box nor a polygon"),
        ("cat 0.25 0.5 0.25 0.5", "not numbers"),
        ("0 0.25 0.5 0 0.5", "zero or negative"),
        ("0 nan 0.5 0.1 0.5", "no shares"),
    ],
)
def test_lines_that_cannot_be_read_are_named(place, line, kind):
    place.pictures(*(f"images/{name}.png" for name in "abcd"))
    for name in "bcd":
        place.text(f"labels/{name}.txt", LINE)
    place.text("labels/a.txt", line)
    place.text("data.yaml", YAML)
    with pytest.raises(UserError, match=rf"(?s){kind}.*a\.txt line 1"):
        place.build()
    assert sum(place.build(on_bad="skip").counts.values()) == 4


def test_boxes_by_their_corners_are_refused(place):
    place.pictures("images/a.png")
    place.text("labels/a.txt", "0 0.1 0.2 0.9 0.95\n" * 4)
    place.text("data.yaml", YAML)
    with pytest.raises(UserError, match=r"data\.yaml.*centre.*left, top, right, bottom"):
        place.read()


def test_texts_without_their_image_are_named(place):
    place.pictures("images/a.png")
    place.text("labels/a.txt", LINE)
    place.text("labels/gone.txt", LINE)
    place.text("labels/classes.txt", "cat")
    place.text("data.yaml", YAML)
    place.read()
    assert [len(examples) for examples in place.findings.wrong.values()] == [1]


def test_classes_that_are_digits_are_no_boxes(place):
    place.pictures("a.png")
    place.text("a.txt", LINE)
    place.text("classes.txt", "0\n1\n")
    assert place.truths()["a.png"].labels == ("0",)
    assert not place.findings.wrong


def test_a_split_that_is_not_there_is_told(place):
    place.pictures("images/a.png")
    place.text("labels/a.txt", LINE)
    place.text("data.yaml", f"train: images\nval: nowhere\n{YAML}")
    place.read()
    assert place.findings.handled == {"splits whose images are not there": ["val of data.yaml (nowhere)"]}


def test_images_are_not_looked_for_in_a_folder_that_is_not_there(place):
    place.pictures("images/a.png")
    place.text("labels/a.txt", LINE)
    place.text("data.yaml", f"train: images\n{YAML}")
    with pytest.raises(UserError, match=r"nowhere.*data\.images"):
        place.read(images=str(place.folder / "nowhere"))


@pytest.mark.parametrize("yaml", ["", "nc: 2\n", "nc: 3\nnames: [cat, dog]\n"])
def test_a_folder_whose_file_names_no_classes_or_too_few_is_refused(place, yaml):
    place.pictures("images/a.png")
    place.text("labels/a.txt", LINE)
    place.text("data.yaml", yaml)
    with pytest.raises(UserError, match=r"data\.yaml.*names"):
        place.read()


@pytest.mark.parametrize(
    "yaml", ["names: []", "names: [cat, cat]", "nc: 2\nnames: 3", "- a", "names: [a\n", "names: [a]\ntrain: no/where"]
)
def test_a_file_that_does_not_describe_a_data_set_is_named(place, yaml):
    path = place.text("data.yaml", yaml)
    with pytest.raises(UserError, match=r"data\.yaml"):
        place.read(labels=str(path))


def test_texts_of_images_that_a_list_leaves_out_are_no_mistake(place):
    place.pictures("images/a.png", "images/b.png")
    for name in "ab":
        place.text(f"labels/{name}.txt", LINE)
    place.text("train.txt", "images/a.png\n")
    place.text("data.yaml", f"train: train.txt\n{YAML}")
    assert [*place.truths()] == ["images/a.png"]
    assert not place.findings.wrong
