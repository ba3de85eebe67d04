"""The linear probe against scikit-learn, which solves the same problem by other means."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from vision_train.tasks.pretraining.probe import WEIGHT_DECAY, ProbeFeatures, fit_probe, probe_accuracy


def clouds(count: int = 90, apart: float = 1.0, width: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three overlapping clouds of points, with their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.randn(count, width, generator=generator) + apart * labels[:, None], labels


def test_finds_the_optimum_of_its_objective():
    features, labels = clouds()
    weights, biases = fit_probe(features, labels, 3)
    theirs = LogisticRegression(C=1 / (WEIGHT_DECAY * len(labels)), tol=1e-8, max_iter=10_000)
    theirs.fit(features.double().numpy(), labels.numpy())
    # Both leave open a constant that is added to the biases of all classes.
    np.testing.assert_allclose(weights.numpy(), theirs.coef_, atol=5e-3)
    expected = theirs.intercept_ - theirs.intercept_.mean()
    np.testing.assert_allclose((biases - biases.mean()).numpy(), expected, atol=5e-3)


def test_nothing_about_it_is_random():
    (features, labels), state = clouds(), torch.get_rng_state()
    first, second = (fit_probe(features, labels, 3) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_scale_and_offset_of_features_do_not_matter():
    train, val = clouds(), clouds(seed=1)
    plain = probe_accuracy(train, val, 3)
    scale, offset = torch.tensor([1e3, 1e-3, 1, 1, 1]), torch.tensor([5.0, 0, -100, 0, 0])
    assert probe_accuracy((train[0] * scale + offset, train[1]), (val[0] * scale + offset, val[1]), 3) == plain
    assert 0.5 < plain < 1


@pytest.mark.parametrize(("apart", "accuracy"), [(50.0, 1.0), (0.0, 1 / 3)])
def test_tells_what_can_be_told(apart, accuracy):
    measured = probe_accuracy(clouds(3000, apart), clouds(3000, apart, seed=1), 3)
    assert measured == pytest.approx(accuracy, abs=0.04)


def test_works_while_inference_alone_is_asked_for():
    """Lightning validates so, and tensors made there take no part in gradients."""
    with torch.inference_mode():
        assert probe_accuracy(clouds(apart=50.0), clouds(apart=50.0, seed=1), 3) == 1
    with torch.no_grad():
        assert probe_accuracy(clouds(apart=50.0), clouds(apart=50.0, seed=1), 3) == 1


def test_features_that_are_all_alike_tell_nothing():
    same, labels = torch.full((90, 5), 7.0), clouds()[1]
    assert probe_accuracy((same, labels), (same, labels), 3) == pytest.approx(1 / 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_features_that_are_not_finite_have_no_accuracy(value):
    (features, labels), broken = clouds(), clouds()[0]
    broken[::2, 3] = value
    assert math.isnan(probe_accuracy((broken, labels), (features, labels), 3))
    broken[::2, 3] = math.inf
    assert math.isnan(probe_accuracy((features, labels), (broken, labels), 3))


def test_a_class_without_examples_is_not_guessed():
    features, labels = clouds(apart=50.0)
    without = labels != 2
    weights, biases = fit_probe(features[without] / 50, labels[without], 3)
    assert 2 not in (features[without] / 50 @ weights.T + biases).argmax(1)


def test_features_of_a_pass_are_measured_whatever_their_batches():
    (learnt, labels), (measured, truth) = clouds(), clouds(seed=1)
    noted = ProbeFeatures(3, 5)
    for part, features, names in ((0, learnt, labels), (1, measured, truth)):
        for rows in (torch.arange(60, 90), torch.arange(65)):  # some come twice
            noted.add(part, [f"{int(row):03d}" for row in rows], features[rows], names[rows])
    assert noted.accuracy(torch.device("cpu")) == probe_accuracy(clouds(), clouds(seed=1), 3)


def test_a_probe_with_nothing_to_be_measured_on_has_no_accuracy():
    noted = ProbeFeatures(3, 5)
    noted.add(0, ["a"], torch.zeros(1, 5), torch.zeros(1, dtype=torch.int64))
    assert noted.accuracy(torch.device("cpu")) is None
