"""A detector as a program of its own: what it says of its inputs and outputs, and how two results are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.detr.deployed import DeployedDetector
from models.detr.network import RelationDetr
from vision_train.recipe.preprocessing import Preprocessing
from vision_train.recipe.recipe import Recipe
from vision_train.tasks.exported import Exported, Tensors

INPUTS = {
    "image": "batch x 3 x height x width, float32: red, green and blue, each image in 0..1 or in 0..255. It lies in "
    "the upper left; what is outside of its size does not count",
    "size": "batch x 2, int64: height and width of each image",
}
OUTPUTS = {
    "scores": "batch x boxes, falling; NaN where the image held values beyond 0..1 and 0..255, as normalised ones do",
    "labels": "batch x boxes, int64: places in `classes` and `category_ids`",
    "boxes": "batch x boxes x 4: left, top, right, bottom in pixels of `image`; they may reach beyond it",
}


def exported(
    network: RelationDetr, recipe: Recipe, classes: Sequence[str], size: tuple[int, int] | None, top: int
) -> Exported:
    """The detector with its preprocessing and its choice of boxes.

    Args:
        network: With its weights; changed in place into what a program computes fastest.
        recipe: Says how images are prepared.
        classes: Names of the classes.
        size: Height and width of the images; None takes the short and the long side of the recipe.
        top: Boxes of an image.
    """
    data, pixels = recipe.data, recipe.augment.preprocessing
    height, width = size or (data.short_side, data.long_side)
    module = DeployedDetector(network.cpu().float(), pixels.mean, pixels.std, top)
    card: dict[str, Any] = {
        "task": recipe.task,
        "model": recipe.model.name,
        "classes": [*classes],
        "category_ids": data.category_ids or [*range(1, len(classes) + 1)],
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "height": height,
        "width": width,
        "resize": {
            "how": "bilinear with antialiasing, the aspect ratio kept; as large as both sides and the canvas allow",
            "short_side": data.short_side,
            "long_side": data.long_side,
        },
        "normalisation": {"inside": True, "mean": [*pixels.mean], "std": [*pixels.std]},
    }
    difference = partial(furthest, side=max(height, width))
    return Exported(
        module,
        partial(draw, height, width),
        tuple(OUTPUTS),
        card,
        difference,
        inputs_of=partial(on_canvases, height, width, pixels),
        pipeline="object-detection",
    )


def on_canvases(
    height: int, width: int, pixels: Preprocessing, batch: Mapping[str, Any]
) -> Iterator[dict[str, Tensor]]:
    """The images of a batch as levels up to 255, each on a canvas, made smaller where it does not fit."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (pixels.mean, pixels.std))
    canvases, sizes = [], []
    for image, padding in zip(batch["image"], batch["padding_mask"], strict=True):
        rows, columns = (int((~padding).any(axis).sum()) for axis in (1, 0))
        levels = ((image[:, :rows, :columns].float() * std + mean) * 255).round().clamp(0, 255)
        scale = min(height / rows, width / columns, 1.0)
        if scale < 1:
            fitting = max(1, int(rows * scale)), max(1, int(columns * scale))
            levels = interpolate(levels[None], fitting, mode="bilinear", antialias=True)[0]
        canvas = torch.zeros(3, height, width)
        canvas[:, : levels.shape[1], : levels.shape[2]] = levels
        canvases.append(canvas)
        sizes.append([levels.shape[1], levels.shape[2]])
    yield {"image": torch.stack(canvases), "size": torch.tensor(sizes)}


def draw(height: int, width: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Coloured clouds with noise: an image in 0..1 that fills its canvas, and one in 0..255 that leaves some free."""
    clouds = interpolate(torch.rand(2, 3, 6, 6, generator=generator), (height, width), mode="bilinear")
    image = 0.8 * clouds + 0.2 * torch.rand(2, 3, height, width, generator=generator)
    image[1] *= 255
    size = torch.tensor([[height, width], [-(-height * 3 // 4), -(-width * 7 // 8)]])
    return {"image": image, "size": size}


def furthest(expected: Tensors, found: Tensors, side: int) -> float:
    """How far detections are from those of the other result that are nearest: in score, and in shares of a side.

    Both ways, so that none is missing and none invented; the order of equally likely boxes does not count.

    Args:
        expected: `scores`, `labels` and `boxes`.
        found: Likewise.
        side: Longer side of the images, in pixels.

    Returns:
        The largest distance; infinite where a detection has no other of its label, or something is no number.
    """
    if expected["scores"].shape != found["scores"].shape:
        return torch.inf
    ours, theirs = (_numbers(each, side) for each in (expected, found))
    apart = torch.cdist(ours, theirs, p=torch.inf)
    apart = apart.masked_fill(expected["labels"][:, :, None] != found["labels"][:, None], torch.inf)
    nearest = torch.cat((apart.amin(1), apart.amin(2)), dim=1)
    ranked = (expected["scores"] - found["scores"]).abs()
    return torch.cat((nearest, ranked.double()), dim=1).nan_to_num(torch.inf, posinf=torch.inf).max().item()


def _numbers(detections: Tensors, side: int) -> Tensor:
    """B x K x 5: the score, and the corners as shares of a side."""
    return torch.cat((detections["scores"][..., None], detections["boxes"] / side), dim=-1).double()
