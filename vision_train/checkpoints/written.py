"""Weights alone, as a safetensors file whose metadata say what they are of."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from models.timm_call import TimmCall
from vision_train import __version__
from vision_train.checkpoints.formats import OURS
from vision_train.checkpoints.read import Weights
from vision_train.files import finite, written_whole

KEPT = ("classes", "recipe", "calibration", "named_by")
"""What is kept of what a checkpoint of ours holds beside weights."""
OUR_NAMES = "those of vision_train's network"


def write_weights(path: Path, weights: Weights) -> None:
    """Write the weights of a run of ours, without the state of its training.

    The metadata name the network. Where the names of the weights are timm's, ``timm.create_model`` takes the file as
    ``checkpoint_path``, and the metadata say with which arguments.

    Args:
        path: The file, ``.safetensors``; replaced in one step.
        weights: As :func:`~vision_train.checkpoints.read.read_weights` gives them.
    """
    facts = {key: weights.facts[key] for key in KEPT if key in weights.facts}
    metadata = {"format": "pt", "written_by": f"vision-train {__version__}", **names_of(weights)}
    # Tensors of a checkpoint may share memory, which the format does not know.
    state = {name: tensor.detach().clone().contiguous() for name, tensor in weights.state.items()}
    with written_whole(path) as temporary:
        save_file(state, temporary, {**metadata, OURS: json.dumps(finite(facts))})


def names_of(weights: Weights) -> dict[str, str]:
    """Whose names weights have, and how to load them where those are timm's."""
    call = weights.facts.get("named_by")
    if not call:
        return {"names": OUR_NAMES}
    return {"names": "those of timm", "network": str(TimmCall(call["architecture"], call["args"]))}
