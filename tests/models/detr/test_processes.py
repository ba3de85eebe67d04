"""Two processes that share a batch take the losses of one process that has it all.

Items are those of the specification of Relation-DETR.
"""

import json
from pathlib import Path

import pytest
import torch
from torch import distributed

from models.detr.criterion import Criterion, count_boxes
from models.detr.denoising import Target
from tests.models.detr.conftest import random_targets, tiny_network

COUNTS = (1, 4, 0, 7)  # 5 boxes in the first process, 7 in the second
PARTS = (slice(0, 2), slice(2, 4))


def losses_of(part: slice) -> dict[str, float]:
    """Losses of some of four images of one size, by a network that any process builds alike."""
    torch.manual_seed(0)
    network = tiny_network()
    images, padding = torch.randn(4, 3, 64, 64), torch.zeros(4, 64, 64, dtype=torch.bool)
    targets = random_targets(COUNTS)
    losses = Criterion()(network.learn(images[part], padding[part], targets[part]), targets[part])
    return {name: loss.item() for name, loss in losses.items() if "_dn" not in name}


def counts_of(boxes: int) -> list[float]:
    targets = [Target(torch.zeros(boxes, 4), torch.zeros(boxes, dtype=torch.long))]
    return [count_boxes(targets).item(), count_boxes(targets, repeats=6).item()]


def half(rank: int, place: Path) -> None:
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    found = {"losses": losses_of(PARTS[rank]), "few": counts_of(rank), "none": counts_of(0)}
    (place / f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_item_13_the_mean_over_two_processes_is_the_loss_of_one(two_processes, tmp_path):
    """Gradients are averaged over processes, so losses have to be; denoising has groups of its own in each process."""
    two_processes(half, tmp_path)
    halves = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    whole = losses_of(slice(0, 4))
    assert {"loss_bbox", "loss_giou_enc", "loss_bbox_hybrid", "loss_class_0"} <= whole.keys()
    for name, expected in whole.items():
        assert sum(each["losses"][name] for each in halves) / 2 == pytest.approx(expected, rel=1e-4), name
    for each in halves:
        assert each["few"] == [1, 3], "1 and 6 boxes in two processes, and at least 1"
        assert each["none"] == [1, 1]
