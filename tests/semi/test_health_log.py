"""The figures and signs of a run as artefacts, whole again after a checkpoint."""

import io
import math

import torch

from vision_train.artefacts import Curve, Table
from vision_train.semi.health import PoolFigures
from vision_train.semi.health_log import ADDED, HealthLog
from vision_train.semi.monitor import Judgement, Sign

DOUBT = Sign("agreement", "student and teacher agree on 40 % of the pool; lower optim.lr")
COLLAPSE = Sign("classes of pseudo-labels", "pseudo-labels gather in few classes", stops=True)


def figures(first: float) -> PoolFigures:
    shares = (first, 1 - first)
    return PoolFigures(10, 0, 0.5, (0.5, 0.25), shares, shares, 0.9, 1.5)


def filled() -> HealthLog:
    log = HealthLog(["cat", "dog"])
    log.note(20, {"accepted": 0.5, ADDED: 1.0}, figures(0.5), Judgement((DOUBT,), stop=False, changed=False))
    log.note(40, {"accepted": 0.6, "accuracy": 0.3, ADDED: 0.0}, figures(1.0), Judgement((DOUBT, COLLAPSE), True, True))
    log.note(60, {"accepted": 0.4, ADDED: 1.0}, figures(0.75), Judgement((), stop=False, changed=True))
    return log


def test_signs_are_told_once_each_with_the_steps_they_lasted():
    _, _, signs = filled().artefacts([0.5, 0.5])
    assert isinstance(signs, Table)
    assert signs.rows == [
        [DOUBT.figure, 20, 40, 2, DOUBT.message],
        [COLLAPSE.figure, 40, 40, 1, COLLAPSE.message],
    ]
    assert "Pseudo-labels are no longer added" in signs.note
    assert "after 40 steps" in signs.note
    assert "after 60 steps" in signs.note


def test_figures_and_classes():
    curve, classes, _ = filled().artefacts([0.5, 0.5])
    assert isinstance(curve, Curve)
    assert isinstance(classes, Table)
    assert curve.x == [20, 40, 60]
    accepted, accuracy, *_ = curve.lines.values()
    assert accepted == [0.5, 0.6, 0.4]
    assert math.isnan(accuracy[0])
    assert "after 2 of 3 validations" in curve.note
    assert classes.rows == [["cat", 0.5, 0.75, 0.75, 0.5], ["dog", 0.5, 0.25, 0.25, 0.25]]
    assert "25 % of pseudo-labels would have to change class" in classes.note


def test_a_run_in_health_says_so_and_has_no_table_of_signs():
    log = HealthLog(["cat", "dog"])
    assert log.artefacts([0.5, 0.5]) == []
    log.note(20, {ADDED: 1.0}, figures(0.5), Judgement((), stop=False, changed=False))
    curve, classes = log.artefacts([0.5, 0.5])
    assert isinstance(curve, Curve)
    assert "No figure was outside of what is healthy" in curve.note
    assert isinstance(classes, Table)


def test_a_resumed_run_tells_the_same():
    file = io.BytesIO()
    torch.save(filled().state_dict(), file)
    file.seek(0)
    log = HealthLog(["cat", "dog"])
    log.load_state_dict(torch.load(file, weights_only=True))
    assert repr(log.artefacts([0.5, 0.5])) == repr(filled().artefacts([0.5, 0.5]))
    assert log.changes == filled().changes
