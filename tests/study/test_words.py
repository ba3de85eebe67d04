import numpy as np
import pytest

from vision_train.artefacts import Metric
from vision_train.report.judged_metric import describe_judged
from vision_train.statistics import Interval, resample_mean
from vision_train.study.judgement import Pair, compare_pair
from vision_train.study.words import format_interval, format_p, sentence

FIRST = {0: 0.90, 1: 0.92, 2: 0.91, 3: 0.93, 4: 0.90}
AHEAD = {0: 0.95, 1: 0.96, 2: 0.96, 3: 0.97, 4: 0.96}
JUMBLED = {0: 0.92, 1: 0.92, 2: 0.92, 3: 0.92, 4: 0.91}
METRICS = [Metric("accuracy", "accuracy", "percent"), Metric("loss", "loss", better="less")]
GAINED_EVERYWHERE = resample_mean(np.repeat([0.0, 1.0], [250, 50]))


def said(values: dict[int, float], metric: str = "test/accuracy", mode: str = "max", tests: int = 1, **pair) -> str:
    pair = {"first_values": FIRST, "resampled": GAINED_EVERYWHERE, **pair}
    comparison = compare_pair(Pair("mixed", "plain", values, test_samples=300, **pair), mode, tests)
    return sentence(comparison, describe_judged(metric, METRICS), tests)


def test_a_difference_is_told_with_its_levels_and_interval():
    assert said(AHEAD) == (
        "mixed is better than plain: 96.0 % against 91.2 %, +4.8 points (95 % interval +3.8 to +5.8)."
    ).replace("+3.8 to +5.8", "+3.8\u00a0to\u00a0+5.8")


def test_several_intervals_say_that_they_hold_together():
    assert "(simultaneous 95 % interval +" in said(AHEAD, tests=3)


def test_of_a_loss_less_is_better():
    text = said(AHEAD, "test/loss", "min")
    assert text.startswith("mixed is worse than plain: 0.96 against 0.912, +0.048 (95 % interval ")


def test_a_null_tells_what_it_would_take():
    text = said(JUMBLED, resampled=None)
    assert text.startswith("No measurable difference between mixed and plain: 91.8 % against 91.2 %, +0.6 points (95 %")
    assert "), equal on 1 of 5 seeds, which could be luck with 5 seeds; a fresh study of about " in text
    assert text.endswith(") seeds could tell.")


def test_of_few_seeds_no_number_of_further_ones_is_said():
    text = said({0: 0.92, 1: 0.91, 2: 0.92})
    assert text.endswith("could be luck with 3 seeds, too few to say how many could tell.")


def test_a_tiny_difference_is_out_of_reach():
    values = {seed: value + (0.01 if seed % 2 else -0.0066667) for seed, value in FIRST.items()}
    assert said(values).endswith("; a difference this small would take more than 10,000.")


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (resample_mean(np.repeat([-1.0, 0.0, 1.0], [40, 210, 50])), "over the samples −"),
        (None, "over the samples unknown)."),
    ],
)
def test_a_difference_that_other_images_could_undo_is_not_called_better(items, says):
    text = said(AHEAD, resampled=items)
    assert text.startswith("mixed is ahead of plain on these 300 test samples, not shown beyond them: 96.0 % against")
    assert says in text
    assert "behind plain on these" in said(AHEAD, mode="min", resampled=items)


def test_an_interval_over_seeds_with_test_samples_of_their_own_covers_these():
    text = said(AHEAD, resampled=None, own_samples=True)
    assert text.startswith("mixed is better than plain: 96.0 % against 91.2 %, +4.8 points (95 % interval +3.8")
    assert text.endswith("); each seed has test samples of its own, so the interval over seeds covers them too.")
    assert "mixed is worse than plain" in said(AHEAD, mode="min", resampled=None, own_samples=True)
    assert said(JUMBLED, resampled=None, own_samples=True) == said(JUMBLED, resampled=None)


def test_an_arm_that_failed_is_not_judged_by_its_survivors():
    text = said({0: 0.95, 1: 0.96}, failed=3)
    assert text.startswith("mixed and plain are not judged, since mixed failed on 3 of 5 seeds: 95.5 % against 91.0 %")
    assert text.endswith(" on the other 2.")
    assert "since plain failed on 1 of 6 seeds" in said(AHEAD, first_failed=1)


def test_seeds_that_were_added_after_a_look_are_told():
    assert said(AHEAD, earlier_readings=(2, 3)).endswith("; seeds were added after a reading at 2 and 3.")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({0: 0.95}, "are not tested: 95.0 % against 90.0 %, +5.00 points on a single seed: one run does not show how"),
        ({0: 0.95, 1: 0.97, 2: 0.96}, "+5.00 points on each of 3 seeds, which leaves no spread to test it against"),
        (
            FIRST,
            "No measurable difference between mixed and plain: 91.2 % against 91.2 %, the same on each of 5 seeds.",
        ),
    ],
    ids=["one seed", "no spread", "equal"],
)
def test_what_cannot_be_tested_is_said(values, says):
    assert says in said(values)


def test_numbers_are_written_with_their_unit_once():
    def written(value: float) -> str:
        return f"{value:g} %"

    assert format_interval(Interval(-1.2, 3), written) == "−1.2\u00a0to\u00a03\u00a0%"
    assert format_interval(None, written) == "–"
    assert [format_p(p) for p in (None, 0.0004, 0.0123, 0.4)] == ["–", "<\u00a00.001", "0.012", "0.40"]
    assert describe_judged("test/loss", METRICS).format_difference(-0.5) == "−0.5"
    assert describe_judged("test/accuracy", METRICS).format_difference(0.0123, 1) == "+1.2"
