"""Reliability: counts of every bin, and which way a network errs."""

import pytest
import torch

from vision_train.tasks.reliability import direction, reliability


@pytest.mark.parametrize(
    ("confidence", "right", "words"), [(0.9, 0.6, "too sure"), (0.6, 0.9, "too unsure"), (0.8, 0.8, "Neither too sure")]
)
def test_the_direction_is_said(confidence, right, words):
    correct = (torch.arange(200) < 200 * right).double()
    assert words in direction(torch.full((200,), confidence), correct)
    assert f"accuracy {100 * right:.1f} %" in direction(torch.full((200,), confidence), correct)


def test_few_samples_cannot_tell_the_direction():
    assert "Neither" in direction(torch.tensor([0.9, 0.8]), torch.tensor([1.0, 0.0]))
    assert "Neither" in direction(torch.tensor([0.9]), torch.tensor([0.0]))


def test_every_sample_is_counted_once_and_what_is_not_finite_is_left_out():
    confidence = torch.tensor([0.01, 0.5, 0.51, 1.0, 1.0, torch.nan])
    curve = reliability(confidence, torch.tensor([0.0, 1, 0, 1, 1, 1]), "test", "slides")
    assert curve.counts == [1, 2, 2]
    assert curve.lines["observed"] == [0.0, 0.5, 1.0]
    assert "slides" in curve.note
    assert "No confidence" in reliability(torch.tensor([torch.nan]), torch.tensor([1.0]), "test", "slides").note
