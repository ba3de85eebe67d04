"""How right pseudo-boxes are, by boxes that no training has read.

Items are those of the specification of learning from unlabelled images.
"""

import math
import re
from pathlib import Path

import pytest

import vision_train
from vision_train.data.phrases.oracle import judge, table
from vision_train.errors import UserError
from vision_train.semi.box_labels import BoxLabel, LabelledBox
from vision_train.semi.label_file import write_pseudo_labels

TRUE = (10.0, 10.0, 30.0, 30.0)
RIGHT, WRONG = (10.0, 10.0, 30.0, 28.0), (50.0, 50.0, 60.0, 60.0)


def labels(*rows: tuple[tuple[float, ...], bool, float]) -> list[BoxLabel]:
    return [
        BoxLabel(f"{n}", "", kept, scores={"robustness": score, "same": 1.0}, boxes=(LabelledBox("cup", box),))
        for n, (box, kept, score) in enumerate(rows)
    ]


def test_accuracy_of_all_and_of_kept_boxes_and_what_scores_know(tmp_path):
    given = labels((RIGHT, True, 0.9), (RIGHT, False, 0.4), (WRONG, True, 0.5), (WRONG, False, 0.1))
    write_pseudo_labels(tmp_path / "given.csv", [*given, BoxLabel("without", "", kept=False)])
    found = judge(tmp_path / "given.csv", dict.fromkeys(["0", "1", "2", "3"], TRUE))
    assert (found.boxes, found.accuracy, found.kept, found.kept_accuracy) == (4, 0.5, 2, 0.5)
    assert found.scores["robustness"].auroc == pytest.approx(3 / 4)
    assert math.isnan(found.scores["same"].auroc)
    assert found.scores["robustness"].top_accuracy == 1.0, "of the one box of four that is a fifth or more"
    assert math.isnan(found.scores["same"].top_accuracy)
    assert "AUROC 0.75" in table("fit", found)
    assert "; 100.0 % right in its highest fifth" in table("fit", found)
    assert "same        AUROC is not defined (it is the same for all boxes), rank" in table("fit", found)


@pytest.mark.parametrize(
    ("boxes", "why"), [((RIGHT, TRUE), "all boxes"), ((WRONG, (20.0, 20.0, 40.0, 40.0)), "no boxes")]
)
def test_boxes_that_are_all_right_or_all_wrong_leave_nothing_to_tell_apart_which_is_said(tmp_path, boxes, why):
    write_pseudo_labels(tmp_path / "given.csv", labels((boxes[0], True, 0.1), (boxes[1], True, 0.9)))
    told = table("fit", judge(tmp_path / "given.csv", dict.fromkeys(["0", "1"], TRUE)))
    assert f"AUROC is not defined ({why} with it are right), rank correlation with IoU 1.00" in told
    assert "nan" not in told


def test_a_pool_of_unknown_boxes_is_refused(tmp_path):
    write_pseudo_labels(tmp_path / "given.csv", labels((RIGHT, True, 0.9)))
    with pytest.raises(UserError, match=r"given\.csv.*data\.unlabelled=rest"):
        judge(tmp_path / "given.csv", {})


def test_item_7_nothing_but_its_verb_knows_the_oracle():
    """So no run and no study can read the boxes of its pool."""
    package = Path(vision_train.__file__).parent
    knowing = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if re.search(r"(import|from)\s.*\boracle\b", file.read_text())
    }
    assert knowing == {"data/phrases/verbs.py"}
