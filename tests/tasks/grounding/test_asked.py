"""What a network says of expressions without boxes under several views, and the boxes that follow.

Items are those of the specification of grounding.
"""

import math

import numpy as np
import pytest
import torch

from augment.geometry import clip_boxes, map_boxes, mirror
from augment.grounding import GroundingEvaluation, GroundingTraining
from models.grounding.output import GroundingOutput
from vision_train.data.phrases.annotations import PhraseSample, Referred
from vision_train.data.phrases.dataset import Preparation
from vision_train.data.phrases.tokens import learn_vocabulary, tokenizer_of
from vision_train.data.phrases.views import PhraseViews
from vision_train.semi.answers import Answer
from vision_train.tasks.grounding.asked import STRATUM, Said, answers_of, judged, labels_of
from vision_train.tasks.grounding.task import GroundingTask

SIDE, GRID, BINS = 64, (8, 8), 16
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "side": SIDE}
BOX = np.array([[10.0, 6.0, 30.0, 26.0]])
IMAGE = (40, 60)


def views_of(*transforms: GroundingTraining, count: int = 3) -> tuple[list[str], list[dict]]:
    samples = [PhraseSample(f"{n}", np.zeros((*IMAGE, 3), np.uint8), text="left cup") for n in range(count)]
    preparation = Preparation(transforms[0], tokenizer_of(learn_vocabulary(["left cup right"])), 6)
    data = PhraseViews(samples, [GroundingEvaluation(**PLAIN), *transforms], preparation, "error")
    batch = data.to_batch([data[number, 0] for number in range(count)])
    return batch["id"], batch["views"]


MOVED = (
    GroundingTraining(**PLAIN, scales=[SIDE], flip=1.0),
    GroundingTraining(**PLAIN, scales=[48], shift=True),
    GroundingTraining(**PLAIN, scales=[32, 40], flip=0.5, shift=True),
)


def said(view: dict, box: np.ndarray = BOX, attention: torch.Tensor | None = None) -> GroundingOutput:
    """A network that finds the box in a view where it is, in float32, with heads that agree to half a bin."""
    frames = np.concatenate([map_boxes(box, affine) for affine in view["affine"].numpy()]) / SIDE
    left, top, right, bottom = torch.from_numpy(frames).T
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], dim=1).float()
    logits = torch.nn.functional.one_hot((boxes * BINS).long().clamp(0, BINS - 1), BINS).float() * 50
    padding = torch.nn.functional.interpolate(view["padding_mask"][:, None].float(), GRID)[:, 0].bool().flatten(1)
    uniform = (~padding).float() / (~padding).sum(dim=1, keepdim=True)
    return GroundingOutput(boxes, logits, uniform if attention is None else attention, GRID, padding)


def test_item_6_robustness_of_true_boxes_is_1_in_every_view():
    ids, views = views_of(*MOVED)
    found = answers_of(ids, views, [said(view) for view in views], torch.full((3,), 0.9))
    for each in found:
        np.testing.assert_allclose(each.said.box, BOX[0], atol=1e-4)  # networks answer in float32
        assert each.scores["robustness"] == pytest.approx(1, abs=1e-5)
        assert each.scores["confidence"] == pytest.approx(0.9)
        assert each.scores["agreement"] > 0.5
        assert (each.said.text, each.said.size) == ("left cup", IMAGE)


def test_item_6_a_network_that_ignores_mirroring_scores_the_overlap_with_the_mirror_image():
    ids, views = views_of(MOVED[0])
    outputs = [said(views[0]), said(views[0])]
    mirrored = clip_boxes(map_boxes(BOX, mirror(IMAGE[1])), IMAGE)[0]
    inner = max(0.0, min(BOX[0, 2], mirrored[0, 2]) - max(BOX[0, 0], mirrored[0, 0])) * 20
    found = answers_of(ids, views, outputs, torch.ones(3))
    assert found[0].scores["robustness"] == pytest.approx(inner / (800 - inner), abs=1e-5)


