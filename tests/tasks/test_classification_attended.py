"""Where a classifier looks: which images are kept, what is drawn, and networks that have no attention."""

import numpy as np
import pytest
import torch
from torch import nn

from vision_train.artefacts import ImageGrid
from vision_train.recipe import load_recipe
from vision_train.tasks.classification.attended import GAP, KEPT, SIDE, AttendedImages, beside
from vision_train.tasks.classification.task import build

CLASSES = ["cat", "dog"]


def task():
    size = "model.args={patch_size: 4, embed_dim: 12, depth: 1, num_heads: 1}"
    return build(load_recipe("quickstart", [size]), CLASSES).eval()


@torch.no_grad()
def test_the_images_of_both_ends_are_kept_whatever_the_batches():
    network = task()
    images = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    losses = torch.rand(40, generator=torch.Generator().manual_seed(1)).tolist()
    ids = [f"image-{index:02d}" for index in range(40)]
    found = []
    for size in (7, 40):
        attended = AttendedImages(network.network, (16, 16), network.pixels_of)
        for start in range(0, 40, size):
            part = slice(start, start + size)
            attended.consider(ids[part], images[part], torch.tensor(losses[part]), lambda place: f"loss {place}")
        found.append(attended.artefacts("test"))
    order = np.argsort(losses)
    for worst, best in found:
        assert isinstance(worst, ImageGrid)
        assert [caption.split("\n")[1] for caption in worst.captions] == [ids[k] for k in order[::-1][:KEPT]]
        assert [caption.split("\n")[1] for caption in best.captions] == [ids[k] for k in order[:KEPT]]
        assert worst.captions[0].startswith("loss ")
        assert "class token" in worst.note
        assert "4 x 4 cells" in worst.note
    # Batches of other sizes round otherwise.
    assert all(
        np.abs(a.astype(int) - b).max() <= 2 for a, b in zip(found[0][0].images, found[1][0].images, strict=True)
    )


@torch.no_grad()
def test_a_network_without_attention_and_a_loss_that_is_not_finite_show_nothing():
    classifier, images = task(), torch.randn(2, 3, 16, 16)
    for network, losses in ((nn.Flatten(), [0.1, 0.2]), (classifier.network, [0.1, float("nan")])):
        attended = AttendedImages(network, (16, 16), classifier.pixels_of)
        attended.consider(["a", "b"], images, torch.tensor(losses), str)
        assert attended.artefacts("test") == []


@pytest.mark.parametrize("shape", [(16, 16), (300, 200)])
def test_the_cell_that_has_most_attention_is_the_brightest(shape):
    cells = np.full((4, 4), 0.01)
    cells[0, 3] = 0.5
    picture = beside(np.full((*shape, 3), 90, np.uint8), cells)
    height, width = picture.shape[0], (picture.shape[1] - GAP) // 2
    assert max(height, width) <= SIDE
    drawn = picture[:, width + GAP :].astype(int).sum(axis=2)
    row, column = np.unravel_index(drawn.argmax(), drawn.shape)
    assert row < height / 4
    assert column > 3 * width / 4
    assert (picture[:, :width] == 90).all()
