"""Boxes of a pool as a file: what is kept is read back, what people have drawn wins, mistakes are named."""

from pathlib import Path

import numpy as np
import pytest

from augment.detection import DetectionTraining
from augment.geometry import map_boxes
from vision_train.data.box_labels import read_box_labels
from vision_train.data.boxes.pseudo_boxes import PseudoBoxDataset
from vision_train.data.boxes.two_views import Views
from vision_train.data.pseudo_labels import with_pseudo_labels
from vision_train.data.sample import ImageSample, brief_truth
from vision_train.errors import UserError
from vision_train.semi.box_labels import BoxLabel, LabelledBox
from vision_train.semi.label_file import write_pseudo_labels

BOX = LabelledBox("cat", (1.5, 2.25, 10.125, 20.0), 0.1 + 0.2, 1.0, 2 / 3)
REGION = LabelledBox("dog, big", (3.0, 4.0, 5.0, 7.0), 0.25, 0.0, 1 / 3)
LABELS = [
    BoxLabel("a/1.png", "cat", boxes=(BOX, REGION), round=2, scores={"robustness": 0.75, "score": 0.5}),
    BoxLabel("b.png", "", kept=False, boxes=(REGION,), round=2, scores={"robustness": 0.5, "score": 0.25}),
    BoxLabel("c\udcff.png", "no object", round=2, scores={"robustness": 1.0, "score": 1.0}),
]


def test_what_is_kept_is_read_back(tmp_path):
    write_pseudo_labels(tmp_path / "labels.csv", LABELS)
    header, *rows = (tmp_path / "labels.csv").read_text().splitlines()
    assert header == ("path,label,x,y,width,height,score,weight,kept,round,share,image_robustness,image_score")
    assert len(rows) == 4
    first, last = read_box_labels(tmp_path / "labels.csv")
    assert [first.id, last.id] == ["a/1.png", "c\udcff.png"]
    assert (first.boxes, first.round, first.scores) == (LABELS[0].boxes, 2, LABELS[0].scores)
    assert (last.boxes, last.named) == ((), set())
    assert first.named == {"cat", "dog, big"}
    assert brief_truth(first) != brief_truth(last)


def test_a_table_of_paths_and_boxes_is_enough(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label,x,y,width,height\nx.png,cat,1,2,3,4\ny.png,,,,,\n")
    found, empty = read_box_labels(tmp_path / "labels.csv")
    assert found.boxes == (LabelledBox("cat", (1, 2, 4, 6)),)
    assert empty.boxes == ()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "no such file"),
        (["x,cat,1,2,0,4,1"], "line 2: x: a box of .*width=0"),
        (["x,cat,1,2,,4,1"], "line 2: x: a box of"),
        (["x,cat,1,2,3,many,1"], "line 2: x"),
        (["x,cat,1,2,3,4,1", "x,cat,1,2,3,4,0"], "line 3: x: kept"),
        (["x,,,,,,1", "x,cat,1,2,3,4,1"], "line 3: x: the image has a row without a label"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line_and_a_remedy(tmp_path, rows, message):
    file: Path = tmp_path / "labels.csv"
    if rows is not None:
        file.write_text("\n".join(["path,label,x,y,width,height,kept", *rows]) + "\n")
    with pytest.raises(UserError, match=message) as refused:
        read_box_labels(file)
    assert str(file) in str(refused.value)
    assert "data.pseudo_labels=null" in str(refused.value)


def test_boxes_of_people_win_and_strange_images_and_classes_are_refused(tmp_path):
    file = tmp_path / "labels.csv"
    write_pseudo_labels(file, LABELS)
    pool = [ImageSample(each.id, f"/nowhere/{number}") for number, each in enumerate(LABELS)]
    people = [ImageSample("the same file", "/nowhere/0")]
    taken, notes = with_pseudo_labels(file, pool, people, ["cat", "dog, big"], read_box_labels)
    assert [each.id for each in taken] == ["c\udcff.png"]
    assert "the label that people gave is kept for 1 image" in notes[0]
    with pytest.raises(UserError, match=r"dog, big.*none of the classes"):
        with_pseudo_labels(file, pool, [], ["cat"], read_box_labels)
    with pytest.raises(UserError, match=r"a/1\.png.*data\.unlabelled"):
        with_pseudo_labels(file, pool[1:], [], ["cat", "dog, big"], read_box_labels)


def test_a_batch_shows_the_strong_view_and_boxes_of_the_original():
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "longest": 200}
    strong = DetectionTraining(**plain, scales=[40, 64], flip=0.5)
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[20:40, 30:60] = 255
    box = BoxLabel("a", "", votes={}, scores={}, boxes=(LabelledBox("dog", (30.0, 20.0, 60.0, 40.0), 0.5, 0.0),))
    samples = [ImageSample("a", pixels, box), ImageSample("b", pixels, BoxLabel("b", "", votes={}, scores={}))]
    data = PseudoBoxDataset(samples, ["cat", "dog"], Views(strong, strong, 0.0), 0, "error")
    for turn in range(6):
        batch = data.to_batch([data[0, turn], data[1, turn]])
        assert sorted(batch) == ["bad", "boxes", "class_ids", "id", "scores", "strong", "weights"]
        (left, top, right, bottom) = map_boxes(batch["boxes"][0], batch["strong"]["affine"][0].numpy())[0].round()
        inside = batch["strong"]["image"][0][:, int(top) + 1 : int(bottom) - 1, int(left) + 1 : int(right) - 1]
        assert inside.mean() > 0.95, "the box lies on the square"
        assert (batch["class_ids"][0].tolist(), batch["weights"][0].tolist()) == ([1], [0.0])
        assert batch["boxes"][1].shape == (0, 4)
