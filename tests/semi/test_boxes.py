"""What a teacher finds becomes targets of another view, or nothing, or what counts as neither.

Items are those of the specification of learning from unlabelled images.
"""

import numpy as np
import pytest

from augment.geometry import IDENTITY, mirror, scale, translation
from vision_train.semi.boxes import (
    FIRST_CUT,
    HIGHEST_CUT,
    LOWEST_CUT,
    WEIGHT_OF_EMPTY,
    Candidates,
    StrongView,
    class_cuts,
    hidden,
    precise_cut,
    pseudo_boxes,
    sure_and_unsure,
    without_hidden,
)

BOX = (10.0, 10.0, 30.0, 30.0)
CUTS = np.array([0.6, 0.5])
SAME = StrongView(IDENTITY, (100, 100))


def found(*rows: tuple[float, int, tuple[float, ...]]) -> Candidates:
    return Candidates(
        np.array([score for score, _, _ in rows]),
        np.array([label for _, label, _ in rows], dtype=np.int64),
        np.array([box for *_, box in rows]).reshape(-1, 4),
    )


def test_a_cut_for_each_class_and_a_floor_below_it():
    scores = found((0.55, 0, BOX), (0.55, 1, BOX), (0.18, 0, BOX), (0.17, 0, BOX), (0.15, 1, BOX), (np.nan, 1, BOX))
    sure, unsure = sure_and_unsure(scores, CUTS)
    assert sure.tolist() == [False, True, False, False, False, False]
    assert unsure.tolist() == [True, False, True, False, True, False]


def test_boxes_follow_the_way_from_the_weak_view_to_the_strong_one():
    weak, strong = mirror(100.0) @ scale(2.0, 2.0), translation(-5.0, 0.0) @ scale(0.5, 0.5)
    taught = pseudo_boxes(found((0.8, 1, (40.0, 40.0, 60.0, 60.0))), CUTS, weak, StrongView(strong, (50, 50)))
    # In the original: x from 20 to 30, y from 20 to 30.
    np.testing.assert_allclose(taught.boxes, [[5.0, 10.0, 10.0, 15.0]])
    assert taught.labels.tolist() == [1]
    assert (taught.weight, taught.box_weights.tolist()) == (1.0, [0.8])
    assert len(taught.unsure) == 0


@pytest.mark.parametrize(("kind", "weight"), [("score", 0.8), ("one", 1.0), ("zero", 0.0)])
def test_the_box_loss_weighs_the_score_or_1_or_nothing(kind, weight):
    assert pseudo_boxes(found((0.8, 0, BOX)), CUTS, IDENTITY, SAME, kind).box_weights.tolist() == [weight]


def test_a_box_that_turned_loose_is_found_and_not_measured():
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    strong = StrongView(translation(50, 20) @ turn, (200, 200))
    taught = pseudo_boxes(found((0.9, 0, BOX)), CUTS, IDENTITY, strong)
    assert taught.box_weights.tolist() == [0.0]
    assert taught.labels.tolist() == [0]


