"""An encoder of images, from a run of ours or a weights file: a network without its head, and what it expects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
from timm.data import resolve_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from augment.pipeline import eval_pipeline
from models.droppos.network import MaskedPositionNetwork
from models.families import guess_family
from models.timm_attention import install_attention
from models.vit import adapt_published, build_model
from vision_train.checkpoints import load_weights, match_weights, read_weights
from vision_train.data.bags.embed import Encoder
from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.run.directory import open_run
from vision_train.run.evaluate import load_for_inference
from vision_train.run.phase import build_task

PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Lightning's names -> what matrices are multiplied in; None for float32."""
DIGITS = 8
"""Of a digest, in the name of an encoder."""


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder, and what whoever waits for it should know."""

    encoder: Encoder
    notes: list[str]
    """What was loaded, and what becomes of a tile."""


@dataclass(frozen=True)
class _Source:
    """What a checkpoint gives."""

    model: str
    network: nn.Module
    encode: Callable[[Tensor], Tensor]
    """The network or a method of it: normalised images to pooled features."""
    pixels: Mapping[str, Any]
    """Arguments of ``eval_pipeline``."""
    pooling: str
    """How many tokens become one vector."""
    notes: list[str]


def load_encoder(checkpoint: Path, model: str | None, *, device: str, precision: str) -> LoadedEncoder:
    """Build a network without its head and fill all of it.

    A run says itself what its network is and how it wants images. Of other files the model says it, with timm's own
    normalisation of it; a tag, as in ``vit_small_patch16_224.dino``, stands for that of other weights. A network that
    was pre-trained by position gives the mean of its patches, any other what its classifier would read.

    Args:
        checkpoint: A weights file, or the directory of a run of classification or pre-training for its best weights.
        model: Name of the model in timm; None for a run, which knows it.
        device: ``auto``, or torch's name of a device.
        precision: One of ``PRECISIONS``.

    Raises:
        UserError: The file does not fill the model, the run is of another one, or the device cannot be used.
    """
    place = choose_device(device)
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: is unknown; there are {', '.join(PRECISIONS)}")
    if precision == "16-mixed" and place.type == "cpu":
        raise UserError("--precision 16-mixed: needs a GPU; on a CPU give bf16-mixed or 32-true")
    source = _of_run(checkpoint, model) if checkpoint.is_dir() else _of_file(checkpoint, model)
    source.network.eval().to(place)
    name = f"{source.model}-{_digest(source, precision)}"
    encoder = Encoder(name, source.encode, eval_pipeline(**source.pixels), place, PRECISIONS[precision])
    side = source.pixels["image_size"]
    features = encoder([np.zeros((side, side, 3), dtype=np.uint8)])
    if features.ndim != 2:
        shape = tuple(features.shape[1:])
        raise UserError(f"--model {source.model}: gives an array of shape {shape} for a tile; a vector is needed")
    mean, std = (", ".join(f"{value:g}" for value in source.pixels[key]) for key in ("mean", "std"))
    pixels = f"tiles resized to {side} x {side} pixels, normalised by mean {mean} and std {std}"
    return LoadedEncoder(
        encoder, [*source.notes, f"{name}: {features.shape[1]} features ({source.pooling}); {pixels}; on {place}"]
    )


def choose_device(name: str) -> torch.device:
    """A device that works.

    Args:
        name: torch's name of a device; ``auto`` takes an accelerator where there is one.

    Raises:
        UserError: There is no such device.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: cannot be used ({str(error).splitlines()[0]})") from error
    return torch.device(name)


def _of_run(path: Path, model: str | None) -> _Source:
    directory = open_run(path, with_weights=True)
    recipe = load_for_inference(directory.recipe)
    if model not in (None, recipe.model.name):
        raise UserError(f"--model {model}: the run {path} has trained {recipe.model.name}; leave --model out")
    if recipe.task not in ("classification", "pretraining"):
        raise UserError(f"{path}: is a run of {recipe.task}, which encodes no images; name another --checkpoint")
    task = build_task(recipe, directory.read_classes())
    notes = [load_weights(task.network, path, min_matched_share=1.0).summary()]
    if directory.unfinished:
        notes.append(f"{path} is not finished; its best epoch so far is taken")
    encode, pooling = _headless(task.network, recipe)
    pixels = {
        "image_size": recipe.data.image_size,
        "mean": recipe.augment.mean,
        "std": recipe.augment.std,
        "interpolation": recipe.augment.eval.interpolation,
    }
    return _Source(recipe.model.name, task.network, encode, pixels, pooling, notes)


def _headless(network: nn.Module, recipe: Recipe) -> tuple[Callable[[Tensor], Tensor], str]:
    if not isinstance(network, MaskedPositionNetwork):
        cast(Any, network).reset_classifier(0)
        return network, _pooling(network)
    # A network that never saw a position would be disturbed by them.
    positions = recipe.method.masking.position_mask_ratio < 1
    return partial(network.features, positions=positions), f"mean of patches{'' if positions else ' without positions'}"


def _of_file(path: Path, model: str | None) -> _Source:
    weights = read_weights(path)
    if model is None:
        raise UserError(f"{path}: does not say which model it is of; name it with --model, or name a run of ours")
    network, pixels = _build(model)
    report, state = match_weights(network, weights, adapt=adapt_published)
    own = network.state_dict()
    if absent := [name for name in report.missing if own[name].is_floating_point()]:
        raise UserError(
            f"{report.summary()}\nAn encoder takes all of its weights from the file, and {len(absent)} tensors are "
            "missing. Name the model that the file belongs to with --model, or a run of ours as --checkpoint"
        )
    network.load_state_dict(state, strict=False)
    if isinstance(network, VisionTransformer) and guess_family(weights.state) == "DropPos pre-training":
        network.reset_classifier(0, "avg")  # nothing has taught its class token
    return _Source(model.partition(".")[0], network, network, pixels, _pooling(network), [report.summary()])


def _build(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A model of timm without a classifier, and how images are prepared for the weights that its name or tag means."""
    architecture = name.partition(".")[0]
    if architecture == "vit":
        raise UserError("--model vit: has the shape that a recipe gives it; name a run of ours as --checkpoint")
    try:
        published = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
        image_size = 224 if published is None else published.input_size[-1]
        network = build_model(architecture, num_classes=0, image_size=image_size)
    except (ValueError, RuntimeError) as error:  # timm raises the latter for an unknown tag
        raise UserError(f"--model {name}: {error}") from error
    install_attention(network)
    expected = resolve_data_config(pretrained_cfg=published.to_dict() if published else None, model=network)
    return network, {"image_size": image_size, **{key: expected[key] for key in ("mean", "std", "interpolation")}}


def _pooling(network: nn.Module) -> str:
    words = {"token": "class token", "avg": "mean of patches"}
    kind = getattr(network, "global_pool", None)
    return words.get(kind, f"pooling {kind}") if isinstance(kind, str) and kind else "its own pooling"


def _digest(source: _Source, precision: str) -> str:
    """Differs where the same pixels would have other features; the file that weights lay in does not matter."""
    rounded = [] if PRECISIONS[precision] is None else [precision]
    told = hashlib.sha256(json.dumps([source.pixels, source.pooling, *rounded], sort_keys=True).encode())
    for name, tensor in sorted(source.network.state_dict().items()):
        told.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        told.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return told.hexdigest()[:DIGITS]
