"""A teacher's boxes, carried to the view that a student learns."""

import numpy as np
import pytest
import torch

from augment.geometry import mirror, scale, translation
from vision_train.recipe import load_recipe
from vision_train.run.phase import build_task
from vision_train.tasks.grounding.pool import teach

SIDE = 64
SIZE = (48, 64)
WEAK = translation(0, 8) @ scale(1.0, 1.0)


def view(affine: np.ndarray, count: int = 1) -> dict:
    affines = torch.from_numpy(np.stack([affine] * count))
    return {"image": torch.zeros(count, 3, SIDE, SIDE), "affine": affines, "size": [SIZE] * count}


def shares(*corners: float) -> torch.Tensor:
    left, top, right, bottom = corners
    return torch.tensor([[(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]]) / SIDE


@pytest.mark.parametrize(
    ("strong", "expected"),
    [
        (WEAK, (10, 18, 30, 38)),
        (WEAK @ mirror(SIZE[1]), (34, 18, 54, 38)),
        (translation(5, 20) @ scale(0.5, 0.5), (10, 25, 20, 35)),
    ],
)
def test_a_box_goes_by_the_affines_of_both_views(strong, expected):
    taught = teach(shares(10, 18, 30, 38), torch.tensor([0.7]), view(WEAK), view(strong))
    torch.testing.assert_close(taught.boxes, shares(*expected))
    assert taught.weights.tolist() == pytest.approx([0.7])
    assert taught.judged[0].accepted.tolist() == [True]
    assert taught.judged[0].areas.tolist() == pytest.approx([400.0])


def test_a_box_is_clipped_to_the_image_and_counts_only_if_half_of_it_lies_there():
    boxes = torch.cat([shares(10, 4, 30, 24), shares(10, -20, 30, 10), shares(-9, -9, -1, -1)])
    taught = teach(boxes, torch.ones(3), view(WEAK, 3), view(WEAK, 3))
    assert taught.weights.tolist() == [1, 0, 0]
    torch.testing.assert_close(taught.boxes[:1], shares(10, 8, 30, 24))
    assert taught.boxes.isfinite().all()


def test_what_is_not_finite_weighs_nothing_and_is_counted():
    boxes = torch.cat([torch.full((1, 4), torch.nan), shares(10, 18, 30, 38)])
    taught = teach(boxes, torch.tensor([torch.nan, 0.5]), view(WEAK, 2), view(WEAK, 2))
    assert taught.weights.tolist() == [0, 0.5]
    assert taught.boxes.isfinite().all()
    assert [each.finite for each in taught.judged] == [False, True]


def test_what_is_told_of_a_teacher_is_told_of_expressions():
    keys = [
        "semi.method=mean_teacher",
        "data.unlabelled=rest",
        "run.pretrain=null",
        "model.freeze=[]",
        "model.fresh=[]",
    ]
    task = build_task(load_recipe("studies/actress/referring_supervised", [*keys, "optim.ema={decay: 0.5}"]), [])
    assert task.teaching.noun == "expressions"
