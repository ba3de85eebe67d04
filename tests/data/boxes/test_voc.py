"""Pascal VOC xml, of the challenge and of tools."""

import pytest

from vision_train.errors import UserError


def xml(name: str, *objects: str, database: str = "Unknown", size: bool = True) -> str:
    sides = "<size><width>64</width><height>48</height><depth>3</depth></size>" if size else ""
    return (
        f"<annotation><filename>{name}</filename><source><database>{database}</database></source>{sides}"
        f"{''.join(f'<object>{each}</object>' for each in objects)}</annotation>"
    )


def box(name: str = "cat", more: str = "", corners: tuple[float | str, ...] = (8, 4, 24, 24)) -> str:
    sides = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<name>{name}</name>{more}<bndbox>{sides}</bndbox>"


CORNERS = (8.0, 4.0, 24.0, 24.0)


def test_boxes_are_corners_and_difficult_ones_ignored(place):
    place.pictures("JPEGImages/a.png", "JPEGImages/b.png")
    difficult = box("dog", "<difficult>1</difficult>", (0, 0, 4, 4))
    place.text("Annotations/a.xml", xml("a.png", box(), box("zebra"), difficult))
    place.text("Annotations/b.xml", xml("b.png"))
    place.text("ImageSets/Main/trainval.txt", "a\nb\n")
    place.text("ImageSets/Main/val.txt", "b\n")
    place.text("ImageSets/Main/cat_val.txt", "a -1\n")
    found = place.read()
    first, second = found.samples
    assert first.truth.boxes == (CORNERS, CORNERS)
    assert first.truth.labels == ("cat", "zebra")
    assert first.truth.ignored == ((0.0, 0.0, 4.0, 4.0),)
    assert (first.split, second.split) == ("train", "val")
    assert second.truth.boxes == ()
    assert found.categories == {"cat": 1, "dog": 2, "zebra": 3}


def test_folders_of_splits_need_not_hold_the_same_classes(place):
    for split, names in (("train", ("cat", "dog")), ("valid", ("bird", "dog"))):
        place.pictures(f"{split}/{split}.png")
        place.text(f"{split}/{split}.xml", xml(f"{split}.png", *map(box, names)))
    found = place.read()
    assert found.categories == {"bird": 1, "cat": 2, "dog": 3}
    assert found.notes == []


def test_classes_without_numbers_follow_those_that_have_some(place):
    place.pictures("a.png", "xml/b.png")
    place.coco({"bbox": [8, 4, 16, 20]}, images=["a.png"])
    place.text("xml/b.xml", xml("b.png", box("ant"), box("dog")))
    labels = {"train": str(place.folder / "xml"), "val": str(place.folder / "boxes.json")}
    assert place.read(labels=labels).categories == {"cat": 1, "dog": 2, "ant": 3}


def test_files_in_folders_of_their_own_are_read_too(place):
    for name in ("a", "film/b"):
        place.pictures(f"JPEGImages/{name}.png")
        place.text(f"Annotations/{name}.xml", xml(f"{name}.png", box()))
    place.text("ImageSets/Main/train.txt", "a\n")
    place.text("ImageSets/Main/val.txt", "film/b\n")
    assert {sample.id: sample.split for sample in place.read().samples} == {
        "JPEGImages/a.png": "train",
        "JPEGImages/film/b.png": "val",
    }
    (place.folder / "Annotations/a.xml").unlink()
    assert [sample.split for sample in place.read().samples] == ["val"]


def test_the_challenge_counts_pixels_from_one(place):
    place.pictures("a.png")
    place.text("Annotations/a.xml", xml("a.png", box(corners=(9, 5, 24, 24)), database="The VOC2007 Database"))
    assert place.truths()["a.png"].boxes == (CORNERS,)


@pytest.mark.parametrize("written", ["a.png", "a", "C:\\x\\a.png"])
def test_files_beside_their_images_and_in_folders_of_splits(place, written):
    for split in ("train", "valid", "test"):
        place.pictures(f"{split}/a.png")
        place.text(f"{split}/a.xml", xml(written, box()))
    assert {sample.id: sample.split for sample in place.read().samples} == {
        "train/a.png": "train",
        "valid/a.png": "val",
        "test/a.png": "test",
    }


def test_polygons_and_missing_sizes(place):
    place.pictures("a.png")
    polygon = "<name>cat</name><polygon><x1>8</x1><y1>4</y1><x2>24</x2><y2>4</y2><x3>9</x3><y3>24</y3></polygon>"
    points = "<name>cat</name><polygon><pt><x>8</x><y>4</y></pt><pt><x>24</x><y>24</y></pt></polygon>"
    place.text("a.xml", xml("a.png", polygon, points, size=False))
    truth = place.truths()["a.png"]
    assert truth.boxes == (CORNERS, CORNERS)
    assert truth.width == 64


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("<annotation>", "no xml"),
        ("<html></html>", "not Pascal VOC"),
        (xml("a.png", "<name>cat</name><robndbox><cx>1</cx></robndbox>"), "without a box"),
        (xml("a.png", box(corners=(8, "nan", 24, "inf"))), "without a box"),
        (xml("a.png", box("")), "without a name"),
        (xml("a.png", box(corners=(24, 4, 8, 24))), "zero or negative"),
    ],
)
def test_files_that_cannot_be_used_are_named(place, content, kind):
    place.pictures("a.png", "b.png", "c.png", "d.png")
    for name in "bcd":
        place.text(f"{name}.xml", xml(f"{name}.png", box()))
    place.text("a.xml", content)
    with pytest.raises(UserError, match=rf"(?s){kind}.*a\.xml"):
        place.build()
    place.build(on_bad="skip")


def test_xml_without_any_box_is_refused(place):
    place.pictures("a.png")
    place.text("a.xml", xml("a.png"))
    with pytest.raises(UserError, match="no boxes"):
        place.read()
