"""Pictures of believed positions: whose they are, what they show and what they say."""

import numpy as np
import pytest
import torch
from PIL import Image

from models.droppos.masks import Masking, Masks, MaskSampler
from models.droppos.network import PositionOutput
from vision_train.tasks.pretraining.pictures import GAP, GROUND, KEPT, RIGHT, SIDE, WRONG, PositionPictures

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)


def output_of(masks: Masks, believed: torch.Tensor) -> PositionOutput:
    logits = torch.nn.functional.one_hot(believed, 16) * 20.0
    return PositionOutput(torch.zeros(()), torch.zeros(()), None, logits, masks, masks.dropped.float())


def pages(names: list[str], *, wrong: bool = False, size: int = 16, order: list[int] | None = None) -> PositionPictures:
    """Pictures of these images, which came in batches of three, with beliefs that are all right or all wrong."""
    masks = MaskSampler(Masking(0.25, 0.75), 16, seed=0).draw(len(names))
    images = torch.rand(len(names), 3, size, size, generator=torch.Generator().manual_seed(0))
    normalised = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    pictures = PositionPictures((4, 4), (size // 4, size // 4), MEAN, STD)
    for rows in torch.tensor(order or list(range(len(names)))).split(3):
        chosen = Masks(masks.visible[rows], masks.dropped[rows], None)
        believed = (chosen.visible + wrong) % 16
        pictures.add([names[row] for row in rows], normalised[rows], output_of(chosen, believed))
    return pictures


def parts(picture: np.ndarray) -> list[np.ndarray]:
    return [picture[:, start : start + SIDE] for start in range(0, picture.shape[1], SIDE + GAP)]


def cells(picture: np.ndarray) -> np.ndarray:
    """The middle of each cell of the 4 x 4 grid, 16 x 3."""
    step = SIDE // 4
    return picture[step // 2 :: step, step // 2 :: step].reshape(16, 3)


def test_the_same_images_of_all_folders_are_shown_in_whatever_order_they_come():
    names = [f"{folder}/{number:02d}.png" for folder in "ab" for number in range(10)]
    forwards, backwards = (pages(names, order=order).image_grid("val") for order in (None, list(range(20))[::-1]))
    shown = [caption.split("\n")[1] for caption in forwards.captions]
    assert len(shown) == KEPT
    assert shown == sorted(shown)
    assert {name[0] for name in shown} == {"a", "b"}
    assert forwards.captions == backwards.captions
    assert all(np.array_equal(one, other) for one, other in zip(forwards.images, backwards.images, strict=True))
    assert (forwards.name, forwards.title) == ("val_positions", "Where the network puts patches of val images")


@pytest.mark.parametrize("size", [8, 16, 320])
def test_image_truth_and_belief_stand_side_by_side(size):
    (picture,) = pages(["a"], size=size).image_grid("val").images
    assert picture.shape == (SIDE, 3 * SIDE + 2 * GAP, 3)
    assert picture.dtype == np.uint8
    image, truth, belief = parts(picture)
    assert np.array_equal(cells(truth), cells(belief)), "the network is right everywhere"
    if size < SIDE:
        removed = (cells(truth) == GROUND).all(axis=1)
        assert removed.sum() == 4
        assert np.array_equal(cells(truth)[~removed], cells(image)[~removed])


@pytest.mark.parametrize(("wrong", "colour"), [(False, RIGHT), (True, WRONG)])
def test_patches_without_a_position_are_framed_by_whether_they_are_in_their_place(wrong, colour):
    (picture,) = pages(["a"], wrong=wrong).image_grid("val").images
    _, truth, belief = parts(picture)
    step = SIDE // 4
    corners = belief[::step, ::step].reshape(16, 3)
    framed = [tuple(corner) for corner in corners.tolist() if tuple(corner) in (RIGHT, WRONG)]
    assert set(framed) == {colour}
    assert len(framed) == 9 or wrong, "nine of twelve lost their position; wrong ones may meet in a cell"
    assert not any(tuple(pixel) == colour for pixel in truth.reshape(-1, 3).tolist())


def test_pixels_are_those_of_the_image():
    (picture,) = pages(["a"]).image_grid("val").images
    expected = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))[0].permute(1, 2, 0) * 255
    shown = np.asarray(Image.fromarray(parts(picture)[0]).resize((16, 16), Image.Resampling.NEAREST), dtype=float)
    assert np.abs(shown - expected.numpy()).max() <= 0.51


def test_captions_count_and_measure():
    (right,), (wrong,) = (pages(["a"], wrong=wrong).image_grid("val").captions for wrong in (False, True))
    assert right == "9 of 9 in their place, 0.0 patches off on average\na"
    assert wrong.startswith("0 of 9 in their place, ")
    assert float(wrong.split(", ")[1].split()[0]) >= 1


def test_beliefs_that_are_wrong_are_seen():
    (picture,) = pages(["a"], wrong=True).image_grid("val").images
    _, truth, belief = parts(picture)
    assert not np.array_equal(truth, belief)
