"""Fixtures that the official code of Relation-DETR produced, and the tiny network that they hold."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.detr.boxes import to_centre
from models.detr.denoising import DenoisingGenerator, Noise, Target
from models.detr.network import RelationDetr
from models.detr.transformer import TransformerSizes

GOLDEN = Path(__file__).parents[2] / "golden" / "relation_detr"
SIZES = TransformerSizes(32, 4, 64, encoder_layers=2, decoder_layers=3, levels=3, queries=20, hybrid_queries=10)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], tuple[dict[str, Tensor], dict[str, Any]]]:
    """Read the tensors and values of a fixture."""
    return read


def read(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return load_file(GOLDEN / f"{name}.safetensors"), json.loads((GOLDEN / f"{name}.json").read_text())["values"]


class TwoConvolutions(nn.Module):
    """The backbone of the fixture."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 12, 2, 2)

    def forward(self, images: Tensor) -> list[Tensor]:
        first = self.c1(images).relu()
        return [first, self.c2(first).relu()]


@pytest.fixture(scope="session")
def make_network() -> Callable[..., RelationDetr]:
    """Build the network of the fixture, with random weights."""
    return tiny_network


@pytest.fixture(scope="session")
def make_batch() -> Callable[[list[Tensor]], tuple[Tensor, Tensor]]:
    """Pad images to one size."""
    return batch


def tiny_network(classes: int = 5, **options: Any) -> RelationDetr:
    denoising = DenoisingGenerator(classes, 32, 10)
    return RelationDetr(TwoConvolutions(), (8, 12), classes, SIZES, denoising, **options)


def batch(images: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad images at the right and at the bottom, to a multiple of 32 pixels."""
    height, width = (-(-max(image.shape[side] for image in images) // 32) * 32 for side in (1, 2))
    pixels, padding = torch.zeros(len(images), 3, height, width), torch.ones(len(images), height, width).bool()
    for number, image in enumerate(images):
        pixels[number, :, : image.shape[1], : image.shape[2]] = image
        padding[number, : image.shape[1], : image.shape[2]] = False
    return pixels, padding


@dataclass(frozen=True)
class Official:
    """Fixture e: a network of the official code, its batch, and what came of it."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    network: RelationDetr
    images: Tensor
    padding: Tensor
    sizes: Tensor
    """Height and width of each image."""
    targets: list[Target]
    noise: Noise


@pytest.fixture
def official() -> Official:
    tensors, values = read("e_full_model")
    network = tiny_network(hide_empty=False)
    network.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("state.")})
    images = [tensors["image0"], tensors["image1"]]
    sizes = torch.tensor([image.shape[1:] for image in images])
    targets = [
        Target(
            to_centre(tensors[f"target{number}.boxes_xyxy"]) / size.flip(0).repeat(2), tensors[f"target{number}.labels"]
        )
        for number, size in enumerate(sizes)
    ]
    noise = Noise(*(tensors[f"train.noise.{name}"] for name in ("label_flip_u", "label_new", "box_sign01", "box_u")))
    return Official(tensors, values, network, *batch(images), sizes, targets, noise)


def random_boxes(*shape: int, smallest: float = 0.05, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sides = smallest + (0.4 - smallest) * torch.rand(*shape, 2, generator=generator)
    centres = sides / 2 + (1 - sides) * torch.rand(*shape, 2, generator=generator)
    return torch.cat((centres, sides), dim=-1)


def random_targets(counts, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        Target(random_boxes(count, seed=seed + number), torch.randint(classes, (count,), generator=generator))
        for number, count in enumerate(counts)
    ]
