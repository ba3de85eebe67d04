"""REFER's folders, TransVG's lists, Flickr30k Entities and csv files are read as they are; what is wrong is named."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.phrases.conftest import ref
from vision_train.errors import UserError


class Evil:
    """Touches a file when it is read by an unpickler that calls what it is told to."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self):
        return os.system, (f"touch {self.touched}",)


def python_2(value: Any) -> bytes:
    """Return the bytes that Python 2 pickled plain values to: texts are bytes there."""
    if isinstance(value, str):
        text = value.encode("latin-1")
        return b"U" + bytes([len(text)]) + text
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python_2, value)) + b"e"
    return b"}(" + b"".join(python_2(key) + python_2(each) for key, each in value.items()) + b"u"


def told(samples) -> dict[str, tuple]:
    return {sample.id: (sample.text, sample.truth.box, sample.split, sample.letters) for sample in samples}


BOX = (4.5, 8.25, 20.5, 28.25)


class TestRefer:
    def test_each_sentence_is_a_sample(self, place):
        place.pictures("a.png", "images/b.png")
        place.refer(
            ref(1, "train", "red cup", "Cup on the  Left "), ref(2, "testA", "man", image=2), ref(3, "val", "dog")
        )
        assert told(place.read()) == {
            "a.png#100": ("red cup", BOX, "train", ""),
            "a.png#101": ("Cup on the Left", BOX, "train", ""),
            "images/b.png#200": ("man", BOX, "test", "A"),
            "a.png#300": ("dog", BOX, "val", ""),
        }
        first = place.read()[0]
        assert (first.group, first.truth.width, first.truth.height) == ("a.png", 64, 48)

    def test_the_category_is_that_of_the_box_and_empty_where_none_is_named(self, place):
        place.pictures("a.png", "b.png")
        place.refer(ref(1, "train", "red cup"), ref(2, "train", "dog", image=2))
        assert [sample.truth.category for sample in place.read()] == ["", ""]
        instances = json.loads((place.folder / "instances.json").read_text())
        instances["annotations"][1]["category_id"] = "7"
        instances["categories"] = [{"id": 1, "name": "cup"}]
        place.text("instances.json", json.dumps(instances))
        assert [sample.truth.category for sample in place.read()] == ["cup", ""]

    def test_ids_may_be_texts_and_splits_may_be_joined(self, place):
        place.pictures("a.png", "b.png")
        place.refer(
            ref(1, "testAB", "one", image="1"), ref(2, "testC", "two", image="2"), as_text=True, name="refs(berkeley).p"
        )
        assert [(each.text, each.split, each.letters) for each in place.read()] == [
            ("one", "test", "AB"),
            ("two", "test", "C"),
        ]

    def test_pickles_of_python_2_are_read_as_latin_1(self, place):
        place.pictures("a.png")
        path = place.refer(images=["a.png"])
        path.write_bytes(b"\x80\x02" + python_2([ref(1, "train", "café")]) + b".")
        assert [each.text for each in place.read()] == ["café"]

    def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(self, place):
        place.pictures("a.png")
        touched = place.folder / "touched"
        path = place.refer({**ref(1, "train", "cup"), "evil": Evil(touched)})
        with pytest.raises(UserError, match=r"refs\(unc\)\.p.*system.*nothing of it was run.*csv"):
            place.read()
        assert not touched.exists()
        path.write_bytes(b"cbuiltins\neval\n(V1\ntR.")
        with pytest.raises(UserError, match=r"builtins\.eval"):
            place.read()

    def test_not_even_harmless_classes_are_made(self, place):
        place.refer({**ref(1, "train", "cup"), "box": np.float64(3)})
        with pytest.raises(UserError, match="numpy"):
            place.read()

    @pytest.mark.parametrize("content", [b"", b"\x80\x02", b"no pickle", b"\x80\x02K\x01.", b"\x80\x02](K\x01e."])
    def test_what_is_no_list_of_expressions_is_refused(self, place, content: bytes):
        place.refer().write_bytes(content)
        with pytest.raises(UserError, match=r"refs\(unc\)\.p.*get the file again"):
            place.read()

    @pytest.mark.parametrize(
        "content", ["", "[]", "{}", '{"images": [{}], "annotations": []}', '{"images": [], "annotations": [{"id": 1}]}']
    )
    def test_damaged_instances_are_refused(self, place, content: str):
        place.refer(ref(1, "train", "cup"))
        place.text("instances.json", content)
        with pytest.raises(UserError, match=r"instances\.json"):
            place.read()

    def test_missing_instances_are_named(self, place):
        path = place.refer(ref(1, "train", "cup"))
        (place.folder / "instances.json").unlink()
        with pytest.raises(UserError, match=r"instances\.json: No such file"):
            place.read(labels=str(path))

    def test_expressions_that_belong_to_nothing_are_found(self, place):
        place.pictures("a.png", "b.png")
        place.refer(
            ref(1, "train", "cup"),
            ref(2, "train", "cup", image=7),
            ref(3, "train", "cup", box=99),
            ref(4, "later", "cup"),
        )
        assert len(place.read()) == 1
        for kind, number in (("whose image", 2), ("whose box", 3), ("no known split", 4)):
            (examples,) = (found for name, found in place.findings.wrong.items() if kind in name)
            assert f"ref {number}" in examples[0]

    def test_one_of_several_is_named(self, place):
        place.pictures("a.png", "b.png")
        place.refer(ref(1, "train", "cup"), name="refs(google).p")
        path = place.refer(ref(1, "train", "dog"))
        with pytest.raises(UserError, match=r"refs\(google\)\.p, refs\(unc\)\.p.*data\.labels"):
            place.read()
        assert [each.text for each in place.read(labels=str(path))] == ["dog"]