class TestWhatIsNoTarget:
    """Erased and outside boxes never reach the loss, and an empty image adds no positive."""

    def test_item_12_boxes_outside_of_the_view(self):
        there = found((0.9, 0, (-15.0, 10.0, 5.0, 30.0)), (0.9, 0, (200.0, 0.0, 220.0, 20.0)), (0.9, 1, BOX))
        taught = pseudo_boxes(there, CUTS, IDENTITY, SAME)
        assert taught.boxes.tolist() == [list(BOX)]
        assert taught.unsure.tolist() == [[0.0, 10.0, 5.0, 30.0]], "what is left of it is no background"

    def test_item_12_boxes_of_which_less_than_half_is_left(self):
        corner = found((0.9, 0, (-9.0, -9.0, 11.0, 11.0)))  # its centre is inside, and 30 % of it
        taught = pseudo_boxes(corner, CUTS, IDENTITY, SAME)
        assert (len(taught.boxes), len(taught.unsure), taught.weight) == (0, 1, 0.0)

    def test_item_12_erased_boxes(self):
        most, half = np.array([[8.0, 8.0, 40.0, 25.0]]), np.array([[8.0, 8.0, 40.0, 20.0]])
        there = found((0.9, 0, BOX))
        gone = pseudo_boxes(there, CUTS, IDENTITY, SAME._replace(erased=most))
        assert (len(gone.boxes), gone.unsure.tolist(), gone.weight) == (0, [list(BOX)], 0.0)
        assert len(pseudo_boxes(there, CUTS, IDENTITY, SAME._replace(erased=half)).boxes) == 1
        assert hidden(np.array([BOX]), np.concatenate([half, half])).tolist() == [True], "overlaps count twice"

    def test_item_12_what_is_erased_after_views_were_mixed(self):
        there = found((0.9, 0, BOX), (0.8, 1, (50.0, 50.0, 70.0, 70.0)))
        both = pseudo_boxes(there, CUTS, IDENTITY, SAME)
        first = without_hidden(both, np.array([[8.0, 8.0, 40.0, 25.0]]))
        assert (first.labels.tolist(), first.box_weights.tolist(), first.weight) == ([1], [0.8], 1.0)
        assert first.unsure.tolist() == [list(BOX)], "where it was nothing is background"
        none = without_hidden(first, np.array([[50.0, 50.0, 70.0, 70.0]]))
        assert (len(none.boxes), len(none.unsure), none.weight) == (0, 2, 0.0)
        assert len(without_hidden(both, np.array([[8.0, 8.0, 40.0, 20.0]])).boxes) == 2, "half of one is left"

    @pytest.mark.parametrize(
        ("candidates", "weight"),
        [
            (found(), WEIGHT_OF_EMPTY),
            (found((0.05, 0, BOX)), WEIGHT_OF_EMPTY),
            (found((0.3, 0, BOX)), 0.0),
            (found((np.nan, 0, BOX), (0.9, 0, BOX)), 0.0),
            (found((0.1, 0, BOX), (0.9, 0, (np.nan,) * 4)), 0.0),
        ],
        ids=["no candidates", "below the floor", "perhaps", "scores not finite", "boxes not finite"],
    )
    def test_item_12_an_image_without_boxes_has_no_positive(self, candidates, weight):
        taught = pseudo_boxes(candidates, CUTS, IDENTITY, SAME)
        assert len(taught.boxes) == len(taught.labels) == len(taught.box_weights) == 0
        assert taught.weight == weight

    def test_item_12_what_the_strong_view_does_not_show_is_nothing(self):
        taught = pseudo_boxes(found((0.9, 0, (200.0, 0.0, 220.0, 20.0))), CUTS, IDENTITY, SAME)
        assert (len(taught.unsure), taught.weight) == (0, WEIGHT_OF_EMPTY)


@pytest.mark.parametrize(("floor", "unsure"), [(0.0, 3), (1.0, 0)])
def test_item_13_the_floor_says_what_is_unsure(floor, unsure):
    there = found((0.9, 0, BOX), (0.2, 1, BOX), (0.01, 0, BOX))
    taught = pseudo_boxes(there, np.array([1.0, 1.0]), IDENTITY, SAME, floor=floor)
    assert (len(taught.boxes), len(taught.unsure)) == (0, unsure)


class TestCuts:
    def test_the_lowest_score_that_is_precise_enough(self):
        scores = np.array([0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4])
        right = np.array([True, True, True, True, False, False, False])
        assert precise_cut(scores, right) == 0.6, "four of five"
        assert precise_cut(scores[::-1], right[::-1]) == 0.6, "in any order"

    def test_boxes_of_one_score_are_taken_together(self):
        scores = np.array([0.8, 0.7, 0.7, 0.7])
        assert precise_cut(scores, np.array([True, True, False, False])) == 0.8

    @pytest.mark.parametrize(
        ("scores", "right", "cut"),
        [([0.1, 0.05], [True, True], LOWEST_CUT), ([0.95], [True], HIGHEST_CUT), ([0.5], [False], HIGHEST_CUT)],
        ids=["very low", "very high", "none is right"],
    )
    def test_has_bounds(self, scores, right, cut):
        assert precise_cut(np.array(scores), np.array(right)) == cut

    def test_a_class_of_which_nothing_is_known_keeps_the_first_one(self):
        assert class_cuts({"cat": 0.4}, ["cat", "dog"]).tolist() == [0.4, FIRST_CUT]
