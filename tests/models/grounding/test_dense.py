"""Cells that say what covers their middle: targets, frames, losses, and a network that learns them."""

import pytest
import torch
from torch import nn

from models.grounding.dense import (
    IGNORED,
    DenseDetector,
    DenseOutput,
    boxes_in_cells,
    cell_ious,
    cell_targets,
    dense_losses,
    placed_anew,
    without_needless_padding,
)
from models.grounding.encoder import EncoderSizes
from models.grounding.visual import VisualBranch

NOTHING = 9
NONE = torch.zeros(0, 4)


def targets(*boxes, grid=(2, 3), ignored=(), padding=None):
    """Targets of one image with boxes (left, top, right, bottom), which are of the classes 0, 1, ..."""
    cells = grid[0] * grid[1]
    return cell_targets(
        [torch.tensor(boxes, dtype=torch.float32).view(-1, 4)],
        [torch.arange(len(boxes))],
        [torch.tensor(ignored, dtype=torch.float32).view(-1, 4)],
        torch.zeros(1, cells, dtype=torch.bool) if padding is None else torch.tensor([padding]),
        grid,
        NOTHING,
    )


class TestTargets:
    def test_a_cell_says_what_covers_its_middle_and_where_the_edges_lie(self):
        found = targets((0.25, 0.0, 2.0, 1.0))
        assert found.classes.tolist() == [[0, 0, NOTHING, NOTHING, NOTHING, NOTHING]]
        assert found.covered.tolist() == [[True, True, False, False, False, False]]
        edges = torch.tensor([0.25 / 3, 0, 2 / 3, 1 / 2])  # of three columns and two rows
        torch.testing.assert_close(found.edges[0, :2], edges.expand(2, 4))
        assert not found.edges[0, 2:].any()

    def test_an_edge_on_a_middle_covers_it_at_the_left_and_not_at_the_right(self):
        assert targets((0.5, 0.0, 1.5, 1.0)).classes[0, :3].tolist() == [0, NOTHING, NOTHING]

    def test_of_several_boxes_the_smallest_has_the_cell_and_of_equal_ones_the_first(self):
        assert targets((0, 0, 3, 2), (1, 0, 2, 1)).classes.tolist() == [[0, 1, 0, 0, 0, 0]]
        assert targets((0, 0, 1, 1), (0, 0, 1, 1)).classes[0, 0] == 0

    def test_a_box_that_covers_no_middle_has_the_cell_of_its_own_middle(self):
        found = targets((0.6, 0.0, 2.6, 0.3))  # low
        assert found.classes.tolist() == [[NOTHING, 0, NOTHING, NOTHING, NOTHING, NOTHING]]
        torch.testing.assert_close(found.edges[0, 1], torch.tensor([0.6 / 3, 0, 2.6 / 3, 0.3 / 2]))
        assert targets((2.9, 1.9, 3.0, 2.0)).classes[0, 5] == 0  # in the corner

    def test_it_leaves_the_cell_to_a_smaller_one(self):
        assert targets((0.6, 0.0, 2.6, 0.3), (1.4, 0.4, 1.6, 0.6)).classes[0, 1] == 1

    def test_padding_and_ignored_regions_do_not_count(self):
        padded = targets((0, 0, 2, 2), padding=[False, False, True, False, True, True])
        assert padded.classes.tolist() == [[0, 0, IGNORED, 0, IGNORED, IGNORED]]
        assert not padded.covered[0, 4]
        assert targets((0, 0, 1, 1), ignored=[(0, 0, 2, 1)]).classes[0, :3].tolist() == [0, IGNORED, NOTHING]

    def test_images_of_any_number_of_boxes_stand_in_one_batch(self):
        boxes = [NONE, torch.tensor([[0.0, 0, 1, 1], [1, 0, 2, 1]])]
        ids = [torch.zeros(0, dtype=torch.int64), torch.tensor([4, 5])]
        found = cell_targets(boxes, ids, [NONE, NONE], torch.zeros(2, 2, dtype=torch.bool), (1, 2), NOTHING)
        assert found.classes.tolist() == [[NOTHING, NOTHING], [4, 5]]
        assert targets().classes.tolist() == [[NOTHING] * 6]


