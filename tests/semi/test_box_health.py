"""Health of a detector's teacher: collapse, flood and scarcity are seen."""

import math

import numpy as np
import pytest
import torch

from augment.geometry import scale
from vision_train.semi.box_health import SIDES, BoxCounts, BoxMonitor
from vision_train.semi.boxes import Candidates, Judged, judged
from vision_train.semi.health import estimated_accuracy
from vision_train.semi.monitor import Reading

NAMES, EVEN = ["cat", "dog", "owl"], [1 / 3] * 3
LABELLED = [torch.tensor([400.0, 900.0, 1600.0], dtype=torch.float64)] * 10


def image(labels, accepted=None, areas=900.0, finite=True) -> Judged:
    labels = np.array(labels, dtype=np.int64)
    chosen = np.ones(len(labels), dtype=bool) if accepted is None else np.array(accepted, dtype=bool)
    return Judged(labels, chosen, np.broadcast_to(np.float64(areas), labels.shape), finite)


def figures(pool, losses=(1.0, 1.0)):
    counts = BoxCounts(3)
    counts.add_boxes(pool, LABELLED)
    counts.add_losses(*(torch.tensor(loss) for loss in losses))
    return counts.figures()


def signs(pool, **others):
    judgement = BoxMonitor(NAMES, EVEN).judge(Reading(figures(pool), **others))
    return {sign.figure: sign for sign in judgement.signs}, judgement


def test_figures_of_boxes():
    found = figures([image([0, 1, 2], [True, True, False]), image([0], finite=False), image([])])
    assert (found.images, found.not_finite) == (3, 1)
    assert found.boxes == 1
    assert found.labelled_boxes == 3
    assert found.accepted == 0.75
    assert found.accepted_shares == pytest.approx((2 / 3, 1 / 3, 0))
    assert found.never_accepted == [2]
    middle = 2  # a side of 30 pixels lies between 16 and 32
    assert SIDES[middle - 1 : middle + 1] == (16, 32)
    assert found.sizes[middle] == 1
    assert found.labelled_sizes[middle] == pytest.approx(2 / 3)
    assert math.isnan(found.agreement)


def test_agreement_of_student_and_teacher_is_told_and_strangers_are_said():
    counts = BoxCounts(3)
    for agreement in ((4, 1), (6, 2), (0, 0)):
        counts.add_boxes([image([0, 1, 2])], LABELLED, agreement)
    counts.add_losses(torch.tensor(1.0), torch.tensor(1.0))
    found = counts.figures()
    assert found.agreement == 0.3
    said = {sign.figure: sign for sign in BoxMonitor(NAMES, EVEN).judge(Reading(found)).signs}
    assert "30 %" in said["agreement"].message
    assert not said["agreement"].stops


def test_a_class_that_is_never_accepted_is_named():
    found, _ = signs([image([0, 1, 2], [True, True, False])] * 5)
    assert "owl" in found["classes never accepted"].message
    assert not found["classes never accepted"].stops


def test_counts_survive_a_checkpoint_and_start_anew():
    counts, restored = BoxCounts(3), BoxCounts(3)
    counts.add_boxes([image([0, 1])], LABELLED)
    restored.load_state_dict(counts.state_dict())
    assert restored.figures().sizes == counts.figures().sizes
    counts.reset()
    assert counts.figures().images == 0
    assert math.isnan(counts.figures().boxes)


def test_boxes_are_judged_on_the_weak_view_and_measured_on_the_original():
    found = Candidates(np.array([0.9, 0.3, 0.01]), np.array([1, 0, 0]), np.array([[0.0, 0, 20, 40]] * 3))
    said = judged(found, np.array([0.5, 0.5]), scale(2.0, 2.0))
    assert said.labels.tolist() == [1, 0]
    assert said.accepted.tolist() == [True, False]
    assert said.areas.tolist() == [200.0, 200.0]
    assert said.finite
    assert not judged(found._replace(scores=np.array([np.nan, 0.3, 0.01])), np.array([0.5, 0.5]), scale(2, 2)).finite


def test_a_healthy_teacher_shows_no_sign():
    found, judgement = signs([image([0, 1, 2], areas=[400, 900, 1600])] * 5)
    assert found == {}
    assert not judgement.stop


def test_a_flood_of_boxes_is_stopped_and_many_are_warned_of():
    many, _ = signs([image([0, 1, 2] * 2)] * 5)
    assert not many["number of boxes"].stops
    flood, judgement = signs([image([0, 1, 2] * 4)] * 5)
    assert flood["number of boxes"].stops
    assert judgement.stop
    assert "semi.burn_in" in flood["number of boxes"].message


def test_samples_are_called_what_they_are():
    wrong = estimated_accuracy(torch.ones(20), torch.arange(20) < 8)
    monitor = BoxMonitor(NAMES, EVEN, start_score=0.9, noun="expressions")
    found = figures([image([1, 1, 1] * 4)] * 5, losses=(9.0, 1.0))
    messages = monitor.judge(Reading(found, wrong, 0.5, 0.01)).messages
    assert len(messages) >= 5
    assert sum("expressions" in each for each in messages) >= 4
    assert not any("image" in each for each in messages)


def test_collapse_to_one_class_is_stopped():
    found, judgement = signs([image([1, 1, 1])] * 5)
    assert found["classes of pseudo-boxes"].stops
    assert judgement.stop


def test_no_boxes_at_all_are_said_and_do_no_harm():
    found, judgement = signs([image([0, 1], [False, False]), image([])])
    assert list(found) == ["number of boxes"]
    assert not judgement.stop


def test_boxes_of_other_sizes_are_said():
    found, _ = signs([image([0, 1, 2], areas=40_000.0)] * 5)
    assert "distance" in found["sizes of pseudo-boxes"].message


def test_what_is_not_finite_and_what_is_wrong_stops():
    found, judgement = signs([image([0, 1, 2], finite=False)] * 3)
    assert judgement.stop
    assert "finite outputs" in found
    monitor, wrong = BoxMonitor(NAMES, EVEN), estimated_accuracy(torch.ones(20), torch.arange(20) < 8)
    stops = [monitor.judge(Reading(figures([image([0, 1, 2])]), wrong)).stop for _ in range(2)]
    assert stops == [False, True]
