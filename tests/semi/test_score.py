"""Scores of predictions: values worked out by hand, and what must hold for every prediction.

Items are those of the specification of grounding.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from augment.geometry import mirror, scale, translation
from vision_train.semi.score import (
    KeptBoxes,
    box_faithfulness,
    box_robustness,
    class_confidence,
    class_faithfulness,
    class_robustness,
    covered_share,
    detection_confidence,
    detection_robustness,
    in_original_pixels,
    most_attended,
)

HEIGHT, WIDTH = 100, 160


def kept(boxes: list[list[float]], classes: list[int] | None = None) -> KeptBoxes:
    return KeptBoxes(torch.tensor(boxes).reshape(-1, 4), torch.tensor(classes or [0] * len(boxes)))


def test_confidence_is_the_largest_of_the_mean_probabilities_and_labels_by_it():
    views = torch.tensor([[[0.9, 0.1, 0.0]], [[0.0, 0.6, 0.4]], [[0.0, 0.5, 0.5]]])
    confidence, label = class_confidence(views)
    assert confidence.item() == pytest.approx(0.4)
    assert label.item() == 1


def test_classes_of_equal_confidence_give_the_first():
    assert class_confidence(torch.tensor([[[0.2, 0.4, 0.4]]]))[1].item() == 1


def test_robustness_is_one_minus_the_divergence_of_the_views():
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    views = torch.stack([sure, sure.flip(0)])  # two views that contradict each other
    assert class_robustness(views).tolist() == pytest.approx([0, 0])
    unsure = torch.tensor([[[0.5, 0.3, 0.2]]])
    assert class_robustness(unsure.expand(5, 1, 3)).item() == pytest.approx(1, abs=1e-6)
    views = torch.tensor([[[0.8, 0.2]], [[0.4, 0.6]]], dtype=torch.float64)
    entropies = [-sum(p * math.log(p) for p in row) for row in ([0.8, 0.2], [0.4, 0.6], [0.6, 0.4])]
    divergence = entropies[2] - (entropies[0] + entropies[1]) / 2
    assert class_robustness(views).item() == pytest.approx(1 - divergence / math.log(2))


@given(st.integers(1, 5), st.integers(2, 12), st.integers(0, 10**6))
def test_scores_of_classes_lie_between_0_and_1(views, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    probabilities = (8 * torch.randn(views, 7, classes, generator=generator)).softmax(-1)
    for scores in (class_confidence(probabilities)[0], class_robustness(probabilities)):
        assert ((scores >= 0) & (scores <= 1)).all()


def test_scores_of_two_halves_of_a_pool_are_those_of_the_whole():
    probabilities = torch.randn(3, 10, 4).softmax(-1)
    for score in (lambda each: class_confidence(each)[0], class_robustness):
        halves = torch.cat([score(probabilities[:, :5]), score(probabilities[:, 5:])])
        assert (score(probabilities) - halves).abs().max() <= 1e-12


def test_predictions_that_are_not_finite_score_nan_and_touch_no_other():
    probabilities = torch.full((2, 2, 3), 1 / 3)
    probabilities[1, 0, 2] = math.nan
    for scores in (class_confidence(probabilities)[0], class_robustness(probabilities)):
        assert scores.isnan().tolist() == [True, False]
    boxes = torch.tensor([[0.0, 0, 10, 10], [math.nan, 0, 10, 10]])
    assert box_robustness(boxes, boxes[None]).isnan().tolist() == [False, True]
    wrong = kept([[0.0, 0, math.inf, 10]])
    assert detection_robustness([wrong], [[wrong]]).isnan().all()
    assert box_faithfulness(torch.ones(1, 4), covered_share(wrong.boxes, (2, 2), (8, 8))[None]).isnan().all()


@pytest.mark.parametrize("score", [class_confidence, class_robustness])
def test_logits_are_refused(score):
    with pytest.raises(ValueError, match="logits"):
        score(torch.tensor([[[2.0, -1.0]]]))


def test_robustness_of_a_single_class_is_refused():
    with pytest.raises(ValueError, match="two classes"):
        class_robustness(torch.ones(2, 1, 1))


def test_the_most_attended_fifth_of_the_patches_is_hidden():
    attention = torch.tensor([[0.1, 0.3, 0.2, 0.3, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0], [0.1] * 10])
    assert [row.nonzero().flatten().tolist() for row in most_attended(attention)] == [[1, 3], [0, 1]]
    assert most_attended(torch.ones(1, 196)).nonzero()[:, 1].tolist() == list(range(39))
    assert most_attended(attention[:, :3], share=0.01).sum(dim=1).tolist() == [1, 1]


def test_faithfulness_of_a_class_is_the_fall_of_its_probability():
    whole = torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8]])
    hidden = torch.tensor([[0.2, 0.8], [0.1, 0.9], [0.2, 0.8]])
    assert class_faithfulness(whole, hidden).tolist() == pytest.approx([0.5, 0, 0])


VIEWS = {
    "flip": mirror(WIDTH),
    "scale": scale(0.75, 0.75),
    "pad": translation(13, 7),
    "all three": translation(31, 5) @ scale(0.75, 0.6) @ mirror(WIDTH),
}


def truths() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(50, 2, generator=generator, dtype=torch.float64) * torch.tensor([WIDTH - 30, HEIGHT - 30])
    return torch.cat([corner, corner + 2 + 28 * torch.rand(50, 2, generator=generator, dtype=torch.float64)], dim=1)


def seen(boxes: torch.Tensor, affine: np.ndarray) -> torch.Tensor:
    """Where the corners of boxes lie in a view."""
    x, y = affine[0, 0] * boxes[:, ::2] + affine[0, 2], affine[1, 1] * boxes[:, 1::2] + affine[1, 2]
    return torch.stack([x.amin(1), y.amin(1), x.amax(1), y.amax(1)], dim=1)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_item_6_a_predictor_that_returns_the_true_box_in_every_view_is_robust(view):
    boxes = truths()
    found = in_original_pixels(seen(boxes, view), view, (HEIGHT, WIDTH))
    assert (found - boxes).abs().max() < 1e-6
    assert (box_robustness(boxes, found[None]) - 1).abs().max() < 1e-6


def test_item_6_a_predictor_that_ignores_the_flip_scores_the_iou_of_the_box_with_its_mirror_image():
    boxes = truths()
    found = in_original_pixels(boxes, mirror(WIDTH), (HEIGHT, WIDTH))  # the same box in the flipped view
    left, right = boxes[:, 0], boxes[:, 2]
    common = (torch.minimum(right, WIDTH - left) - torch.maximum(left, WIDTH - right)).clamp(min=0)
    expected = common / (2 * (right - left) - common)
    assert 0 < (expected > 0).sum() < len(boxes)
    assert (box_robustness(boxes, found[None]) - expected).abs().max() < 1e-6


def test_robustness_of_boxes_is_the_mean_over_views():
    reference = torch.tensor([[0.0, 0, 10, 10]])
    views = torch.tensor([[[0.0, 0, 10, 10]], [[0.0, 0, 5, 10]], [[20.0, 0, 30, 10]]])
    assert box_robustness(reference, views).item() == pytest.approx(0.5)


def test_boxes_are_clipped_to_the_image_after_they_have_been_brought_back():
    boxes = torch.tensor([[-20.0, 10, 50, 200]])
    assert in_original_pixels(boxes, mirror(WIDTH), (HEIGHT, WIDTH)).tolist() == [[110, 10, 160, 100]]


def test_robustness_of_detections_is_f1_weighed_by_overlap():
    reference = kept([[0, 0, 10, 10], [20, 0, 30, 10]])
    half = kept([[20, 0, 30, 5], [0, 0, 10, 10], [50, 50, 60, 60]])
    assert detection_robustness([reference], [[half]]).item() == pytest.approx(2 * 1.5 / 5)
    assert detection_robustness([reference], [[half], [reference]]).item() == pytest.approx((0.6 + 1) / 2)


def test_detections_match_one_to_one_and_within_their_class():
    one, twice = kept([[0, 0, 10, 10]]), kept([[0, 0, 10, 10], [0, 0, 10, 10]])
    assert detection_robustness([one], [[twice]]).item() == pytest.approx(2 / 3)
    assert detection_robustness([one], [[kept([[0, 0, 10, 10]], [1])]]).item() == 0


def test_views_without_detections_agree_with_one_another_alone():
    empty, one = kept([]), kept([[0, 0, 10, 10]])
    assert detection_robustness([empty, one, empty], [[empty, empty, one]]).tolist() == [1, 0, 0]


def test_confidence_of_detections_is_their_mean_score_and_unknown_without_any():
    scores = detection_confidence([torch.tensor([0.5, 1.0]), torch.tensor([])])
    assert scores[0].item() == pytest.approx(0.75)
    assert scores[1].isnan()


def test_cells_are_covered_in_part_and_common_parts_count_once():
    boxes = torch.tensor([[0.0, 0, 15, 10], [10.0, 0, 20, 5]])
    assert covered_share(boxes, (2, 2), (20, 20)).tolist() == pytest.approx([1, 0.75, 0, 0])
    assert covered_share(boxes[:0], (2, 2), (20, 20)).tolist() == [0] * 4
    beyond = torch.tensor([[-5.0, -5, 45, 45], [3.0, 3, 3, 9]])
    assert covered_share(beyond, (3, 4), (30, 40)).tolist() == pytest.approx([1] * 12)


def test_covered_cells_sum_to_the_area_of_each_box():
    for box in truths():
        share = covered_share(box[None], (7, 9), (HEIGHT, WIDTH))
        assert share.sum().item() / 63 == pytest.approx(((box[2:] - box[:2]).prod() / (HEIGHT * WIDTH)).item())


GRID = (8, 8)


def cover(boxes: torch.Tensor) -> torch.Tensor:
    return torch.stack([covered_share(box[None], GRID, (160, 160)) for box in boxes])


def test_item_7_uniform_attention_has_no_faithfulness_whatever_the_box():
    boxes = torch.cat([truths(), torch.tensor([[0.0, 0, 160, 160], [0, 0, 0, 0]], dtype=torch.float64)])
    for attention in (torch.ones(len(boxes), 64), torch.full((len(boxes), 64), 1 / 64)):
        assert (box_faithfulness(attention, cover(boxes)) < 1e-5).all()
    padding = torch.zeros(len(boxes), 64, dtype=torch.bool)
    padding[:, 40:] = True  # the last three rows of cells
    assert (box_faithfulness(torch.ones(len(boxes), 64), cover(boxes), padding) < 1e-5).all()


def test_item_7_attention_inside_the_box_alone_is_faithful():
    boxes = torch.tensor([[20.0, 20, 60, 80], [0, 0, 160, 140], [100, 40, 120, 60]])
    inside = cover(boxes)
    assert (box_faithfulness(inside, inside) >= 0.99).all()
    assert (box_faithfulness(1 - inside, inside) == 0).all()


def test_item_7_padding_never_counts():
    inside, attention = cover(truths()), torch.rand(50, 64)
    padding = torch.rand(50, 64) < 0.3
    expected = box_faithfulness(attention, inside, padding)
    assert expected.max() > 0
    attention[padding], inside[padding] = math.nan, 1.0
    assert torch.equal(box_faithfulness(attention, inside, padding), expected)
    alone = torch.stack([box_faithfulness(a[~p], i[~p]) for a, i, p in zip(attention, inside, padding, strict=True)])
    assert alone.tolist() == pytest.approx(expected.tolist())


def test_attention_on_padding_alone_says_nothing():
    assert box_faithfulness(torch.tensor([[1.0, 0]]), torch.ones(1, 2), torch.tensor([[True, False]])).isnan().all()
