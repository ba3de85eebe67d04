"""Half-life, decay and burn-in.

Items are those of the specification of learning from unlabelled images.
"""

import pytest
import torch

from vision_train.ema import MovingAverage
from vision_train.semi.teacher import check_burn_in, decay_of, default_burn_in, half_life, pool_in_words


@pytest.mark.parametrize("steps", [50, 100, 720, 6_930, 10_000, 1_000_000])
def test_item_3_the_teacher_forgets_half_within_the_derived_half_life(steps):
    updates = min(693, steps / 10)
    assert half_life(steps) == updates
    network = torch.nn.Linear(1, 1, bias=False).double()
    network.weight.data.fill_(1)
    teacher = MovingAverage(network, decay_of(updates), warmup=False)
    network.weight.data.fill_(0)
    count = 0
    while teacher.network.weight.item() > 0.5 + 1e-9:
        teacher.update(network)
        count += 1
    assert abs(count - updates) <= 1


def test_the_usual_decay_is_the_start_itself_in_a_short_run():
    """0.999 on 720 steps keeps half of the random start; what is derived keeps a thousandth."""
    kept = 0.999**720
    assert kept == pytest.approx(0.487, abs=1e-3)
    assert decay_of(half_life(720)) ** 720 == pytest.approx(2**-10)


def test_burn_in_by_what_the_network_knows():
    assert default_burn_in(720, "scratch") == 180
    assert default_burn_in(720, "other classes") == 360
    assert default_burn_in(720, "same classes") == 0


@pytest.mark.parametrize(
    ("share", "start", "steps", "told"),
    [
        (None, "scratch", 720, "used from epoch 10 on, after 180 of 720 steps on labelled images alone (semi.burn_in="),
        (None, "scratch", 720, "null: 0.25 of the steps from random weights)"),
        (None, "other classes", 720, "after 360 of 720 steps on labelled images alone (semi.burn_in=null: 0.5 of the"),
        (None, "same classes", 720, "used from the first step (semi.burn_in=null: 0 of the steps from weights that kn"),
        (
            0.1,
            "scratch",
            720,
            "used from epoch 5 on, after 80 of 720 steps on labelled images alone (semi.burn_in=0.1)",
        ),
        (0.9, "scratch", 20, "used from within epoch 1 on, after 18 of 20 steps"),
    ],
)
def test_when_the_pool_is_used_is_told_with_the_reason(share, start, steps, told):
    assert told in pool_in_words(share, start, steps, 20, "images")


def test_no_burn_in_is_refused_only_for_weights_of_other_classes():
    check_burn_in(0, "scratch")
    check_burn_in(0, "same classes")
    check_burn_in(1, "other classes")
    with pytest.raises(ValueError, match=r"other classes.*burn-in"):
        check_burn_in(0, "other classes")
