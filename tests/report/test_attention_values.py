"""Attention as numbers: ranks, curves and csv; nothing but attention passes for it."""

import csv
import io

import numpy as np
import pytest

from vision_train.artefacts import read_artefact, write_artefact
from vision_train.report.artefact_blocks import artefact_block
from vision_train.report.attention_values import (
    attention_rows,
    attention_values,
    cumulative_attention,
    cumulative_curve,
    hottest,
    rank_shares,
)


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ([0.5, np.nan, np.inf], "2 of 3"),
        ([1.0, -1e-9], "behind the softmax"),
        ([], "shape"),
        ([[0.5, 0.5]], "shape"),
    ],
)
def test_what_is_no_attention_is_refused(attention, message):
    with pytest.raises(ValueError, match=message):
        attention_values(np.array(attention))


def test_ranks_are_shares_of_the_others():
    assert rank_shares(np.array([0.1, 0.7, 0.2])).tolist() == [0, 1, 0.5]
    assert rank_shares(np.array([0.2, 0.2, 0.6])).tolist() == [0.25, 0.25, 1]
    assert rank_shares(np.full(7, 1 / 7)).tolist() == [0.5] * 7
    assert rank_shares(np.ones(1)).tolist() == [0.5]


def test_the_hottest_come_first_and_ties_in_their_order():
    assert hottest(np.array([0.1, 0.3, 0.3, 0.2, 0.1]), 4).tolist() == [1, 2, 3, 0]
    assert hottest(np.ones(1), 10).tolist() == [0]


def test_cumulative_attention_grows_to_the_sum_and_stays():
    assert cumulative_attention(np.array([0.25, 0.5, 0.25]), 5).tolist() == [0.5, 0.75, 1, 1, 1]
    assert cumulative_attention(np.full(200, 1 / 200))[[0, 9, 99]] == pytest.approx([0.005, 0.05, 0.5])


def test_the_curve_is_the_mean_over_bags(tmp_path):
    bags = [cumulative_attention(np.array(bag)) for bag in ([1.0, 0.0], [0.5, 0.5])]
    curve = cumulative_curve({"ABMIL": bags, "ACMIL": bags[1:]})
    assert curve.x == list(range(1, 101))
    assert curve.lines["ABMIL"][:3] == [0.75, 1, 1]
    assert curve.lines["ACMIL"][:3] == [0.5, 1, 1]
    write_artefact(tmp_path, curve)
    assert read_artefact(tmp_path / "attention_cumulative.json") == curve
    assert "<svg" in artefact_block(curve)


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_rows_give_back_every_number():
    random = np.random.default_rng(0)
    branches = random.dirichlet(np.full(5000, 0.05), 3).astype(np.float32)
    coords = random.integers(-(10**6), 10**6, (5000, 2))
    head, *body = rows(attention_rows("007, part", coords, branches.mean(axis=0), branches))
    assert head == ["slide_id", "x", "y", "attention", "branch_0", "branch_1", "branch_2"]
    assert {row[0] for row in body} == {"007, part"}
    assert [[int(row[1]), int(row[2])] for row in body] == coords.tolist()
    numbers = np.array([row[4:] for row in body], dtype=np.float32)
    assert (branches == numbers.T).all()
    assert np.array([row[3:] for row in body], float).sum(axis=0) == pytest.approx(np.ones(4), abs=1e-5)


def test_rows_without_coordinates_or_header():
    text = attention_rows("a", None, np.array([0.25, 0.75]), np.empty((0, 2)), header=False)
    assert text == "a,,,0.25\na,,,0.75\n"


def test_rows_of_other_numbers_are_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        attention_rows("a", np.zeros((3, 2), int), np.array([0.5, 0.5]), np.empty((0, 2)))
