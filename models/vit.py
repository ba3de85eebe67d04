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
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from models.adapted import Adapted
from models.families import class_token_is_untrained
from models.positions import made_for, position_prefix, source_grid
from models.published_prefixes import with_known_prefix
from models.transformers_layout import from_transformers, is_transformers

DECIDED_ELSEWHERE = {
    "img_size": "is the image size of the data",
    "pretrained": "would download weights; they come from a checkpoint file instead",
    "pretrained_cfg": "would download weights; they come from a checkpoint file instead",
    "pretrained_cfg_overlay": "would download weights; they come from a checkpoint file instead",
    "checkpoint_path": "would load weights unreported; they come from a checkpoint file instead",
    "features_only": "turns the model into a feature extractor without a classifier",
}
"""Arguments of ``timm.create_model`` that are decided elsewhere, and where."""


def build_model(name: str, *, num_classes: int, image_size: int | tuple[int, int], **args: Any) -> nn.Module:
    """Build a classifier with fresh weights; never touches the network, works under ``torch.device("meta")``.

    Args:
        name: ``vit`` for timm's ``VisionTransformer`` shaped by ``args`` alone, or a timm model name without a tag.
        num_classes: Outputs of the classifier; 0 leaves it out.
        image_size: Height and width of the input in pixels, or the side of a square one. Ignored by models that take
            any size, such as ResNets.
        **args: Passed on to the model as they are, but for ``norm_eps``: what all layer norms add to the variance,
            which models of timm and of transformers set differently.

    Raises:
        ValueError: The name or an argument is unknown, a value does not fit, or the patches do not tile the image.
    """
    for argument in sorted(DECIDED_ELSEWHERE.keys() & args.keys()):
        raise ValueError(f"{argument!r} {DECIDED_ELSEWHERE[argument]}; take it out of the arguments of {name!r}")
    for argument, value in args.items():
        if argument.endswith("_rate") and isinstance(value, int | float) and not 0 <= value < 1:
            raise ValueError(f"{argument}={value:g} must lie in [0, 1): it is a probability")
    norm_eps = args.pop("norm_eps", None)
    sizes: dict[str, Any] = {"num_classes": num_classes}
    if name == "vit":
        model = _construct(name, VisionTransformer, sizes | {"img_size": image_size}, args)
    else:
        _check_name(name)
        published = timm.get_pretrained_cfg(name, allow_unregistered=True)
        if published is not None and published.fixed_input_size:
            sizes["img_size"] = image_size
        model = _construct(name, partial(timm.create_model, name, pretrained=False), sizes, args)
    _check_tiling(model, name, image_size)
    if norm_eps is not None:
        _set_norm_eps(model, norm_eps)
    return model


def _set_norm_eps(model: nn.Module, eps: Any) -> None:
    if not isinstance(eps, float | int) or eps <= 0:
        raise ValueError(f"norm_eps={eps!r} must be a positive number, such as 1.0e-12")
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps


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


def _construct(name: str, factory: Callable[..., nn.Module], sizes: dict[str, Any], args: dict[str, Any]) -> nn.Module:
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


def _check_tiling(model: nn.Module, name: str, image_size: int | tuple[int, int]) -> None:
    """Refuse here what timm would refuse only at the first image, or cut off silently."""
    embedding = getattr(model, "patch_embed", None)
    sides = getattr(embedding, "patch_size", None)
    if sides is None or getattr(embedding, "dynamic_img_pad", False):
        return
    rows, columns = sides if isinstance(sides, tuple) else (int(sides), int(sides))
    if isinstance(image_size, int):
        wanted = [("", image_size, math.lcm(rows, columns))]
    else:
        wanted = [("a height of ", image_size[0], rows), ("a width of ", image_size[1], columns)]
    for which, side, patch in wanted:
        if side % patch:
            below = side // patch * patch
            near = f"{below} and {below + patch}" if below else str(patch)
            raise ValueError(
                f"{name!r} cuts images into patches of {patch} pixels; {which}{side} is no multiple, {near} fit"
            )


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Name the modules that belong to a model's classes rather than to its image representation.

    These are the classifier or classifiers, and the norm behind average pooling (``fc_norm``): published encoders
    lack it, and fine-tuning starts it fresh together with the classifier (MAE, DropPos).
    """
    classifier: Callable[[], nn.Module | tuple[nn.Module, ...]] = getattr(model, "get_classifier", tuple)
    found = classifier()
    heads: list[Any] = list(found) if isinstance(found, tuple) else [found]
    heads.append(getattr(model, "fc_norm", None))
    heads = [head for head in heads if isinstance(head, nn.Module) and any(True for _ in head.parameters())]
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


@torch.no_grad()
def scale_outputs(model: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Let the classifier of a model give ``output * scale + shift``, so that nothing is left to do behind it.

    Args:
        model: A timm model; of several classifiers, whose outputs it averages, all are changed.
        scale: D, one for each output.
        shift: D.

    Raises:
        ValueError: A classifier has no weight and bias for it.
    """
    classifier: Any = model.get_classifier()  # type: ignore[operator]  # timm's models have it
    for head in classifier if isinstance(classifier, tuple) else (classifier,):
        if not isinstance(head, nn.Linear | nn.Conv2d) or head.bias is None:
            raise ValueError(f"its last layer is a {type(head).__name__} that no scale and shift can be put into")
        head.weight.mul_(scale.view(-1, *[1] * (head.weight.ndim - 1)))
        head.bias.mul_(scale).add_(shift)


