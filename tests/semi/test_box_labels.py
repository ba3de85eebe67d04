"""A vote on boxes, and boxes that are carried from a file to a view."""

import itertools

import numpy as np
import pytest

from augment.geometry import mirror, scale
from vision_train.semi.box_labels import found_by_both, vote_boxes
from vision_train.semi.boxes import Candidates, StrongView, carried

BOX, NEAR, FAR = [10.0, 10.0, 30.0, 30.0], [12.0, 10.0, 32.0, 30.0], [60.0, 60.0, 80.0, 80.0]


def voter(*found: tuple[float, int, list[float], bool]):
    scores, labels, boxes, sure = zip(*found, strict=True) if found else ((), (), (), ())
    candidates = Candidates(
        np.array(scores, dtype=float), np.array(labels, dtype=np.int64), np.array(boxes, dtype=float).reshape(-1, 4)
    )
    return candidates, np.array(sure, dtype=bool)


def test_what_at_least_half_of_the_voters_find_is_kept_with_mean_box_and_score():
    voters = [
        voter((0.9, 0, BOX, True), (0.8, 1, FAR, True)),
        voter((0.7, 0, NEAR, True)),
        voter((0.6, 1, NEAR, True)),
    ]
    voted = vote_boxes(voters)
    kept = voted.found.only(voted.sure)
    assert kept.scores == pytest.approx([0.8])
    assert kept.labels.tolist() == [0]
    assert kept.boxes.tolist() == [[11.0, 10.0, 31.0, 30.0]]
    assert voted.shares.tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert sorted(voted.found.labels[~voted.sure].tolist()) == [1, 1], "another class is another object"


def test_the_order_of_the_voters_is_irrelevant():
    random, voters = np.random.default_rng(0), []
    for _ in range(4):
        corners = np.array(BOX) + random.uniform(-6, 6, (5, 4))
        voters.append(voter(*((random.random(), int(random.integers(2)), list(box), True) for box in corners)))
    first = vote_boxes(voters)
    for order in itertools.permutations(voters):
        again = vote_boxes(order)
        assert all(np.array_equal(one, other) for one, other in zip(first.found, again.found, strict=True))
        assert np.array_equal(first.sure, again.sure)


def test_boxes_of_one_voter_are_never_one_object():
    voted = vote_boxes([voter((0.9, 0, BOX, True), (0.8, 0, NEAR, True)), voter()])
    assert voted.sure.tolist() == [True, True]
    assert voted.shares.tolist() == [0.5, 0.5]


def test_objects_of_two_networks_are_counted_once():
    first = voter((0.9, 0, BOX, True), (0.8, 1, FAR, True))[0]
    assert found_by_both(first, voter((0.4, 0, NEAR, True))[0]) == (2, 1)
    assert found_by_both(first, voter((0.4, 1, NEAR, True))[0]) == (3, 0)
    assert found_by_both(first, first) == (2, 2)
    assert found_by_both(voter()[0], voter()[0]) == (0, 0)


def test_what_a_voter_doubts_stays_in_doubt():
    voted = vote_boxes([voter((0.3, 0, BOX, False)), voter((0.2, 0, BOX, False)), voter()])
    assert not voted.sure.any()
    assert len(voted.sure) == 2
    assert not len(vote_boxes([voter(), voter()]).sure)


def test_boxes_are_carried_exactly_and_regions_in_doubt_are_no_targets():
    view = StrongView(mirror(200.0) @ scale(2, 2), (200, 200))
    found, _ = voter((0.9, 1, BOX, True), (0.5, 0, FAR, False))
    taught = carried(found, np.array([0.5, 0.0]), view.affine, view)
    assert taught.boxes.tolist() == [[140.0, 20.0, 180.0, 60.0]]
    assert taught.unsure.tolist() == [[40.0, 120.0, 80.0, 160.0]]
    assert taught.box_weights.tolist() == [0.45]
    assert taught.weight == 1
    assert carried(found, np.zeros(2), view.affine, view).weight == 0, "there may be something"
    assert carried(*voter(), view.affine, view).weight == 0.25, "there is nothing"
