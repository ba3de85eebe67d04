"""When the pool is used and observed, what the log says of figures that are not known any more, who looks foreign.

Items are those of the specification of learning from unlabelled images.
"""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vision_train.recipe.semi_section import Semi
from vision_train.semi.health import PoolCounts, compare_origins
from vision_train.semi.monitor import Monitor, Reading, origin_signs
from vision_train.tasks.teaching import Teaching


def begun(share: float | None, *, steps: int, epoch: int, every: int = 1) -> Teaching:
    """Teaching of a network that starts from random weights."""
    teaching = Teaching(Semi(method="freematch", burn_in=share), ["a", "b"])
    task: Any = SimpleNamespace(
        total_steps=steps,
        steps_per_epoch=epoch,
        validated_every=every,
        start="scratch",
        pool_copies=(0, 9),
        class_counts=[1, 1],
    )
    teaching.begin(task)
    return teaching


@pytest.mark.parametrize(
    ("share", "steps", "epoch", "burn_in"),
    [
        (None, 720, 20, 180),
        (0.3, 18, 6, 6),
        (0.0, 18, 6, 0),
        (None, 100, 100, 25),  # one epoch, which would be all of it
        (0.6, 20, 10, 12),  # two, likewise
    ],
)
def test_burn_in_takes_whole_epochs_where_that_leaves_the_pool_some(share, steps, epoch, burn_in):
    teaching = begun(share, steps=steps, epoch=epoch)
    assert teaching.burn_in == burn_in
    assert teaching.adds(burn_in)
    assert not burn_in or not teaching.labels(burn_in - 1)


def test_a_burn_in_that_leaves_the_pool_no_step_is_told():
    assert "warning: the pool is never used" in begun(0.999, steps=10, epoch=5).news()[0]
    assert "after 9 of 10 steps" in begun(0.9, steps=10, epoch=5).news()[0]


@pytest.mark.parametrize(
    ("share", "every", "epoch_before"),
    [
        (0.25, 1, 9),  # burn-in takes 9 epochs
        (0.25, 2, 8),
        (0.25, 10, 10),
        (0.0, 1, 1),
        (0.0, 4, 4),
    ],
)
def test_a_foreign_pool_is_looked_for_in_an_epoch_that_ends_in_a_validation(share, every, epoch_before):
    teaching = begun(share, steps=720, epoch=20, every=every)
    observed = [step for step in range(720) if teaching.observes_origin(step, 20)]
    assert observed == [*range(20 * (epoch_before - 1), 20 * epoch_before)]


@pytest.fixture
def teaching() -> Teaching:
    teaching = Teaching(Semi(method="mean_teacher"), ["a", "b"])
    teaching.burn_in, teaching.monitor = 8, Monitor(["a", "b"], [0.5, 0.5])
    return teaching


def figures():
    counts = PoolCounts(2)
    counts.add(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.ones(2))
    counts.add_losses(torch.tensor(1.0), torch.tensor(2.0))
    return counts.figures()


def confidences(mean, count: int, seed: int) -> torch.Tensor:
    noise = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean + 0.02 * noise


def signs_of(pool: torch.Tensor, validation: torch.Tensor) -> list[str]:
    told = compare_origins(validation, pool)
    assert told is not None
    return [sign.figure for sign in origin_signs(**told, copies=0, size=len(pool))]


@pytest.mark.parametrize("growth", ["even", "early", "none"])
def test_a_teacher_that_still_learns_makes_no_pool_foreign(growth):
    share = torch.linspace(0, 1, 200, dtype=torch.float64)
    gain = {"even": share, "early": (4 * share).clamp(max=1), "none": 0 * share}[growth]
    assert signs_of(confidences(0.1 + 0.08 * gain, 200, 0), confidences(0.1 + 0.08 * gain[-1], 100, 1)) == []


@pytest.mark.parametrize("mean", [0.4, 0.8], ids=["foreign", "copies"])
def test_a_pool_of_another_kind_is_told_beside_a_teacher_that_hardly_learns(mean):
    drifting = mean + torch.linspace(0, 0.01, 200, dtype=torch.float64)
    assert signs_of(confidences(drifting, 200, 0), confidences(0.6, 100, 1)) == ["origin"]


def test_few_images_and_answers_that_are_no_numbers_tell_nothing():
    assert compare_origins(torch.rand(4), torch.rand(1)) is None
    assert compare_origins(torch.rand(0), torch.rand(4)) is None
    assert compare_origins(torch.rand(4), torch.tensor([0.1, math.nan])) is None


def test_the_pool_is_compared_once_it_was_observed(teaching):
    validation = torch.rand(5)
    assert teaching.origin(validation) is None
    teaching.observe(torch.rand(6))
    assert teaching.origin(validation) is not None
    assert teaching.origin(validation) is None, "told once"


def test_a_figure_that_is_not_known_any_more_is_logged_as_such(teaching):
    known = figures()
    first = teaching.judge(12, Reading(known), None)
    assert first["loss_ratio"] == 0.5
    assert "agreement" not in first, "nobody was asked so far"
    later = teaching.judge(16, Reading(replace(known, loss_ratio=math.nan)), None)
    assert math.isnan(later["loss_ratio"])
    assert later["accepted"] == first["accepted"]
    assert "nan" not in str(teaching.state_dict()["log"]["figures"])


def test_item_5_every_saved_item_that_is_missing_is_noticed(teaching):
    saved = teaching.state_dict()
    for key in saved:
        with pytest.raises(KeyError, match=key):
            Teaching(Semi(method="mean_teacher"), ["a", "b"]).load_state_dict(
                {name: value for name, value in saved.items() if name != key}
            )
    for key in saved["log"]:
        log = {name: value for name, value in saved["log"].items() if name != key}
        with pytest.raises(KeyError, match=key):
            Teaching(Semi(method="mean_teacher"), ["a", "b"]).load_state_dict({**saved, "log": log})