def adapt_published(state: Mapping[str, Tensor], model: nn.Module) -> Adapted:
    """Rename and resize published weights to fit a timm model; a pure function.

    Every timm model goes through the conversion that timm keeps beside it (``checkpoint_filter_fn``): names of official
    files, position tables, patch kernels and windows of another size. Ahead of it, names of the transformers library
    are brought to official ones. Names the model lacks (decoders, mask tokens, second heads) are left in place for the
    caller to report.

    Args:
        state: Weights by name, without wrapper prefixes.
        model: The network they are meant for, or a part of it; may live on the meta device.

    Raises:
        ValueError: timm cannot convert these weights, mostly because they belong to another network; or their position
            table belongs to a grid that nobody states.
    """
    named = from_transformers(state) if is_transformers(state) else with_known_prefix(state)
    if is_transformers(state) and "attn_pool.latent" in named and "head.weight" in named:
        named = _with_mean(named, mean=getattr(model, "global_pool", None) == "avg")
    own, grid = model.state_dict(), None
    if isinstance(model, VisionTransformer | Eva) and "pos_embed" in named and model.pos_embed is not None:
        named, grid = _with_places(named, model)
    fitting = all(name in own and own[name].shape == weight.shape for name, weight in named.items())
    # timm converts weights for whole models alone, and not for a part such as a block, which has no classifier.
    convert = _conversion_of(model, named)
    if convert is None or (fitting and grid in (None, getattr(getattr(model, "patch_embed", None), "grid_size", None))):
        return Adapted(named, named)
    with made_for(model, _image_size(grid, named)):
        return Adapted(_convert(convert, named, model), named)


def _conversion_of(model: nn.Module, named: Mapping[str, Tensor]) -> Callable[..., Mapping[str, Tensor]] | None:
    """The conversion of a model's family, with the settings that timm gives it for this model.

    DropPos, which timm does not know, resizes positions without antialiasing.
    """
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or not hasattr(model, "get_classifier"):
        return None
    if isinstance(model, VisionTransformer):
        settings: dict[str, Any] = {"adapt_layer_scale": True}
        if "flexi" in str((getattr(model, "pretrained_cfg", None) or {}).get("architecture", "")):
            settings |= {"interpolation": "bilinear", "antialias": False}
        if class_token_is_untrained(named):
            settings |= {"antialias": False}
        return partial(convert, **settings)
    return convert


def _convert(
    convert: Callable[..., Mapping[str, Tensor]], named: dict[str, Tensor], model: nn.Module
) -> dict[str, Tensor]:
    given = dict(named)
    if "mask_token" not in given and ("register_tokens" in given or any(".mlp.w12." in name for name in given)):
        # Without its mask token timm does not know a DINOv2 file.
        given["mask_token"] = torch.zeros(1)
    try:
        converted = dict(convert(given, model))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(f"timm's conversion for {type(model).__name__} failed: {error}") from error
    if "mask_token" in named:
        converted.setdefault("mask_token", named["mask_token"])
    # The projection to the space that images and texts share is no classifier, whatever its width.
    return {name: weight for name, weight in converted.items() if not (_is_tower(named) and name.startswith("head."))}


def _with_mean(named: dict[str, Tensor], *, mean: bool) -> dict[str, Tensor]:
    """SigLIP's classifier reads the mean of the patches; what pools by attention has no part in it."""
    if mean:
        return {name: weight for name, weight in named.items() if not name.startswith("attn_pool.")}
    return {re.sub(r"^head\.(?=weight$|bias$)", "classifier.", name): weight for name, weight in named.items()}


def _is_tower(names: Mapping[str, Tensor]) -> bool:
    """Whether weights come from a model of images and texts."""
    beside = ("visual.", "text.", "token_embedding.", "text_model.")
    return "logit_scale" in names or any(name.startswith(beside) for name in names)


def _with_places(named: dict[str, Tensor], model: VisionTransformer | Eva) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """See that the position table has a row for each token that the model has; return its grid too."""
    positions, named = named["pos_embed"], dict(named)
    if positions.ndim == 2:
        positions = named["pos_embed"] = positions[None]
    if positions.ndim != 3:
        shape = "x".join(map(str, positions.shape)) or "no dimension"
        raise ValueError(f"its pos_embed has the shape {shape}, where a table of positions has 1 x places x width")
    in_file, in_model = "dist_token" in named, hasattr(model, "dist_token")
    if position_prefix(model) and in_file != in_model:
        class_row, patches = positions[:, :1], positions[:, 2 if in_file else 1 :]
        # The distillation token's row, the second, is dropped, or begins as a copy of the class token's row.
        named["pos_embed"] = torch.cat([class_row, class_row, patches] if in_model else [class_row, patches], dim=1)
    # The official files of DINOv2 with registers have a row for the class token, which timm adds to the token.
    prefix = position_prefix(model) + int("register_tokens" in named and model.no_embed_class)
    return named, source_grid(named["pos_embed"].shape[1] - prefix, model)


def _image_size(grid: tuple[int, int] | None, named: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Size of the images for which a grid is right, as timm wants to be told it."""
    kernel = named.get("patch_embed.proj.weight")
    if grid is None or kernel is None or kernel.ndim != 4:
        return None
    return grid[0] * kernel.shape[-2], grid[1] * kernel.shape[-1]


def pooling_words(network: nn.Module) -> str:
    """How a network without its head makes one vector of its tokens, in words."""
    words = {"token": "class token", "avg": "mean of patches"}
    kind = getattr(network, "global_pool", None)
    return words.get(kind, f"pooling {kind}") if isinstance(kind, str) and kind else "its own pooling"
