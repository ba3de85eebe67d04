"""Which kinds of mixing a preview shows, and how often."""

import pytest

from vision_train.recipe.sections import Mixing
from vision_train.tasks.classification.preview import mixing_weights, plan_rows


def test_weights_are_shares_of_the_batches():
    assert mixing_weights(Mixing(mixup=0.25, cutmix=0.25)) == {"mixup": 0.25, "cutmix": 0.25, "unmixed": 0.5}
    assert mixing_weights(Mixing(mixup=0.1, cutmix=0.9)) == {"mixup": 0.1, "cutmix": 0.9}
    assert mixing_weights(Mixing()) == {"unmixed": 1.0}


@pytest.mark.parametrize(
    ("weights", "count", "rows"),
    [
        ({"maskmix": 0.5, "mixup": 0.25, "cutmix": 0.25}, 8, [4, 2, 2, 0]),
        ({"maskmix": 0.98, "mixup": 0.01, "cutmix": 0.01}, 4, [2, 1, 1, 0]),
        ({"maskmix": 0.1, "mixup": 0.2, "cutmix": 0.7}, 1, [0, 0, 1, 0]),
        ({"mixup": 0.25, "cutmix": 0.25, "unmixed": 0.5}, 6, [0, 3, 2, 1]),
        ({"mixup": 0.25, "cutmix": 0.25, "unmixed": 0.5}, 2, [0, 1, 1, 0]),
        ({"unmixed": 1.0}, 3, [0, 0, 0, 3]),
    ],
)
def test_every_kind_has_a_row_if_there_is_room(weights, count, rows):
    planned = plan_rows(weights, count)
    assert [planned.count(kind) for kind in ("maskmix", "mixup", "cutmix", "unmixed")] == rows
