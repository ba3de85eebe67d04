"""Which kinds of mixing a preview shows, how often, and whose pixels it says they are."""

import numpy as np
import pytest

from vision_train.previews import OWN, PARTNER
from vision_train.recipe.sections import Mixing
from vision_train.tasks.classification.preview import _in_two_colours, _own_share, mixing_weights, plan_rows


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


def test_a_pixel_has_the_colour_of_whose_it_is_and_a_blend_the_colour_between():
    colours = _in_two_colours(np.array([[1, 0], [0.25, 0.25]], np.float32))
    assert (tuple(colours[0, 0]), tuple(colours[0, 1])) == (OWN, PARTNER)
    np.testing.assert_allclose(colours[1], [0.25 * np.array(OWN) + 0.75 * np.array(PARTNER)] * 2, atol=0.5)


def test_a_caption_tells_pixels_that_are_shared_from_pixels_that_are_blended():
    own = np.zeros((4, 4), np.float32)
    own[0] = 1
    assert _own_share(own) == "25 % its own"
    assert _own_share(np.full((4, 4), 0.25, np.float32)) == "each pixel 25 % its own"
    assert _own_share(np.ones((4, 4), np.float32)) == "100 % its own"