def test_item_7_faithfulness_is_0_for_uniform_attention_and_near_1_inside_the_box_and_padding_never_counts():
    ids, views = views_of(MOVED[0])
    whole = answers_of(ids, views[:1], [said(views[0])], torch.ones(3))
    assert whole[0].scores["faithfulness"] == pytest.approx(0, abs=1e-5)
    assert "robustness" not in whole[0].scores
    box = np.array([[7.5, 7.5, 22.5, 22.5]])  # whole cells of the frame, which is 64 / 60 as large
    x1, y1, x2, y2 = map_boxes(box, views[0]["affine"][0].numpy())[0] / (SIDE / GRID[0])
    inside = torch.zeros(3, *GRID)
    inside[:, math.ceil(y1) : math.floor(y2), math.ceil(x1) : math.floor(x2)] = 1
    inside[:, 0] = 100  # padding
    found = answers_of(ids, views[:1], [said(views[0], box, inside.flatten(1))], torch.ones(3))
    assert found[0].scores["faithfulness"] >= 0.99


def test_one_view_that_is_not_finite_leaves_an_expression_without_scores():
    ids, views = views_of(*MOVED)
    outputs = [said(view) for view in views]
    outputs[2].boxes[1] = torch.nan
    found = answers_of(ids, views, outputs, torch.ones(3))
    assert [each.said.finite for each in found] == [True, False, True]
    assert all(math.isnan(score) for score in found[1].scores.values())


def answer(name: str, *box: float, confidence: float = 0.5, finite: bool = True) -> Answer:
    return Answer(
        name, Said("cup", np.array(box, dtype=np.float64), (100, 100), confidence, finite), {"robustness": 0.8}
    )


def test_the_box_of_one_network_is_taken_as_it_is():
    (label,) = labels_of([[answer("a", 10, 10, 50, 50)]])
    assert (label.kept, label.stratum, label.scores) == (True, STRATUM, {"robustness": 0.8})
    assert [(box.label, box.corners, box.share) for box in label.boxes] == [("cup", (10, 10, 50, 50), 1)]


def test_most_voters_have_to_find_a_box_and_it_is_the_mean_of_theirs():
    voters = [
        [answer("a", 10, 10, 50, 50), answer("b", 10, 10, 50, 50)],
        [answer("a", 12, 10, 52, 50), answer("b", 60, 60, 90, 90)],
        [answer("a", 60, 60, 90, 90), answer("b", 0, 60, 20, 99)],
    ]
    first, second = labels_of(voters)
    assert first.boxes[0].corners == pytest.approx((11, 10, 51, 50))
    assert first.boxes[0].share == pytest.approx(2 / 3)
    assert not second.kept
    assert not second.boxes
    assert not first.scores, "several voters have no score of one"
    assert not labels_of([each[1:] for each in voters[:2]])[0].kept, "half is not most"


def test_a_box_of_next_to_no_area_is_no_label():
    (label,) = labels_of([[answer("a", 10, 10, 10.5, 11)]])
    assert not label.kept
    assert not label.stratum


def test_boxes_that_have_collapsed_are_told_and_not_learnt():
    collapsed = [[answer(str(number), 10, 10, 50, 50) for number in range(10)]]
    labels, warnings = judged(labels_of(collapsed), collapsed, 0.2)
    assert not any(each.kept or each.stratum for each in labels)
    assert "collapsed" in warnings[0]
    assert "semi.burn_in" in warnings[0]
    labels, warnings = judged(labels_of(collapsed), collapsed, 1.0)
    assert all(each.kept for each in labels), "true boxes are as much alike"
    assert not warnings


def test_answers_that_are_not_finite_are_counted():
    answers = [[answer("a", *[math.nan] * 4, finite=False), answer("b", 10, 10, 50, 50)]]
    labels, warnings = judged(labels_of(answers), answers, math.nan)
    assert [each.kept for each in labels] == [False, True]
    assert "1 of its 2 expressions" in warnings[0]


def test_boxes_of_known_expressions_are_right_from_an_iou_of_a_half():
    known = [[answer("a", 10, 10, 50, 50), answer("b", 10, 10, 50, 50), answer("c", 10, 10, 10.5, 11)]]
    truths = [Referred("cup", box, 100, 100) for box in ((10, 10, 50, 31), (10, 10, 50, 29), (10, 10, 50, 50))]
    labels, right = GroundingTask.label_known(None, known, truths, 3)
    assert right == [True, False, False]
    assert [each.kept for each in labels] == [True, True, False]
