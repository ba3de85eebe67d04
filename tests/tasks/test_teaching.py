"""When the pool is used, and when it is seen where it comes from."""

from types import SimpleNamespace
from typing import Any

import pytest

from vision_train.recipe.semi_section import Semi
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