class TestTransVG:
    def test_lists_of_the_refcoco_family_hold_corner_and_size(self, place):
        place.pictures("a.png", "b.png")
        place.lists(
            "unc+",
            train=[("a.png", "1.npy", [4, 8, 16, 20], "red cup", {"x": ["none"]})],
            testA=[("b.png", "2.npy", [4.5, 8, 16, 20], "dog", {})],
        )
        assert told(place.read()) == {
            "a.png#1": ("red cup", (4, 8, 20, 28), "train", ""),
            "b.png#1": ("dog", (4.5, 8, 20.5, 28), "test", "A"),
        }

    @pytest.mark.parametrize("name", ["referit", "flickr"])
    def test_lists_of_referit_and_flickr_hold_corners(self, place, name: str):
        place.pictures("a.png")
        entry = ("a.png", [4, 8, 20, 28], "cup") if name == "flickr" else ("a.png", "m", [4, 8, 20, 28], "cup", None)
        place.lists(name, train=[entry], trainval=[entry, entry])
        assert told(place.read()) == {"a.png#1": ("cup", (4, 8, 20, 28), "train", "")}

    def test_entries_that_are_something_else_are_found(self, place):
        place.pictures("a.png")
        place.lists("unc", train=[("a.png", "m", [4, 8, 16, 20], "cup", None), ("a.png",), 3, ("a.png", [1, 2], "x")])
        assert len(place.read()) == 1
        assert place.findings.wrong == {
            "entries without file, box and expression": [f"unc_train.pth entry {number}" for number in (1, 2, 3)]
        }

    @pytest.mark.parametrize(
        "entry", [("a.png", "m", [4, 8, 16, 20], None, []), (None, "m", [4, 8, 16, 20], "cup", [])]
    )
    def test_nothing_in_place_of_a_text_is_no_text(self, place, entry):
        place.pictures("a.png")
        place.lists("unc", train=[("a.png", "m", [4, 8, 16, 20], "cup", None), entry])
        assert [sample.text for sample in place.read()] == ["cup"]
        assert place.findings.wrong == {"entries without file, box and expression": ["unc_train.pth entry 1"]}

    def test_a_list_that_would_run_code_is_refused_and_runs_nothing(self, place):
        touched = place.folder / "touched"
        place.lists("unc", train=[Evil(touched)])
        with pytest.raises(UserError, match=r"unc_train\.pth.*system.*nothing of it was run"):
            place.read()
        assert not touched.exists()

    def test_what_is_no_list_is_refused(self, place):
        place.lists("unc", train={"model": torch.zeros(2)})
        with pytest.raises(UserError, match=r"unc_train\.pth.*dict"):
            place.read()
        (place.folder / "unc_train.pth").write_bytes(b"no list")
        with pytest.raises(UserError, match=r"unc_train\.pth"):
            place.read()
        with pytest.raises(UserError, match=r"weights\.pth.*NAME_SPLIT\.pth"):
            place.read(labels=str(place.text("weights.pth", "")))

    def test_corners_in_a_list_of_sizes_are_named(self, place):
        place.pictures("a.png")
        boxes = [[40, 30, 60, 46], [20, 20, 60, 40], [30, 10, 62, 40]]
        place.lists("unc", train=[("a.png", "m", box, f"cup {number}", None) for number, box in enumerate(boxes)])
        with pytest.raises(UserError, match=r"unc_train\.pth.*left, top, right, bottom"):
            place.read()


