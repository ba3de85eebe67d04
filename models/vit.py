"""Building timm models from a name and plain arguments, and fitting published weights to them."""

from __future__ import annotations

import difflib
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm
import torch
from timm.layers import resample_patch_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from models.positions import fit_positions, position_prefix

DECIDED_ELSEWHERE = {
    "img_size": "is the image size of the data",
    "pretrained": "would download weights; they come from a checkpoint file instead",
    "pretrained_cfg": "would download weights; they come from a checkpoint file instead",
    "pretrained_cfg_overlay": "would download weights; they come from a checkpoint file instead",
    "checkpoint_path": "would load weights unreported; they come from a checkpoint file instead",
    "features_only": "turns the model into a feature extractor without a classifier",
}
"""Arguments of ``timm.create_model`` that are decided elsewhere, and where."""


def build_model(name: str, *, num_classes: int, image_size: int, **args: Any) -> nn.Module:
    """Build a classifier with fresh weights; never touches the network, works under ``torch.device("meta")``.

    Args:
        name: ``vit`` for timm's ``VisionTransformer`` shaped by ``args`` alone, or a timm model name without a tag.
        num_classes: Outputs of the classifier; 0 leaves it out.
        image_size: Side of the square input in pixels. Ignored by models that take any size, such as ResNets.
        **args: Passed on to the model as they are.

    Raises:
        ValueError: The name or an argument is unknown, a value does not fit, or the patches do not tile the image.
    """
    for argument in sorted(DECIDED_ELSEWHERE.keys() & args.keys()):
        raise ValueError(f"{argument!r} {DECIDED_ELSEWHERE[argument]}; take it out of the arguments of {name!r}")
    for argument, value in args.items():
        if argument.endswith("_rate") and isinstance(value, int | float) and not 0 <= value < 1:
            raise ValueError(f"{argument}={value:g} must lie in [0, 1): it is a probability")
    sizes = {"num_classes": num_classes}
    if name == "vit":
        model = _construct(name, VisionTransformer, sizes | {"img_size": image_size}, args)
    else:
        _check_name(name)
        published = timm.get_pretrained_cfg(name, allow_unregistered=True)
        if published is not None and published.fixed_input_size:
            sizes["img_size"] = image_size
        model = _construct(name, partial(timm.create_model, name, pretrained=False), sizes, args)
    _check_tiling(model, name, image_size)
    return model


def _check_name(name: str) -> None:
    architecture, _, tag = name.partition(".")
    if timm.is_model(architecture) and tag:
        raise ValueError(
            f"{name!r}: the part after the dot names weights, which come from a file; write {architecture!r}"
        )
    if not timm.is_model(name):
        near = _near_names(name, ["vit", *timm.list_models()])
        hint = f"; near to it: {', '.join(near)}" if near else ""
        raise ValueError(f"no model is called {name!r}; it is `vit` or a timm model{hint}")


def _near_names(name: str, known: list[str]) -> list[str]:
    """Names that look alike, then the shortest of those that begin alike: a long name is often cut short."""
    beginnings = (name[:length] for length in range(len(name), 1, -1))
    alike = ([other for other in known if other.startswith(beginning)] for beginning in beginnings)
    begin_alike = next(filter(None, alike), [])
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return list(dict.fromkeys([*near, *sorted(begin_alike, key=len)[:3]]))


def _construct(name: str, factory: Callable[..., nn.Module], sizes: dict[str, int], args: dict[str, Any]) -> nn.Module:
    try:
        return factory(**sizes, **args)
    except (TypeError, ValueError, AssertionError, RuntimeError, KeyError, AttributeError, ZeroDivisionError) as error:
        unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if unknown is None:
            given = ", ".join(f"{key}={value!r}" for key, value in (sizes | args).items())
            raise ValueError(f"{name!r} cannot be built with {given}: {error}") from error
        network, argument = unknown.groups()
        raise ValueError(f"{name!r} takes no argument {argument!r}{_nearest_argument(network, argument)}") from error


