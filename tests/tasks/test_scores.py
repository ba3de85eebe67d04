"""Numbers of the samples of a pass: each sample once, in order, on every process."""

import pytest
import torch

from vision_train.tasks.scores import ScoreTable


def table(*batches: tuple[list[str], list[list[float]]], groups: dict[str, str] | None = None) -> ScoreTable:
    found = ScoreTable(("loss", "label"))
    for ids, rows in batches:
        found.add(ids, torch.tensor(rows), None if groups is None else [groups[name] for name in ids])
    return found


def test_samples_are_in_the_order_of_their_ids_and_count_once():
    scores = table((["c", "a"], [[3, 0], [1, 1]]), (["b", "a"], [[2, 2], [1, 1]])).gather()
    assert scores.ids == ["a", "b", "c"]
    assert scores.column("loss").tolist() == [1, 2, 3]
    assert scores.column("label").tolist() == [1, 2, 0]
    assert scores.column("label").is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_numbers_have_one_type_whatever_the_network_computed_in(dtype):
    found = ScoreTable(["loss"], dtype)
    found.add(["a"], torch.tensor([[0.5]], dtype=torch.bfloat16, requires_grad=True))
    rows = found.gather().rows
    assert (rows.dtype, rows.requires_grad) == (dtype, False)


def test_a_pass_over_nothing_has_no_rows_but_columns():
    scores = table().gather()
    assert (scores.ids, scores.rows.shape) == ([], (0, 2))
    assert scores.column("loss").tolist() == []
    assert scores.group_of_each is None


def test_samples_without_a_group_stand_for_themselves():
    scores = table((["b", "a"], [[0, 0], [0, 0]]), groups={"a": "patient", "b": "patient"}).gather()
    assert scores.group_of_each == ["patient", "patient"]
    mixed = table((["a"], [[0, 0]]), groups={"a": "patient"})
    mixed.add(["b"], torch.zeros(1, 2))
    assert mixed.gather().group_of_each == ["patient", "b"]
