"""A grounding network as a program of its own: from an image in its square and the pieces of an expression to a box."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.grounding.output import GroundingOutput
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.tasks.exported import Exported
from vision_train.tasks.grounding.build import GroundingNetwork
from vision_train.tasks.image_program import draw_images

INPUTS = {
    "image": "batch x 3 x side x side, float32, prepared as `preprocessing` says, 0 on padding",
    "padding_mask": "batch x side x side, bool, true on padding",
    "tokens": "batch x length, int64: the start, the pieces of the expression, the end, then padding",
    "token_padding": "batch x length, bool, true on padding",
}
SHOWN_ROWS = 0.75
"""Share of the square that a drawn image fills."""


def exported(
    network: GroundingNetwork,
    recipe: Recipe,
    confidences: Callable[[GroundingOutput], Tensor],
    size: tuple[int, int] | None,
) -> Exported:
    """The network behind the preparation of images and texts.

    Args:
        network: With its weights.
        recipe: Says how images and texts are prepared.
        confidences: How sure the network is of each box.
        size: Must be None: the square is that of the data.

    Raises:
        UserError: A size is given.
    """
    side, length = recipe.data.image_size, recipe.data.max_tokens
    if size is not None:
        raise UserError(f"--size {size[0]} {size[1]}: this network takes squares of {side} pixels; leave it out")
    outputs = {"boxes": "batch x 4, float32: centre x, centre y, width, height in shares of the square"}
    if network.bin_head is not None:
        outputs["confidence"] = "batch, float32: how sure the network is of the box, in (0, 1]"
    card: dict[str, Any] = {
        "task": recipe.task,
        "model": recipe.model.name,
        "inputs": INPUTS,
        "outputs": outputs,
        "side": side,
        "length": length,
        "preprocessing": _preprocessing(recipe),
    }
    pieces = recipe.data.pieces or len(recipe.data.vocabulary or ())
    module = GroundingProgram(network, confidences)
    return Exported(module, partial(draw, side, length, pieces), tuple(outputs), card, inputs_of=inputs_of)


def _preprocessing(recipe: Recipe) -> dict[str, Any]:
    data, pixels = recipe.data, recipe.augment.preprocessing
    return {
        "colours": "red, green, blue",
        "resize": {"longer_side": data.image_size, "interpolation": "bilinear", "antialias": True},
        "place": "in the middle of the square",
        "divide_by": 255,
        "mean": [*pixels.mean],
        "std": [*pixels.std],
        "inside": False,
        "text": "in small letters, divided by BERT's rules into word pieces, which are numbered by their place in "
        "`vocabulary`; `[CLS]` before, `[SEP]` behind, `[PAD]` up to the length",
        "vocabulary": data.vocabulary,
        "tokenizer": data.tokenizer,
    }


class GroundingProgram(nn.Module):
    """An image and an expression -> a box, and how sure the network is of it where it says so.

    Args:
        network: Put into evaluation mode, in float32 on the CPU.
        confidences: How sure it is of each box.
    """

    def __init__(self, network: GroundingNetwork, confidences: Callable[[GroundingOutput], Tensor]) -> None:
        super().__init__()
        self.network, self.confidences = network.cpu().float(), confidences
        self.eval()

    def forward(self, image: Tensor, padding_mask: Tensor, tokens: Tensor, token_padding: Tensor) -> tuple[Tensor, ...]:
        """Boxes (B 4) and confidences (B)."""
        output = self.network(image, padding_mask, tokens, token_padding)
        return (output.boxes, *(() if output.bin_logits is None else (self.confidences(output),)))


def draw(side: int, length: int, pieces: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Two images that leave some of the square free, with expressions of random pieces."""
    image = draw_images((side, side), generator)["image"]
    padding = torch.zeros(2, side, side, dtype=torch.bool)
    padding[:, int(SHOWN_ROWS * side) :] = True
    tokens = torch.randint(pieces, (2, length), generator=generator)
    unused = torch.arange(length).expand(2, -1) >= max(3, length // 2)
    return {
        "image": image.masked_fill(padding[:, None], 0.0),
        "padding_mask": padding,
        "tokens": tokens.masked_fill(unused, 0),
        "token_padding": unused,
    }


def inputs_of(batch: Mapping[str, Any]) -> Iterator[dict[str, Tensor]]:
    """The images and expressions of a batch."""
    yield {key: batch[key] for key in INPUTS}
