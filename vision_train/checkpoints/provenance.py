"""What belongs to weights besides tensors: how their images were prepared, and which classes their head knows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm

from vision_train.checkpoints.conventions import (
    Said,
    said_by_open_clip,
    said_by_processor,
    said_by_timm,
    said_by_transformers,
    said_in_file,
    said_in_run,
)
from vision_train.checkpoints.origin import timm_name
from vision_train.checkpoints.read import Weights
from vision_train.errors import UserError

HUB_NAMES = ("model.", "model-", "pytorch_model", "open_clip_", "tf_model", "flax_model", "adapter_model")
"""How weights files of a hub repository begin."""
WEIGHTS_ENDINGS = (".safetensors", ".ckpt", ".pth", ".pt", ".bin")
CONFIGS = ("preprocessor_config.json", "processor_config.json", "config.json", "open_clip_config.json")
"""Files beside weights that say how their images were prepared."""
LARGEST_CONFIG = 32 * 2**20


@dataclass(frozen=True)
class Provenance:
    """What is known of weights, and who says it."""

    named: str
    """The weights as the user named them."""
    said: dict[str, Any] = field(default_factory=dict)
    """Values by key: ``mean``, ``std``, ``interpolation``, ``crop_share``, ``image_size``, ``classes``,
    ``architecture``."""
    sources: dict[str, str] = field(default_factory=dict)
    """The file, or timm, that says each of them."""
    remarks: tuple[str, ...] = ()
    """What is said that cannot be followed here, as sentences."""
    unused: tuple[str, ...] = ()
    """Files beside the weights that may belong to other weights there, and so say nothing of these."""

    def get(self, key: str) -> Any:
        """A value; None where nobody says it."""
        return self.said.get(key)


def provenance_of(weights: Weights, named: str | Path) -> Provenance:
    """Collect what the weights file, the files beside it and timm say; who comes first counts.

    The file itself comes first, then timm where the weights were named as timm's, then ``preprocessor_config.json``,
    ``config.json`` and ``open_clip_config.json`` beside the weights. These count only where they belong to the file: it
    has a name that hubs give, or no other weights lie beside it.

    Raises:
        UserError: One of the files beside it cannot be read.
    """
    told = [(str(weights.path), said_in_run(weights.recipe)), (str(weights.path), said_in_file(weights.facts))]
    if weights.classes is not None:
        told.append((str(weights.path), Said({"classes": weights.classes})))
    if name := timm_name(str(named)):
        published = timm.get_pretrained_cfg(name)
        if published is not None:
            told.append((f"timm ({name})", said_by_timm(published.to_dict())))
    told += _beside(weights.path)
    return replace(_collected(str(named), told), unused=_unused(weights.path))


def _collected(named: str, told: Iterable[tuple[str, Said]]) -> Provenance:
    said: dict[str, Any] = {}
    sources: dict[str, str] = {}
    remarks: list[str] = []
    for source, values in told:
        for key, value in values.items():
            if key not in said and value is not None:
                said[key], sources[key] = value, source
        remarks += [f"{source} {remark}" for remark in values.remarks]
    return Provenance(named, said, sources, tuple(dict.fromkeys(remarks)))


def _beside(weights: Path) -> list[tuple[str, Said]]:
    """What configuration files in the folder of the weights say."""
    if not _owns_folder(weights):
        return []
    told = []
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (content := _read(weights.parent / name)) is not None:
            told.append((str(weights.parent / name), said_by_processor(content)))
    if (content := _read(weights.parent / "config.json")) is not None:
        of_timm = not content.keys().isdisjoint(("pretrained_cfg", "architecture", "label_names"))
        said = said_by_timm(content) if of_timm else said_by_transformers(content)
        told.append((str(weights.parent / "config.json"), said))
    if (content := _read(weights.parent / "open_clip_config.json")) is not None:
        told.append((str(weights.parent / "open_clip_config.json"), said_by_open_clip(content)))
    return told


def _unused(weights: Path) -> tuple[str, ...]:
    if _owns_folder(weights):
        return ()
    return tuple(name for name in CONFIGS if (weights.parent / name).is_file())


def _owns_folder(weights: Path) -> bool:
    if weights.name.startswith(HUB_NAMES):
        return True
    others = (file for file in weights.parent.glob("*") if file.suffix in WEIGHTS_ENDINGS and file != weights)
    return not any(others)


def _read(file: Path) -> Mapping[str, Any] | None:
    """A file of JSON; None where there is none, or where it holds no mapping."""
    if not file.is_file() or file.stat().st_size > LARGEST_CONFIG:
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file}: cannot be read ({error}), though it says how the images of the weights beside it are prepared; "
            "copy it again, or move it away"
        ) from error
    return content if isinstance(content, Mapping) else None
