"""Finding the weights inside what a checkpoint file or run directory holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vision_train.checkpoints.formats import open_weights
from vision_train.errors import UserError

_CONTAINERS = (
    # Averaged weights first: where a file holds both, they are what its author evaluated.
    "averaged",
    "model_ema",
    "state_dict_ema",
    "ema",
    "teacher",
    # `state_dict` before `model`: some files keep the model's name under `model`.
    "state_dict",
    "model_state_dict",
    "model",
    "network",
    "net",
    "module",
    "weights",
    "params",
    "backbone",
    "encoder",
    "student",
)
_AVERAGED = ("averaged", "model_ema", "state_dict_ema", "ema")
_WRAPPERS = ("module.", "_orig_mod.", "network.", "model.", "backbone.")
_DEEPEST = 4
"""Containers within containers that are looked into; a file may even hold itself."""
_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt", ".bin", ".tar")


@dataclass(frozen=True)
class Weights:
    """Weights by plain name, and where they came from."""

    state: dict[str, Tensor]
    """CPU tensors, possibly mapped from the file: copy them, do not write to them."""
    path: Path
    """The file that was read; for a run directory its best checkpoint."""
    file_format: str
    """``safetensors``, ``torch`` or ``torch before 1.6``."""
    container: str
    """Where in the file they were, such as ``model_ema`` or ``ema.module``; empty at the top level."""
    classes: list[str] | None = None
    """The label map, where the file keeps one (ours do)."""
    recipe: dict[str, Any] | None = None
    """The resolved recipe as plain values, where the file keeps one (ours do)."""

    @property
    def source(self) -> str:
        """What was taken, in words: ``averaged weights of runs/digits/0/checkpoints/best.ckpt``."""
        if self.container.split(".")[0] in _AVERAGED:
            return f"averaged weights of {self.path}"
        return f"`{self.container}` of {self.path}" if self.container else str(self.path)


def read_weights(path: str | Path) -> Weights:
    """Read weights without executing code from the file.

    Understands safetensors, files of ``torch.save``, our own checkpoints and run directories. Where a file holds
    averaged weights beside others, these are taken. Prefixes that every name carries (``module.``, ``network.``, ...)
    are removed.

    Args:
        path: A weights file, or a run directory, which stands for its ``checkpoints/best.ckpt``.

    Raises:
        UserError: Nothing is there, the file is damaged or foreign, would run code, or holds no weights.
    """
    file = _file_of(Path(path))
    content, file_format = open_weights(file)
    found = _find(content)
    if found is None:
        held = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
        raise UserError(f"{file}: holds no weights (only: {held or 'nothing'}); name a file with a state dict")
    container, state = found
    content = _plain(content)
    classes = content.get("classes")
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        classes = None
    recipe = content.get("recipe") if isinstance(content.get("recipe"), dict) else None
    if "pytorch-lightning_version" not in content:
        state = _unwrap(state)
    elif container != "averaged":
        # Beside its network, a LightningModule may keep metrics and buffers of its loss.
        inside = {n.removeprefix("network."): weight for n, weight in state.items() if n.startswith("network.")}
        state = inside or _unwrap(state)
    # Else they are our own averaged weights: plain names already, even where those begin like a wrapper's.
    _check_dense(file, state)
    return Weights(state, file, file_format, container, classes, recipe)


def _file_of(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path}: does not exist; name a weights file or a run directory")
    if not path.is_dir():
        return path
    best = path / "checkpoints" / "best.ckpt"
    if best.is_file():
        return best
    inside = sorted(file for file in (*path.glob("*"), *path.glob("checkpoints/*")) if file.suffix in _SUFFIXES)
    hint = f"; name one of its files: {', '.join(map(str, inside[:5]))}" if inside else "; name a weights file"
    if (path / "recipe.yaml").is_file():
        hint = f"; finish it with `vision-train fit --resume {path}`"
    raise UserError(f"{path}: is a directory without checkpoints/best.ckpt, so no finished run{hint}")


def _plain(content: dict[Any, Any]) -> dict[Any, Any]:
    """A dict without the attributes that a file may set on an OrderedDict, which could hide its methods."""
    return dict(dict.items(content))


def _check_dense(file: Path, state: Mapping[str, Tensor]) -> None:
    for name, weight in state.items():
        if weight.layout != torch.strided or weight.is_quantized or weight.is_meta:
            kind = "quantised" if weight.is_quantized else "empty (meta)" if weight.is_meta else str(weight.layout)
            raise UserError(f"{file}: {name} is a {kind} tensor; save the state dict with ordinary dense tensors")


def _find(content: Any, depth: int = 0) -> tuple[str, dict[str, Tensor]] | None:
    """Return the most telling container of tensors and its dotted place in the file."""
    if not isinstance(content, dict) or depth > _DEEPEST:
        return None
    content = _plain(content)
    for name in _CONTAINERS:
        found = _find(content.get(name), depth + 1)
        if found is not None:
            place, state = found
            return f"{name}.{place}".rstrip("."), state
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    # A lone tensor beside other things is a counter, not a network.
    return ("", state) if state and len(state) * 2 > len(content) else None


def _unwrap(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # torch's AveragedModel counts its updates beside the wrapped module.
    state = {name: weight.detach() for name, weight in state.items() if name != "n_averaged"}
    for prefix in _WRAPPERS * 2:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): weight for name, weight in state.items()}
    return state