class TestEntities:
    XML = """<annotation><filename>{name}.jpg</filename><size><width>64</width><height>48</height></size>
    <object><name>7</name><name>8</name><bndbox><xmin>4</xmin><ymin>8</ymin><xmax>20</xmax><ymax>28</ymax></bndbox></object>
    <object><name>8</name><bndbox><xmin>10</xmin><ymin>2</ymin><xmax>40</xmax><ymax>9</ymax></bndbox></object>
    <object><name>9</name><scene>1</scene></object></annotation>"""

    def write(self, place, name: str = "12") -> None:
        place.pictures(f"images/{name}.jpg")
        place.text(f"Annotations/{name}.xml", self.XML.format(name=name))
        place.text(
            f"Sentences/{name}.txt",
            "[/EN#7/people A man] holds [/EN#8/other/x two red cups] in [/EN#9/scene a room] .\n[/EN#0/none It] is\n",
        )

    def test_a_phrase_means_the_hull_of_its_boxes(self, place):
        self.write(place)
        place.text("val.txt", "12\n")
        assert told(place.read()) == {
            "images/12.jpg#1": ("A man", (4, 8, 20, 28), "val", ""),
            "images/12.jpg#2": ("two red cups", (4, 2, 40, 28), "val", ""),
        }
        assert [sample.truth.category for sample in place.read()] == ["people", "other"]

    def test_a_damaged_file_is_found(self, place):
        self.write(place)
        self.write(place, "13")
        place.text("Annotations/13.xml", "<annotation>")
        assert len(place.read()) == 2
        assert "13.xml" in place.findings.wrong["sentences whose boxes cannot be read"][0]


class TestTables:
    def test_a_line_is_an_expression(self, place):
        place.pictures("a.png", "b.png")
        place.csv(
            ("a.png", "red cup", 4.5, 8.25, 16, 20, "train"),
            ("a.png", '"the left, low one"', 0, 0, 64, 48, "Validation"),
            ("b.png", "dog", 0, 0, 8, 8, "testB"),
            columns="path,text,x,y,w,h,split",
        )
        assert told(place.read()) == {
            "a.png#1": ("red cup", BOX, "train", ""),
            "a.png#2": ("the left, low one", (0, 0, 64, 48), "val", ""),
            "b.png#1": ("dog", (0, 0, 8, 8), "test", "B"),
        }

    def test_a_line_may_say_the_category(self, place):
        place.pictures("a.png")
        line = ("a.png", "red cup", 4, 8, 16, 20)
        place.csv((*line, "cup"), ("a.png", "it", 4, 8, 16, 20, ""), columns="path,text,x,y,w,h,category")
        assert [sample.truth.category for sample in place.read()] == ["cup", ""]

    @pytest.mark.parametrize(
        ("columns", "line", "parts"),
        [
            ("path,label", ("a.png", "cup"), ("no column text and x and y and w and h", "found: path, label")),
            ("path,text,x,y,w,h,split", ("a.png", "cup", 0, 0, 8, 8, "later"), ("line 2", "later", "testA")),
            ("path,text,x,y,w,h", ("", "cup", 0, 0, 8, 8), ("line 2", "the path is empty")),
        ],
    )
    def test_a_table_of_something_else_is_refused(self, place, columns: str, line, parts):
        place.pictures("a.png")
        place.csv(line, columns=columns)
        with pytest.raises(UserError) as refused:
            place.read()
        for part in ("phrases.csv", *parts):
            assert part in str(refused.value)

    def test_boxes_that_are_no_numbers_are_found(self, place):
        place.pictures("a.png")
        place.csv(("a.png", "cup", 0, 0, 8, 8), ("a.png", "dog", "", 0, 8, "x"), ("a.png", "hat", "nan", 0, 8, 8))
        assert len(place.read()) == 1
        assert place.findings.wrong == {"boxes that are not four numbers": [f"phrases.csv line {n}" for n in (3, 4)]}

    def test_shares_are_refused(self, place):
        place.pictures("a.png")
        place.csv(*(("a.png", f"cup {number}", 0.1, 0.2, 0.5, 0.5) for number in range(3)))
        with pytest.raises(UserError, match=r"phrases\.csv.*shares.*pixels"):
            place.read()


def test_folders_and_files_of_no_known_format_are_refused(place):
    with pytest.raises(UserError, match=r"data\.root.*holds no expressions.*refs\(NAME\)\.p.*data\.labels"):
        place.read()
    with pytest.raises(UserError, match=r"data\.root.*no such folder"):
        place.read(root=str(place.folder / "gone"))
    with pytest.raises(UserError, match=r"data\.labels.*no such file"):
        place.read(labels=str(place.folder / "gone.csv"))
    with pytest.raises(UserError, match=r"data\.labels.*no known format"):
        place.read(labels=str(place.text("a.json", json.dumps({}))))
