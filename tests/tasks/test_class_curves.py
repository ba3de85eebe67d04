"""ROC, precision by recall and thresholds, against scikit-learn and by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from vision_train.artefacts import Curve, Table
from vision_train.tasks.class_curves import (
    MOST_CLASSES,
    THRESHOLDS,
    TOGETHER,
    at_threshold,
    choose_thresholds,
    curve_artefacts,
    probability_fields,
)


def scored(count: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator) + 1.5 * torch.nn.functional.one_hot(labels, classes)
    return logits.softmax(dim=1).double(), labels


def artefacts(probabilities, labels, classes, groups=None, calibration=None) -> tuple[Curve, Curve, Table]:
    return curve_artefacts(probabilities, labels, groups, classes, "test", calibration or {})


def row(table: Table, place: int = 0) -> dict:
    return dict(zip(table.columns, table.rows[place], strict=True))


def test_two_classes_have_one_line_of_the_second_one():
    probabilities, labels = scored(200, 2)
    roc, precision, table = artefacts(probabilities, labels, ["healthy", "ill"])
    auroc = roc_auc_score(labels, probabilities[:, 1])
    average = average_precision_score(labels, probabilities[:, 1])
    assert list(roc.lines) == [f"ill (AUROC {auroc:.3f})", "guessing"]
    assert list(precision.lines) == [f"ill (AP {average:.3f})", "guessing"]
    assert precision.lines["guessing"] == [labels.double().mean()] * 2, "by chance, precision is the share of positives"
    found = row(table)
    assert found["AUROC"] == pytest.approx(auroc)
    assert found["average precision"] == pytest.approx(average)
    assert "ill against healthy" in roc.title


def test_the_area_below_the_drawn_line_is_the_auroc():
    probabilities, labels = scored(3_000, 2)
    roc, _, table = artefacts(probabilities, labels, ["a", "b"])
    (name,) = roc.x_of
    assert len(roc.lines[name]) <= 200
    assert np.trapezoid(roc.lines[name], roc.x_of[name]) == pytest.approx(row(table)["AUROC"], abs=2e-3)
    assert (roc.x_of[name][0], roc.lines[name][-1]) == (0.0, 1.0)


def test_the_threshold_of_validation_is_marked_and_applied():
    probabilities, labels = scored(300, 2)
    calibration = choose_thresholds(probabilities, labels, ["a", "b"])
    (cut,) = calibration[THRESHOLDS].values()
    sums = {
        other: (at := at_threshold(labels.numpy() == 1, probabilities[:, 1].numpy(), other)).sensitivity
        + at.specificity
        for other in [cut, *np.linspace(0, 1, 50)]
    }
    assert sums[cut] == max(sums.values())
    roc, precision, table = artefacts(probabilities, labels, ["a", "b"], calibration=calibration)
    assert list(roc.marks) == list(precision.marks) == ["threshold 0.50", f"threshold {cut:.2f}"]
    chosen = row(table, 1)
    claimed = probabilities[:, 1] >= cut
    assert chosen["sensitivity"] == pytest.approx(claimed[labels == 1].double().mean().item())
    assert chosen["specificity"] == pytest.approx((~claimed)[labels == 0].double().mean().item())
    assert chosen["precision"] == pytest.approx(labels[claimed].double().mean().item())
    assert "95 % interval" in table.note


def test_several_classes_stand_against_the_rest_each():
    probabilities, labels = scored(400, 9)
    names = [f"class {index}" for index in range(9)]
    roc, _, table = artefacts(probabilities, labels, names, calibration=choose_thresholds(probabilities, labels, names))
    expected = [roc_auc_score(labels == index, probabilities[:, index]) for index in range(9)]
    assert [found[2] for found in table.rows] == pytest.approx(expected)
    assert all(found[5] for found in table.rows)
    drawn = {name.partition(" (")[0] for name in roc.lines} - {"guessing"}
    assert drawn == {names[place] for place in np.argsort(expected)[:TOGETHER]}, "the worst of many"


def test_groups_widen_the_interval_of_auroc():
    probabilities, labels = scored(60, 2)
    many = torch.cat([probabilities] * 5), torch.cat([labels] * 5)
    groups = [str(index % 60) for index in range(300)]
    alone, together = (row(artefacts(*many, ["a", "b"], groups=each)[2])["95 % of AUROC"] for each in (None, groups))
    width = [float(high) - float(low) for low, high in (each.split(" to ") for each in (alone, together))]
    assert width[1] == pytest.approx(width[0] * 5**0.5, rel=0.2)  # wider ones are less even


def test_classes_that_nothing_shows_are_left_out():
    probabilities, labels = scored(50, 3)
    present = labels != 2
    _, _, table = artefacts(probabilities[present], labels[present], ["a", "b", "c"])
    assert [found[0] for found in table.rows] == ["a", "b"]
    assert "c" not in choose_thresholds(probabilities[present], labels[present], ["a", "b", "c"])[THRESHOLDS]
    assert not curve_artefacts(probabilities[:0], labels[:0], None, ["a", "b", "c"], "test", {})
    broken = torch.full((4, 2), torch.nan)
    assert not curve_artefacts(broken, torch.tensor([0, 1, 0, 1]), None, ["a", "b"], "test", {})
    assert choose_thresholds(broken, torch.tensor([0, 1, 0, 1]), ["a", "b"]) == {}


def test_a_perfect_auroc_has_no_interval():
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]], dtype=torch.float64)
    _, _, table = artefacts(probabilities, torch.tensor([0, 0, 1, 1]), ["a", "b"])
    assert row(table)["AUROC"] == 1
    assert row(table)["95 % of AUROC"] == "–"


def test_the_probabilities_of_a_thousand_classes_are_not_kept():
    assert len(probability_fields(MOST_CLASSES)) == MOST_CLASSES
    assert probability_fields(1_000) == ()


def test_groups_widen_the_intervals_of_sensitivity_and_specificity():
    probabilities, labels = scored(240, 2)
    scores, positive = probabilities[:, 1].numpy(), labels.numpy() == 1
    order = np.lexsort((scores, positive))  # those of one group are alike
    scores, positive = scores[order], positive[order]
    alone = at_threshold(positive, scores, 0.5)
    together = at_threshold(positive, scores, 0.5, [f"patient {place // 20}" for place in range(240)])
    assert (alone.sensitivity, alone.specificity) == (together.sensitivity, together.specificity)
    for single, grouped in (
        (alone.of_sensitivity, together.of_sensitivity),
        (alone.of_specificity, together.of_specificity),
    ):
        assert single is not None
        assert grouped is not None
        assert grouped.high - grouped.low > 1.5 * (single.high - single.low)