class TestFrames:
    @pytest.mark.parametrize(("left", "top"), [(0, 0), (8, 0), (16, 8)])
    def test_boxes_follow_their_image_wherever_it_lies_in_the_frame(self, left, top):
        mask = torch.ones(1, 32, 40, dtype=torch.bool)
        mask[:, top : top + 16, left : left + 24] = False
        shares = torch.tensor([[0.5, 0.25, 1.0, 0.5]])  # the upper half
        (found,) = boxes_in_cells([shares], mask, (4, 5))
        assert found.tolist() == [[left / 8, top / 8, left / 8 + 3, top / 8 + 1]]

    def test_cells_that_are_padding_in_every_image_are_cut_off(self):
        images, mask = torch.rand(2, 3, 64, 64), torch.ones(2, 64, 64, dtype=torch.bool)
        mask[0, :48, :30], mask[1, :20, :33] = False, False
        kept, padding = without_needless_padding(images, mask, 8)
        assert kept.shape == (2, 3, 48, 40)
        assert torch.equal(kept, images[..., :48, :40])
        assert torch.equal(padding, mask[:, :48, :40])
        assert without_needless_padding(images, mask, 64)[0].shape == (2, 3, 64, 64)

    def test_images_are_moved_whole_and_lie_anywhere_in_the_frame(self):
        images, mask = torch.zeros(40, 3, 16, 24), torch.ones(40, 16, 24, dtype=torch.bool)
        images[..., :12, :20] = torch.rand(40, 3, 12, 20) + 1
        mask[:, :12, :20] = False
        moved, padding = placed_anew(images, mask, torch.Generator().manual_seed(0))
        places = set()
        for before, image, inside in zip(images, moved, ~padding, strict=True):
            (top, *_, bottom), (left, *_, right) = (inside.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
            assert (bottom - top, right - left) == (11, 19)
            assert torch.equal(image[:, top : top + 12, left : left + 20], before[:, :12, :20])
            assert torch.equal(image.any(dim=0), inside)
            places.add((top, left))
        assert {top for top, _ in places} == {left for _, left in places} == {0, 1, 2, 3, 4}
        again, _ = placed_anew(moved, padding, torch.Generator().manual_seed(0))
        assert torch.equal(again, moved)  # from wherever it lay


class TestLosses:
    def output(self, found, edges=None):
        logits = torch.full((1, 6, NOTHING + 1), -50.0)
        logits.scatter_(2, found.classes.clamp(min=0)[..., None], 50.0)
        return DenseOutput(logits, found.edges if edges is None else edges, ~found.covered, (2, 3))

    def test_what_is_right_costs_nothing_and_only_covered_cells_have_edges(self):
        found = targets((0, 0, 2, 1), padding=[False] * 5 + [True])
        losses = dense_losses(self.output(found), found)
        assert {name: value.item() for name, value in losses.items()} == {"classes": 0.0, "edges": 0.0}
        elsewhere = found.edges + 7.0 * ~found.covered[..., None]
        assert dense_losses(self.output(found, elsewhere), found)["edges"] == 0
        assert dense_losses(self.output(found, found.edges + 0.5), found)["edges"] == pytest.approx(2)

    def test_cells_that_do_not_count_change_no_loss(self):
        found = targets((0, 0, 2, 1), padding=[False] * 5 + [True])
        output = self.output(found)
        output.logits[0, 5] = torch.rand(NOTHING + 1)
        assert dense_losses(output, found)["classes"] == 0

    def test_a_batch_in_which_nothing_counts_has_a_loss_of_zero(self):
        found = targets(padding=[True] * 6)
        assert sum(dense_losses(self.output(found), found).values()) == 0

    def test_the_iou_of_a_cell_is_that_of_its_box(self):
        found = targets((0, 0, 2, 1))
        assert cell_ious(found.edges, found).tolist() == [[1, 1, 0, 0, 0, 0]]
        said = found.edges.clone()
        said[0, 0, 2] /= 2  # of two cells the first alone
        assert cell_ious(said, found)[0, 0] == pytest.approx(0.5)
        said[0, 0, 2] = -0.5  # its right edge lies left of the left one
        assert cell_ious(said, found)[0, 0] == 0


class Means(nn.Module):
    """A backbone that gives the mean of every 8 x 8 pixels."""

    def forward(self, images):
        return [nn.functional.avg_pool2d(images, 8)]


def test_a_network_learns_what_stands_where():
    torch.manual_seed(0)
    network = DenseDetector(VisualBranch(Means(), 3, EncoderSizes(16, 2, 16, 1, 0.0)), 2)
    images, mask = torch.zeros(2, 3, 16, 24), torch.zeros(2, 16, 24, dtype=torch.bool)
    images[0, 0, :8, :16], images[1, 2, 8:, 16:] = 1, 1  # a red thing of two cells, and a blue one of one
    boxes = [torch.tensor([[0.0, 0, 2, 1]]), torch.tensor([[2.0, 1, 3, 2]])]
    found = cell_targets(
        boxes, [torch.tensor([0]), torch.tensor([1])], [NONE, NONE], torch.zeros(2, 6, dtype=torch.bool), (2, 3), 2
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        torch.stack([*dense_losses(network(images, mask), found).values()]).sum().backward()
        optimizer.step()
    output = network(images, mask)
    assert torch.equal(output.logits.argmax(dim=-1), found.classes)
    assert cell_ious(output.edges, found)[found.covered].min() > 0.5
