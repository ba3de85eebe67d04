"""Test-time augmentation: the class probabilities of an image are the mean over several views of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from vision_train.recipe.preprocessing import resized_size
from vision_train.recipe.recipe import Recipe
from vision_train.tasks.augmented_views import AugmentedViews

MARGIN = 0.875
"""Side of a crop over that of the image that it is cut from, where the recipe resizes whole images: the usual one."""

View = Callable[[Tensor], Tensor]


def augmented_views(recipe: Recipe, name: str) -> AugmentedViews:
    """The views of a recipe's images by name.

    ``flips``: the image and its mirror image. ``five-crop``: the four corners and the centre of an image that is read
    larger by ``1 / augment.eval.crop_share`` (Krizhevsky et al., 2012). Where that share is below 1, the crop at the
    centre is what is measured without views; where the recipe evaluates whole images, it is :data:`MARGIN`.
    """
    several = recipe.data.multi_label
    if name == "flips":
        views = _averaged((_as_it_is, functional.hflip), several)
        return AugmentedViews(recipe, 2, "the image and its mirror image", views)
    height, width = recipe.data.height_and_width
    share = recipe.augment.preprocessing.crop_share
    margin = MARGIN if share in ("whole", 1.0) else float(share)
    larger = resized_size((height, width), margin) or (height, width)
    read: float | Literal["whole"] = "whole" if share == "whole" else 1.0
    augment = replace(recipe.augment, eval=replace(recipe.augment.eval, crop_share=read))
    larger_side = larger[0] if isinstance(recipe.data.image_size, int) else larger
    enlarged = replace(recipe, augment=augment, data=replace(recipe.data, image_size=larger_side))

    def crop(number: int) -> View:
        return lambda images: functional.five_crop(images, [height, width])[number]

    said = f"four corners and the centre, {height} x {width}, of images of {larger[0]} x {larger[1]}"
    return AugmentedViews(enlarged, 5, said, _averaged([crop(number) for number in range(5)], several))


def _averaged(views: Sequence[View], several: bool) -> Callable[[nn.Module], nn.Module]:
    return lambda network: AveragedViews(network, views, several)


def _as_it_is(images: Tensor) -> Tensor:
    return images


class AveragedViews(nn.Module):
    """A classifier whose class probabilities are the mean of those of several views.

    Args:
        network: Maps images (B C H W) to logits (B K).
        views: Each maps a batch of images to one as the network takes it.
        several: Whether each class has a probability of its own (sigmoid), not all of them one (softmax).
    """

    def __init__(self, network: nn.Module, views: Sequence[View], several: bool = False) -> None:
        super().__init__()
        self.network, self.views, self.several = network, views, several

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B K), in float32, whose probabilities are the mean of those of the views."""
        logits = torch.stack([self.network(view(images)).float() for view in self.views])
        if self.several:
            least = torch.finfo(logits.dtype).eps
            return logits.double().sigmoid().mean(dim=0).clamp(least, 1 - least).logit().float()
        mean = logits.softmax(dim=2).mean(dim=0)
        return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
