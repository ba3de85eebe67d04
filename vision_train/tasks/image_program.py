"""A network that maps images to one output as a program of its own: classifiers and encoders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.timm_call import TimmCall, timm_call
from vision_train.errors import UserError
from vision_train.recipe.preprocessing import Preprocessing, resized_size
from vision_train.recipe.recipe import Recipe
from vision_train.tasks.exported import Exported, TimmModel


class ImageProgram(nn.Module):
    """Normalised images (B 3 H W) -> a tuple of one output.

    Args:
        network: Put into evaluation mode, in float32 on the CPU.
        call: From the network and images to the output.
    """

    def __init__(self, network: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network, self.call = network.cpu().float(), call
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """The output."""
        return (self.call(self.network, image),)


def image_program(
    recipe: Recipe,
    network: nn.Module,
    call: Callable[..., Tensor],
    size: tuple[int, int] | None,
    *,
    output: tuple[str, str],
    card: Mapping[str, Any],
    timm: tuple[TimmCall | None, str],
    state: dict[str, Tensor],
    pipeline: str | None,
) -> Exported:
    """A network with normalised images as its input.

    Args:
        recipe: Says how images are prepared.
        network: With its weights.
        call: From the network and images to the output.
        size: Height and width of the images; None takes those of the recipe.
        output: Name and meaning of the output.
        card: What else a caller has to know.
        timm: The call of timm that builds the same, or None and why there is none.
        state: Weights by the names of that.
        pipeline: What hubs call its use; None where they have no word for it.

    Raises:
        UserError: The network does not take images of this size.
    """
    pixels, own = recipe.augment.preprocessing, recipe.data.height_and_width
    module, size = ImageProgram(network, call), size or own
    _check_size(module, size, own)
    name, meaning = output
    described = {
        "task": recipe.task,
        "model": recipe.model.name,
        **card,
        "inputs": {"image": "batch x 3 x height x width, float32, prepared as `preprocessing` says"},
        "outputs": {name: meaning},
        "height": size[0],
        "width": size[1],
        "preprocessing": image_preprocessing(pixels, size),
    }
    made, reason = timm
    as_timm = None if made is None or size != own else TimmModel(made, state, timm_pixels(pixels, size))
    return Exported(
        module,
        partial(draw_images, size),
        (name,),
        described,
        inputs_of=images_of if size == own else None,
        timm=as_timm,
        not_timm=reason or "its configuration holds the size of the recipe; leave --size out",
        pipeline=pipeline,
    )


def timm_call_of(recipe: Recipe, classes: int, **changed: Any) -> tuple[TimmCall | None, str]:
    """The call of timm that builds the network of a recipe, or None and why there is none.

    Args:
        recipe: Names the model.
        classes: Outputs of its classifier; 0 leaves it out.
        **changed: Arguments of the model that differ from those of the recipe.
    """
    model, size = recipe.model, recipe.data.height_and_width
    try:
        return timm_call(model.name, num_classes=classes, image_size=size, **{**model.args, **changed}), ""
    except ValueError as error:
        return None, f"model.args.{error}"


def _check_size(module: nn.Module, size: tuple[int, int], own: tuple[int, int]) -> None:
    try:
        with torch.inference_mode():
            module(draw_images(size, torch.Generator().manual_seed(0))["image"])
    except (AssertionError, RuntimeError, ValueError) as error:
        if size == own:
            raise
        raise UserError(
            f"--size {size[0]} {size[1]}: this network takes no images of that size ({error}); leave it out for "
            f"{own[0]} {own[1]}"
        ) from error


def image_preprocessing(pixels: Preprocessing, size: tuple[int, int]) -> dict[str, Any]:
    """How an image becomes an input, step by step, as plain values.

    Args:
        pixels: What is done to pixels.
        size: Height and width of the input.
    """
    (height, width), resized = size, resized_size(size, pixels.crop_share)
    rows, columns = resized or size
    how = "the whole image, whatever its aspect" if resized is None else "covers height and width, the aspect kept"
    return {
        "colours": "red, green, blue",
        "resize": {
            "height": rows,
            "width": columns,
            "how": how,
            "interpolation": pixels.interpolation,
            "antialias": True,
        },
        "centre_crop": None if resized is None else {"height": height, "width": width},
        "divide_by": 255,
        "mean": [*pixels.mean],
        "std": [*pixels.std],
        "inside": False,
    }


def timm_pixels(pixels: Preprocessing, size: tuple[int, int]) -> dict[str, Any]:
    """The same in the words of timm's configuration.

    Args:
        pixels: What is done to pixels.
        size: Height and width of the input.
    """
    resized = resized_size(size, pixels.crop_share)
    share = 1.0 if resized is None else float(pixels.crop_share)
    if resized is not None and any(math.floor(side / share) != want for side, want in zip(size, resized, strict=True)):
        share = size[0] / (resized[0] + 0.25)  # timm rounds down what the division may have left just below
    own = {key: value for key, value in asdict(pixels).items() if key in ("mean", "std", "interpolation")}
    mode = "squash" if resized is None else "center"
    return {**own, "input_size": (3, *size), "crop_pct": share, "crop_mode": mode}


def draw_images(size: tuple[int, int], generator: torch.Generator) -> dict[str, Tensor]:
    """Two normalised images of coloured clouds with noise."""
    clouds = nn.functional.interpolate(torch.randn(2, 3, 6, 6, generator=generator), size, mode="bilinear")
    return {"image": clouds + 0.2 * torch.randn(2, 3, *size, generator=generator)}


def images_of(batch: Mapping[str, Any]) -> Iterator[dict[str, Tensor]]:
    """The images of a batch."""
    yield {"image": batch["image"].float()}
