"""How often the labels of a pool are right, as validation samples tell: what is asked, said and warned of."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vision_train.data.module import SampleDataModule
from vision_train.data.sample import Sample
from vision_train.recipe import load_recipe
from vision_train.run.label_accuracy import MOST_ASKED, LabelAccuracy, known_samples, label_accuracy, truths_of
from vision_train.run.plan import FinishedPhase, Phase
from vision_train.semi.answers import Answer
from vision_train.semi.label_file import PseudoLabel


def found(right: str, kept: str | None = None, burn_in: float | None = None, part: str = "") -> LabelAccuracy:
    """The estimate for made-up labels; ``1`` marks a label that is right, and one that is kept."""
    labels = [PseudoLabel(str(place), "a", kept=mark == "1") for place, mark in enumerate(kept or "1" * len(right))]
    before = [FinishedPhase("burn-in", Path(), {"val/accuracy": 0.11})] if part else []
    if burn_in is not None:
        before.append(FinishedPhase(f"{part}burn-in", Path(), {"val/accuracy": burn_in}))
    phase = Phase(f"{part}fit", load_recipe("quickstart"))
    return label_accuracy(phase, before, labels, [mark == "1" for mark in right], noun="images", metric="accuracy")


def known(count: int) -> list[str]:
    samples = [f"{place}.png" for place in range(count)]
    data = cast(SampleDataModule, SimpleNamespace(samples=lambda split: {"val": samples}[split]))
    return cast(list[str], known_samples(data))


@pytest.mark.parametrize("count", [1, MOST_ASKED, MOST_ASKED + 1, 5 * MOST_ASKED + 3])
def test_all_validation_samples_are_asked_about_up_to_a_limit_and_then_some_of_everywhere(count):
    asked = known(count)
    assert len(asked) == min(count, len(asked)) <= MOST_ASKED
    assert len(asked) == count or len(asked) >= MOST_ASKED // 2
    assert len(set(asked)) == len(asked)
    assert int(asked[-1].removesuffix(".png")) >= count - 1 - count // MOST_ASKED


def test_samples_that_could_not_be_read_have_no_truth_to_be_held_against():
    samples = [cast(Sample, SimpleNamespace(id=name, truth=name.upper())) for name in "abc"]
    answers: list[Any] = [Answer("a", 0), Answer("c", 0)]
    assert truths_of(answers, samples) == ["A", "C"]


def test_labels_that_are_not_kept_do_not_count():
    estimate = found("1101100000", "1111100000").estimate
    assert estimate is not None
    assert (estimate.accuracy, estimate.images) == (pytest.approx(0.8), 5)


def test_the_sentence_says_on_what_the_estimate_rests():
    said = found("1" * 90 + "0" * 10 + "0" * 100, "1" * 100 + "0" * 100, burn_in=0.7).sentence
    assert said == (
        "Estimated on 200 validation images: of the 100 whose labels the same networks and rule keep, 90 % are right "
        "(83 % to 94 %). The burn-in has 70 % of all validation labels right."
    )
    assert "burn-in" not in found("1111").sentence
    assert "not known" in found("1111", "0000").sentence


def test_the_burn_in_of_the_same_arm_is_what_labels_are_held_against():
    assert found("1111", burn_in=0.7, part="method.1.").burn_in == 0.7


@pytest.mark.parametrize(
    ("right", "burn_in", "words"),
    [
        ("1" * 60 + "0" * 40, None, "60 % are right on 100 validation images (50 % to 69 %); train longer"),
        ("1" * 85 + "0" * 15, 0.97, "the burn-in has 97 % of all right"),
        ("1" * 85 + "0" * 15, 0.9, ""),
        ("1" * 85 + "0" * 15, None, ""),
    ],
)
def test_labels_that_are_often_wrong_or_worse_than_the_burn_in_are_warned_of(right, burn_in, words):
    warning = found(right, burn_in=burn_in).warning("semi.class_cap")
    assert words in warning
    assert bool(warning) == bool(words) == ("(semi.class_cap)" in warning)


def test_where_no_label_would_be_kept_nothing_is_warned_of():
    assert found("0000", "0000", burn_in=0.9).warning("semi.class_cap") == ""
