"""Finding the timm model that weights belong to, by the names and shapes of their tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from models.families import guess_family
from models.vit import adapt_published, build_model, head_names
from vision_train.checkpoints.match import match_weights
from vision_train.checkpoints.read import Weights
from vision_train.checkpoints.report import LoadReport
from vision_train.errors import UserError

MODULES = {
    "ViT": ("vision_transformer", "deit", "beit", "eva"),
    "distilled ViT (DeiT)": ("deit",),
    "CLIP": ("vision_transformer",),
    "Swin": ("swin_transformer", "swin_transformer_v2"),
    "ConvNeXt": ("convnext",),
    "ResNet": ("resnet",),
    "EfficientNet or MobileNet": ("efficientnet", "mobilenetv3"),
    "VGG or AlexNet": ("vgg",),
}
"""Family -> timm's modules with networks of it; families of pre-training hold a ViT."""
SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1152: "so", 1280: "huge", 1408: "giant", 1664: "giga"}
"""Width of a vision transformer -> the word for it in timm's names."""
MOST_TRIED = 40
"""Networks that are built, most likely ones first."""
_FILLS = re.compile(r"^(uniform|normal|trunc_normal|erfinv|mul|add|clamp|fill|zero)_$")


@dataclass(frozen=True)
class Fit:
    """A timm model, and what weights would fill of it."""

    name: str
    report: LoadReport
    image_size: int
    """Side of the images that its positions are for, as far as the weights show it."""

    @property
    def is_whole(self) -> bool:
        """Whether every tensor outside the head finds its place, in both directions."""
        return not self.report.missing and not _strange(self.report)


def fitting_model(weights: Weights, named: str | None = None) -> Fit | None:
    """The timm model whose tensors agree with the weights best; None where none takes nearly all of them.

    Args:
        weights: What a file holds.
        named: A model that something beside the weights names, which is tried first.
    """
    best: Fit | None = None
    for name in _candidates(weights.state, named):
        fit = _fit(name, weights)
        if fit is None:
            continue
        if fit.is_whole and not fit.report.resized:
            return fit
        best = fit if best is None or _badness(fit) < _badness(best) else best
    return best if best is not None and best.report.matched_share >= 0.99 else None


def _candidates(state: Mapping[str, Tensor], named: str | None) -> Iterator[str]:
    names = [named.partition(".")[0]] if named and timm.is_model(named.partition(".")[0]) else []
    modules = MODULES.get(guess_family(state) or "", MODULES["ViT"])
    for module in modules:
        # Short names belong to the plain models, which most files are of.
        names += sorted(timm.list_models(module=module), key=lambda name: (len(name), name))
    yield from [name for name in dict.fromkeys(names) if name == named or _plausible(name, state)][:MOST_TRIED]


def _plausible(name: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a vision transformer's name agrees with width and patch; other names say too little."""
    kernel = next(
        (each for key, each in state.items() if re.search(r"patch_embed\w*\.proj(ection)?\.weight$", key)), None
    )
    if kernel is None or kernel.ndim != 4 or "patch" not in name or name.startswith("swin"):
        return True
    width, patch = kernel.shape[0], kernel.shape[-1]
    word = SIZES.get(width)
    return f"patch{patch}_" in f"{name}_" and (word is None or word in name)


def _fit(name: str, weights: Weights) -> Fit | None:
    try:
        published = timm.get_pretrained_cfg(name)
        size = published.input_size[-1] if published is not None else 224
        with torch.device("meta"), _Unfilled():
            network = build_model(name, num_classes=1, image_size=size)
        report, _ = match_weights(network, weights, adapt=adapt_published, heads=head_names(network))
    except (UserError, ValueError):  # of another family
        return None
    return Fit(name, report, _image_size(network, weights.state, size))


def _image_size(network: Any, state: Mapping[str, Tensor], usual: int) -> int:
    """The side that a table of positions was made for, where there is one."""
    positions = next((each for key, each in state.items() if key.endswith(("pos_embed", "position_embeddings"))), None)
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if positions is None or positions.ndim != 3 or not patch:
        return usual
    for prefix in (0, 1, 2, 5):
        side = math.isqrt(max(positions.shape[1] - prefix, 0))
        if side > 1 and side * side == positions.shape[1] - prefix:
            return side * int(patch[0])
    return usual


def _strange(report: LoadReport) -> list[str]:
    heads = re.compile(r"^(head|fc|classifier|fc_norm|head_dist|pre_logits|norm)\b")
    return [name for name in report.unexpected if not heads.match(name)]


def _badness(fit: Fit) -> tuple[float, int, int]:
    return 1 - fit.report.matched_share, len(_strange(fit.report)), len(fit.report.resized)


class _Unfilled(TorchFunctionMode):
    """Skips the initial values of tensors without memory, which cost more than the rest of building them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _FILLS.match(getattr(func, "__name__", "")) and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))
