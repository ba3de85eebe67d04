"""The timm models that weights may belong to, by the shapes of their matrices; they are built without memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from models.families import guess_family
from models.transformers_layout import from_transformers, is_transformers
from models.vit import build_model

MODULES = {
    "ViT": ("vision_transformer", "deit", "beit", "eva"),
    "distilled ViT (DeiT)": ("deit",),
    "CLIP": ("vision_transformer", "eva"),
    "Swin": ("swin_transformer", "swin_transformer_v2"),
    "ConvNeXt": ("convnext",),
    "ResNet": ("resnet",),
    "EfficientNet or MobileNet": ("efficientnet", "mobilenetv3"),
    "VGG or AlexNet": ("vgg",),
}
"""Family -> timm's modules with networks of it; families of pre-training hold a ViT."""
SPARE = 0.02
"""Share of the file's numbers that a model may need beyond them."""
SMALLEST = 100_000
"""Numbers in the matrices of any timm model; there is no need to look for one with less."""
_FILLS = re.compile(r"^(uniform|normal|trunc_normal|erfinv|mul|add|clamp|fill|zero)_$")

Shapes = Counter[tuple[int, ...]]
"""How many matrices there are of each shape."""


@dataclass(frozen=True)
class Candidate:
    """A timm model without memory."""

    name: str
    network: nn.Module
    image_size: int
    """Side of the images that timm publishes it for."""
    distance: tuple[float, int] = (0, 0)
    """How far it is from the weights: the share of the numbers in matrices that only one of them has, then the number
    of tensors. Models with the same tensors are as far."""


def candidates(state: Mapping[str, Tensor]) -> list[Candidate]:
    """All models of the family whose matrices the weights have, the likeliest first."""
    named = from_transformers(state) if is_transformers(state) else state
    shapes = _shapes(named.values())
    for names in _names(guess_family(state)) if _numbers(shapes) >= SMALLEST else ():
        likely = [name for name in names if _plausible(name, named)]
        built = [candidate for name in likely if (candidate := build(name, shapes)) is not None]
        if built:
            found = [replace(each, distance=_distance(each.network, shapes, named)) for each in built]
            # Short names belong to the plain models, which most files are of.
            return sorted(found, key=lambda each: (each.distance, len(each.name), each.name))
    return []


def _names(family: str | None) -> Iterator[list[str]]:
    """Models of a family; then those of no family that we know, some of which have names like one."""
    if family is not None:
        modules = MODULES.get(family, MODULES["ViT"])
        yield [name for module in modules for name in timm.list_models(module=module)]
    if family is None or family in MODULES:
        known = {name for each in MODULES.values() for module in each for name in timm.list_models(module=module)}
        yield [name for name in timm.list_models() if name not in known]


def build(name: str, shapes: Shapes | None = None) -> Candidate | None:
    """Build a model; None where it cannot be built, or needs other matrices than there are.

    Args:
        name: Name in timm.
        shapes: The matrices that there are; None builds any model.
    """
    published = timm.get_pretrained_cfg(name)
    size = published.input_size[-1] if published is not None else 224
    try:
        with torch.device("meta"), _Unfilled(), _only(shapes):
            return Candidate(name, build_model(name, num_classes=1, image_size=size), size)
    except (ValueError, _NeedsOthers):
        return None


def _plausible(name: str, state: Mapping[str, Tensor]) -> bool:
    """Whether the name of a vision transformer agrees with the patches; other names say too little."""
    kernel = next((each for key, each in state.items() if re.search(r"patch_embed\w*\.proj\w*\.weight$", key)), None)
    if kernel is None or kernel.ndim != 4 or "patch" not in name or name.startswith("swin"):
        return True
    return f"patch{kernel.shape[-1]}_" in f"{name}_"


def _shapes(tensors: Iterable[Tensor]) -> Shapes:
    shapes: Shapes = Counter()
    for tensor in tensors:
        shapes.update(_pieces(tensor.shape))
    return shapes


def _pieces(shape: Iterable[int]) -> Shapes:
    """Squares that a matrix consists of, as layouts keep query, key and value together or apart; none of a vector."""
    sides = tuple(side for side in shape if side != 1)
    if len(sides) < 2:
        return Counter()
    low, high = min(sides), max(sides)
    if len(sides) == 2 and high % low == 0:
        return Counter({(low, low): high // low})
    return Counter({sides: 1})


def _numbers(shapes: Shapes) -> int:
    return sum(torch.Size(shape).numel() * count for shape, count in shapes.items())


def _distance(network: nn.Module, shapes: Shapes, named: Mapping[str, Tensor]) -> tuple[float, int]:
    own = network.state_dict()
    ours = _shapes(own.values())
    apart = _numbers(ours - shapes) / max(_numbers(ours), 1) + _numbers(shapes - ours) / max(_numbers(shapes), 1)
    theirs = {(name, tensor.shape) for name, tensor in named.items()}
    return round(apart, 3), len(theirs ^ {(name, tensor.shape) for name, tensor in own.items()})


class _NeedsOthers(Exception):
    """A model that is being built has other matrices than the weights."""


@contextmanager
def _only(shapes: Shapes | None) -> Iterator[None]:
    """Stop building a model as soon as it needs too many matrices that there are not, which saves most of the time."""
    if shapes is None:
        yield
        return
    left, allowed, needed = shapes.copy(), SPARE * _numbers(shapes), 0

    def take(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal needed
        bulk = isinstance(module, nn.Linear | nn.Conv2d) and name == "weight" and parameter is not None
        # Kernels that read pixels may be resized.
        if not bulk or parameter is None or (parameter.ndim == 4 and parameter.shape[1] == 3):
            return
        for shape, count in _pieces(parameter.shape).items():
            left[shape] -= count
            needed += torch.Size(shape).numel() * min(max(-left[shape], 0), count)
        if needed > allowed:
            raise _NeedsOthers

    handle = register_module_parameter_registration_hook(take)
    try:
        yield
    finally:
        handle.remove()


class _Unfilled(TorchFunctionMode):
    """Skips the initial values of tensors without memory, which cost more than the rest of building them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _FILLS.match(getattr(func, "__name__", "")) and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))
