"""Backbones of detectors: timm networks as feature maps of strides 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import timm
from timm.utils.model import freeze_batch_norm_2d
from torch import Tensor, nn

from models.detr.swin import take_any_size

STRIDES = (8, 16, 32)


def build_backbone(name: str, image_size: tuple[int, int] | None = None, **args: Any) -> tuple[nn.Module, list[int]]:
    """Build a backbone from a model of timm.

    Networks with stages (ResNet, Swin, ConvNeXt) give the maps of their last three stages, plain vision transformers a
    pyramid made of their last map. Batch norms are frozen: statistics and affine become buffers, since detectors train
    on few images a batch.

    Args:
        name: A model of timm.
        image_size: Height and width, for networks that have to know them; None leaves timm's.
        args: Of the model.

    Returns:
        The backbone, which maps images B x 3 x H x W to three maps, the finest first, and their channels.

    Raises:
        ValueError: timm has no such model, or it gives no such maps.
    """
    sized: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    try:
        model = _features(name, **sized, **args)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{name!r} cannot be a backbone: {error}") from error
    info = cast(Any, model.feature_info)
    reductions, channels = info.reduction(), info.channels()
    if len(set(reductions)) == 1:
        return PlainPyramid(model, channels[-1], reductions[-1]), [channels[-1]] * len(STRIDES)
    chosen = [place for place, reduction in enumerate(reductions) if reduction in STRIDES]
    if [reductions[place] for place in chosen] != list(STRIDES):
        raise ValueError(f"{name!r} has maps of strides {reductions}; a backbone needs {list(STRIDES)}")
    model = timm.create_model(name, features_only=True, out_indices=tuple(chosen), **sized, **args)
    take_any_size(model)
    frozen = cast(nn.Module, freeze_batch_norm_2d(model))
    wide = [channels[place] for place in chosen]
    return (frozen if _channels_first(frozen) else ChannelsFirst(frozen)), wide


def build_single_map(name: str, stride: int = 32, **args: Any) -> tuple[nn.Module, int]:
    """Build a backbone of one map: of the last stage of a stride. What lies behind it is left out.

    Args:
        name: A model of timm.
        stride: Pixels from one place of the map to the next.
        args: Of the model; ``output_stride`` dilates the last stages of a ResNet, so that their maps are finer.

    Returns:
        The backbone, which maps images B x 3 x H x W to a list of the map, and its channels. Batch norms are frozen.

    Raises:
        ValueError: timm has no such model, or it gives no such map.
    """
    try:
        info = cast(Any, _features(name, **args).feature_info)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{name!r} cannot be a backbone: {error}") from error
    places = [place for place, reduction in enumerate(info.reduction()) if reduction == stride]
    if not places:
        raise ValueError(f"{name!r} has maps of strides {sorted(set(info.reduction()))}, and none of {stride}")
    model = timm.create_model(name, features_only=True, out_indices=(places[-1],), **args)
    take_any_size(model)
    frozen = cast(nn.Module, freeze_batch_norm_2d(model))
    return (frozen if _channels_first(frozen) else ChannelsFirst(frozen)), info.channels()[places[-1]]


def _features(name: str, **args: Any) -> nn.Module:
    """A model of timm as maps: of its stages, or of its last blocks."""
    try:
        return timm.create_model(name, features_only=True, **args)
    except AssertionError:  # a transformer of fewer blocks than the three that timm takes maps of
        return timm.create_model(name, features_only=True, out_indices=(-1,), **args)


def _channels_first(model: nn.Module) -> bool:
    return str(getattr(model, "output_fmt", "NCHW")).endswith("NCHW")


class ChannelsFirst(nn.Module):
    """A backbone whose maps have channels last.

    Args:
        model: Gives maps B x h x w x C.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images -> maps B x C x h x w."""
        return [each.permute(0, 3, 1, 2).contiguous() for each in self.model(images)]


class PlainPyramid(nn.Module):
    """Maps of three strides from the last map of a plain transformer (Li et al., "ViTDet", ECCV 2022, section 3).

    Args:
        model: Gives maps of one stride.
        channels: Of them.
        stride: Theirs, 16; 14 gives maps of strides 7, 14 and 28.
    """

    def __init__(self, model: nn.Module, channels: int, stride: int) -> None:
        super().__init__()
        self.model, self.stride = model, stride
        self.finer = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.coarser = nn.MaxPool2d(2, stride=2)

    def forward(self, images: Tensor) -> Sequence[Tensor]:
        """Images -> maps B x C x h x w, the finest first."""
        last = self.model(images)[-1]
        return [self.finer(last), last, self.coarser(last)]
