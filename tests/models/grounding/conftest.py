"""Fixtures that the official code of TransVG produced, and the tiny network that they hold."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from models.grounding.encoder import EncoderSizes
from models.grounding.fusion import Fusion
from models.grounding.transvg import TransVG
from models.grounding.visual import VisualBranch
from models.text import BertSizes, build_bert

GOLDEN = Path(__file__).parents[2] / "golden" / "transvg"
SETTINGS = json.loads((GOLDEN / "model.json").read_text())["settings"]
VISUAL = EncoderSizes(SETTINGS["hidden_dim"], SETTINGS["nheads"], SETTINGS["dim_feedforward"], SETTINGS["enc_layers"])
FUSION = EncoderSizes(
    SETTINGS["vl_hidden_dim"], SETTINGS["vl_nheads"], SETTINGS["vl_dim_feedforward"], SETTINGS["vl_enc_layers"]
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Pool(nn.Module):
    """The backbone of the fixture: means of 32 x 32 pixels."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [functional.avg_pool2d(images, 32)]


def tiny_network(
    *,
    text_length: int = SETTINGS["max_query_len"],
    grid: tuple[int, int] = (4, 4),
    bins: int | None = None,
    backbone: nn.Module | None = None,
    channels: int = 3,
) -> TransVG:
    """The network of the fixture, or one that differs in few things, with random weights."""
    return TransVG(
        VisualBranch(backbone or Pool(), channels, VISUAL),
        build_bert(BertSizes(**SETTINGS["bert"])),
        Fusion(FUSION, text_length, grid),
        text_dim=SETTINGS["bert"]["hidden_size"],
        text_layer=SETTINGS["bert_enc_num"],
        bins=bins,
    )


@pytest.fixture(scope="session")
def make_network() -> Callable[..., TransVG]:
    return tiny_network


@dataclass(frozen=True)
class Official:
    """Fixture `model`: weights of the official code, a batch, and what came of it."""

    tensors: dict[str, Tensor]
    state: dict[str, Tensor]
    """Under the official names."""
    images: Tensor
    padding_mask: Tensor
    token_ids: Tensor
    token_padding: Tensor

    @property
    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.images, self.padding_mask, self.token_ids, self.token_padding


@pytest.fixture(scope="session")
def official() -> Official:
    tensors = load_file(GOLDEN / "model.safetensors")
    return Official(
        tensors,
        {name.removeprefix("state/"): each for name, each in tensors.items() if name.startswith("state/")},
        tensors["in/image"].float(),
        tensors["in/image_mask"].bool(),
        tensors["in/word_id"],
        tensors["in/word_mask"] == 0,
    )


@pytest.fixture(scope="session")
def losses() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Fixture `losses`."""
    return load_file(GOLDEN / "losses.safetensors"), json.loads((GOLDEN / "losses.json").read_text())
