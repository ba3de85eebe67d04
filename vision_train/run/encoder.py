"""Loading an encoder of images from a run or a weights file, and running it over tiles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.data import resolve_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from augment.geometry import View, height_and_width
from augment.pipeline import eval_pipeline
from models.families import class_token_is_untrained
from models.timm_attention import install_attention
from models.vit import adapt_published, build_model, pooling_words
from vision_train.checkpoints import load_weights, match_weights, provenance_of, read_weights
from vision_train.checkpoints.settle import same, shown
from vision_train.errors import UserError
from vision_train.run.directory import open_run
from vision_train.run.features import CLASSIFIERS
from vision_train.run.inference import load_for_inference
from vision_train.run.phase import build_task

PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Lightning's word -> type that matrices are multiplied in; None for float32."""
DIGITS = 8
"""Digits of the digest in the name of an encoder."""


@dataclass(frozen=True)
class Encoder:
    """A network with the transforms of its images."""

    name: str
    """Name of the model with a digest of weights, transforms and precision: it differs where the features would."""
    encode: Callable[[Tensor], Tensor]
    """Normalised images (B 3 H W) on ``device`` -> pooled features (B D)."""
    transform: Callable[[View[NDArray[np.uint8]]], View[Tensor]]
    """Pixels of a tile (T T 3) -> normalised image (3 H W) in float32."""
    device: torch.device
    precision: str = "32-true"
    """One of ``PRECISIONS``."""

    @torch.inference_mode()
    def __call__(self, tiles: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Compute the features of tiles.

        Args:
            tiles: Pixels, T T 3 each.

        Returns:
            Features on the CPU, B D; in float16 where they were computed in 16 bits, else in float32.

        Raises:
            UserError: The tiles do not fit into the memory of the device.
        """
        autocast = PRECISIONS[self.precision]
        try:
            images = torch.stack([self.transform(View.whole(tile)).image for tile in tiles]).to(self.device)
            with torch.autocast(self.device.type, autocast, enabled=autocast is not None):
                features = self.encode(images)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{len(tiles)} tiles do not fit into the memory of {self.device}; lower --batch-size"
            ) from error
        return features.to("cpu", torch.float32 if autocast is None else torch.float16)


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder with notes for the user."""

    encoder: Encoder
    notes: list[str]
    """Sentences that say which weights were loaded, and how tiles are prepared."""


@dataclass(frozen=True)
class _Source:
    """Parts of an encoder, as a checkpoint gives them."""

    model: str
    network: nn.Module
    encode: Callable[[Tensor], Tensor]
    """Normalised images -> pooled features."""
    pixels: Mapping[str, Any]
    """Arguments of ``eval_pipeline``."""
    pooling: str
    """Words that say how tokens become one vector. They are part of the encoder's name."""
    notes: list[str]


def load_encoder(checkpoint: Path, model: str | None, *, device: str, precision: str) -> LoadedEncoder:
    """Build a network without its head and fill it with the weights of a checkpoint.

    A run directory says which network it trained, how its images are normalised and how its task pools features. For a
    file, ``model`` names the network, and images are normalised as timm says for it; a tag, as in
    ``vit_small_patch16_224.dino``, selects the normalisation of other published weights. Features are what the
    classifier would read, or the mean of patches where the weights come from a training without a class token.

    Args:
        checkpoint: A weights file, or the directory of a run, whose best weights are used.
        model: Name of the model in timm. None for a run.
        device: ``auto``, or torch's name of a device.
        precision: One of ``PRECISIONS``.

    Raises:
        UserError: The weights do not fill the model, the run trained another model or one that encodes no images, or
            the device cannot be used.
    """
    place = choose_device(device)
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: is unknown; there are {', '.join(PRECISIONS)}")
    if precision == "16-mixed" and place.type == "cpu":
        raise UserError("--precision 16-mixed: needs a GPU; on a CPU give bf16-mixed or 32-true")
    source = _of_run(checkpoint, model) if checkpoint.is_dir() else _of_file(checkpoint, model)
    source.network.eval().to(place)
    name = f"{source.model}-{_digest(source, precision)}"
    encoder = Encoder(name, source.encode, eval_pipeline(**source.pixels), place, precision)
    height, width = height_and_width(source.pixels["image_size"])
    features = encoder([np.zeros((height, width, 3), dtype=np.uint8)])
    if features.ndim != 2:
        shape = tuple(features.shape[1:])
        raise UserError(f"--model {source.model}: gives an array of shape {shape} for a tile; a vector is needed")
    mean, std = (", ".join(f"{value:g}" for value in source.pixels[key]) for key in ("mean", "std"))
    pixels = f"tiles resized to {width} x {height} pixels, normalised by mean {mean} and std {std}"
    return LoadedEncoder(
        encoder, [*source.notes, f"{name}: {features.shape[1]} features ({source.pooling}); {pixels}; on {place}"]
    )


def choose_device(name: str) -> torch.device:
    """Choose a device and try it.

    Args:
        name: torch's name of a device, or ``auto`` for an accelerator where there is one, else the CPU.

    Raises:
        UserError: The device does not exist or cannot be used.
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
    task = build_task(recipe, directory.read_classes())
    notes = [load_weights(task.network, path, min_matched_share=1.0).summary()]
    if directory.unfinished:
        notes.append(f"{path} is not finished; its best epoch so far is taken")
    try:
        encode, pooling = task.encoder()
    except UserError as error:
        raise UserError(f"--checkpoint {path}: {error}") from error
    expected = recipe.augment.preprocessing
    pixels = {
        "image_size": recipe.data.image_size,
        "mean": expected.mean,
        "std": expected.std,
        "interpolation": expected.interpolation,
    }
    return _Source(recipe.model.name, task.network, encode, pixels, pooling, notes)


def _of_file(path: Path, model: str | None) -> _Source:
    weights = read_weights(path)
    if model is None:
        raise UserError(f"{path}: does not say which model it is of; name it with --model, or name a run of ours")
    network, pixels = _build(model)
    told, notes = provenance_of(weights, path), []
    for key in ("mean", "std", "interpolation"):
        if told.get(key) is not None and not same(told.get(key), pixels[key]):
            notes.append(
                f"{key} {shown(told.get(key))} is taken from {told.sources[key]}; timm says {shown(pixels[key])}"
            )
            pixels[key] = told.get(key)
    report, state = match_weights(network, weights, adapt=adapt_published, heads=CLASSIFIERS)
    own = network.state_dict()
    if absent := [name for name in report.missing if own[name].is_floating_point()]:
        raise UserError(
            f"{report.summary()}\nAn encoder takes all of its weights from the file, and {len(absent)} tensors are "
            "missing. Name the model that the file belongs to with --model, or a run of ours as --checkpoint"
        )
    if problems := report.problems():
        raise UserError("\n".join([report.summary(), *problems]))
    network.load_state_dict(state, strict=False)
    if isinstance(network, VisionTransformer) and class_token_is_untrained(weights.state):
        network.reset_classifier(0, "avg")
    return _Source(
        model.partition(".")[0], network, network, pixels, pooling_words(network), [report.summary(), *notes]
    )


def _build(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A model of timm without a classifier, and the arguments of ``eval_pipeline`` that belong to its name and tag."""
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


def _digest(source: _Source, precision: str) -> str:
    """Digest that differs where the same pixels would have other features. The file of the weights does not matter."""
    rounded = [] if PRECISIONS[precision] is None else [precision]
    told = hashlib.sha256(json.dumps([source.pixels, source.pooling, *rounded], sort_keys=True).encode())
    for name, tensor in sorted(source.network.state_dict().items()):
        told.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        told.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return told.hexdigest()[:DIGITS]