def _nearest_argument(network: str, argument: str) -> str:
    """Look for a similar argument among those of the timm class that refused it."""
    refused_by = getattr(timm.models, network, None)
    known = inspect.signature(refused_by).parameters if refused_by is not None else ()
    near = difflib.get_close_matches(argument, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _check_tiling(model: nn.Module, name: str, image_size: int) -> None:
    """Refuse here what timm would refuse only at the first image, or cut off silently."""
    embedding = getattr(model, "patch_embed", None)
    sides = getattr(embedding, "patch_size", None)
    if sides is None or getattr(embedding, "dynamic_img_pad", False):
        return
    patch = math.lcm(*sides) if isinstance(sides, tuple) else int(sides)
    if image_size % patch:
        below = image_size // patch * patch
        near = f"{below} and {below + patch}" if below else str(patch)
        raise ValueError(
            f"{name!r} cuts images into patches of {patch} pixels; {image_size} is no multiple, {near} fit"
        )


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Name the modules that belong to a model's classes rather than to its image representation.

    These are the classifier or classifiers, and the norm behind average pooling (``fc_norm``): published encoders
    lack it, and fine-tuning starts it fresh together with the classifier (MAE, DropPos).
    """
    classifier: Callable[[], nn.Module | tuple[nn.Module, ...]] = getattr(model, "get_classifier", tuple)
    found = classifier()
    heads = list(found) if isinstance(found, tuple) else [found]
    if isinstance(model, VisionTransformer):
        heads.append(model.fc_norm)
    heads = [head for head in heads if any(True for _ in head.parameters())]
    return tuple(name for name, module in model.named_modules() if any(module is head for head in heads))


@torch.no_grad()
def initialise_head(model: nn.Module, std: float) -> None:
    """Draw the classifier's weights anew from a normal distribution cut off at 2, with biases of 0 (MAE, DropPos).

    Args:
        model: A timm model; one without a classifier stays as it is.
        std: Standard deviation.
    """
    for name in head_names(model):
        module = model.get_submodule(name)
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def adapt_published(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename and resize published weights to fit a timm model; a pure function.

    Vision transformers (timm, DeiT, DeiT III, MAE, DropPos, MixPro, TransMix) share timm's names: here position
    embeddings, patch embeddings and layer scales are brought to the model's shape. Other networks go through the
    conversion that timm keeps beside each of them, such as the renaming of original Swin files. Names the model lacks
    (decoders, mask tokens, second heads) are left in place for the caller to report.

    Args:
        state: Weights by name, without wrapper prefixes.
        model: The network they are meant for, or a part of it; may live on the meta device.

    Raises:
        ValueError: timm cannot convert these weights, mostly because they belong to another network.
    """
    own = model.state_dict()
    if all(name in own and own[name].shape == weight.shape for name, weight in state.items()):
        return dict(state)
    if isinstance(model, VisionTransformer):
        return _adapt_vision_transformer(state, model)
    # timm converts weights for whole models alone, and not for a part such as a block, which has no classifier.
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or not hasattr(model, "get_classifier"):
        return dict(state)
    try:
        return dict(convert(dict(state), model))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(f"timm's conversion for {type(model).__name__} failed: {error}") from error


def _adapt_vision_transformer(state: Mapping[str, Tensor], model: VisionTransformer) -> dict[str, Tensor]:
    # DeiT III calls its layer scales gamma_1 and gamma_2.
    adapted = {re.sub(r"\bgamma_([12])$", r"ls\1.gamma", name): weight for name, weight in state.items()}
    projection = getattr(model.patch_embed, "proj", None)
    kernel = adapted.get("patch_embed.proj.weight")
    if kernel is not None and isinstance(projection, nn.Conv2d):
        adapted["patch_embed.proj.weight"] = fit_patch_kernel(kernel, projection.weight)
    if "pos_embed" in adapted and model.pos_embed is not None:
        positions, prefix = adapted["pos_embed"], position_prefix(model)
        if prefix:
            positions = _fit_distillation(
                positions, in_file="dist_token" in state, in_model=hasattr(model, "dist_token")
            )
        adapted["pos_embed"] = fit_positions(positions, model.patch_embed.grid_size, prefix=prefix)
    return adapted


def _fit_distillation(positions: Tensor, *, in_file: bool, in_model: bool) -> Tensor:
    """Drop the distillation token's row, the second, or start it as a copy of the class token's row."""
    if in_file == in_model:
        return positions
    class_row, patches = positions[:, :1], positions[:, 2 if in_file else 1 :]
    return torch.cat([class_row, class_row, patches] if in_model else [class_row, patches], dim=1)


def fit_patch_kernel(kernel: Tensor, like: Tensor) -> Tensor:
    """Bring a patch projection to another patch size, so that it responds alike to the resized patch (FlexiViT).

    Args:
        kernel: D x C x P x P, or the D x (C P P) of a linear layer.
        like: The model's own kernel, D x C x Q x Q.
    """
    if kernel.ndim == 2 and kernel.numel() == like.numel():
        return kernel.reshape(like.shape)
    if kernel.ndim == 4 and kernel.shape[-2:] != like.shape[-2:]:
        return resample_patch_embed(kernel, list(like.shape[-2:]))
    return kernel


def pooling_words(network: nn.Module) -> str:
    """How a network without its head makes one vector of its tokens, in words."""
    words = {"token": "class token", "avg": "mean of patches"}
    kind = getattr(network, "global_pool", None)
    return words.get(kind, f"pooling {kind}") if isinstance(kind, str) and kind else "its own pooling"
