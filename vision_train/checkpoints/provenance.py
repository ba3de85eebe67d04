"""What belongs to weights besides tensors: how their images were prepared, and which classes their head knows."""

from __future__ import annotations

from collections.abc import Iterable
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
from vision_train.checkpoints.described import is_of_timm
from vision_train.checkpoints.origin import COMPANIONS, timm_name
from vision_train.checkpoints.read import Weights


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
    ``config.json`` and ``open_clip_config.json`` beside the weights, where these belong to the file.
    """
    told = [(str(weights.path), said_in_run(weights.recipe)), (str(weights.path), said_in_file(weights.facts))]
    if name := timm_name(str(named)):
        published = timm.get_pretrained_cfg(name)
        if published is not None:
            told.append((f"timm ({name})", said_by_timm(published.to_dict())))
    told += _beside(weights)
    return replace(_collected(str(named), told), unused=_unused(weights))


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


def _beside(weights: Weights) -> list[tuple[str, Said]]:
    """What configuration files in the folder of the weights say."""
    told = []
    for name, content in weights.beside.items():
        if name == "config.json":
            said = said_by_timm(content) if is_of_timm(content) else said_by_transformers(content)
        elif name == "open_clip_config.json":
            said = said_by_open_clip(content)
        else:
            said = said_by_processor(content)
        told.append((str(weights.path.parent / name), said))
    return told


def _unused(weights: Weights) -> tuple[str, ...]:
    """Configuration files beside weights that were not read, since they may belong to others there."""
    if weights.beside:
        return ()
    return tuple(name for name in COMPANIONS if (weights.path.parent / name).is_file())
