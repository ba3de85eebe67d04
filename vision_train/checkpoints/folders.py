"""Finding the files of weights behind a path: a file, a folder as model hubs keep it, shards and their index, a run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_train.checkpoints.origin import COMPANIONS, WEIGHTS, located
from vision_train.errors import UserError

_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt", ".bin", ".tar")
_INDEX = ".index.json"
_OF_HUBS = {name.partition(".")[0] for name in WEIGHTS}
"""How names of weights in a hub's repository begin, before a dot or the number of a shard."""
_LARGEST_COMPANION = 32 * 2**20
_SHARD = re.compile(r"-(\d+)-of-(\d+)\.(safetensors|bin|pth|pt)$")
_FOREIGN = {
    "tf_model.h5": "TensorFlow",
    "flax_model.msgpack": "JAX",
    "model.onnx": "ONNX",
    "saved_model.pb": "TensorFlow",
}


@dataclass(frozen=True)
class WeightsFiles:
    """The files that hold one set of weights."""

    path: Path
    """What stands for all of them in messages: the file, or the index of shards."""
    files: tuple[Path, ...]
    """The files to read; several where the weights are sharded."""
    places: dict[str, str] | None = None
    """Name of the file that holds each tensor, where the weights are sharded."""

    @property
    def folder(self) -> Path:
        """Where the files lie, and with them what else belongs to the weights."""
        return self.path.parent

    def companions(self) -> dict[str, dict[str, Any]]:
        """What configuration files beside the weights say, by their names, where they belong to these weights.

        They do where the weights have a name that hubs give, or no other weights lie beside them.

        Raises:
            UserError: One of them is no JSON.
        """
        if not self._owns_folder():
            return {}
        files = [self.folder / name for name in COMPANIONS]
        files = [file for file in files if file.is_file() and file.stat().st_size <= _LARGEST_COMPANION]
        contents = {file.name: _read_json(file) for file in files}
        return {name: content for name, content in contents.items() if isinstance(content, dict)}

    def _owns_folder(self) -> bool:
        if re.split(r"[.-]", self.path.name)[0] in _OF_HUBS:
            return True
        return not any(
            file.suffix in _SUFFIXES and file not in self.files and file != self.path for file in self.folder.glob("*")
        )


def weights_files(path: str | Path) -> WeightsFiles:
    """Find the files that a path stands for.

    Args:
        path: A weights file; the ``*.index.json`` of shards; a folder as model hubs keep it, with one set of weights;
            or a run directory, which stands for its ``checkpoints/best.ckpt``. Or a name of timm or of the hub, as
            :func:`vision_train.checkpoints.origin.located` takes it.

    Raises:
        UserError: Nothing is there, the folder holds no weights or several, a shard is missing or is named alone.
    """
    path = located(path)
    if not path.exists():
        raise UserError(f"{path}: does not exist; name a weights file, a folder of one or a run directory")
    file = _file_in(path) if path.is_dir() else path
    if file.name.endswith(_INDEX):
        return _sharded(file)
    if shard := _SHARD.search(file.name):
        number, count = (int(digits) for digits in shard.groups()[:2])
        if count > 1:
            raise UserError(
                f"{file}: is shard {number} of {count}, so most of the weights lie in other files; "
                f"name the folder {file.parent} or the {_INDEX} file in it"
            )
    return WeightsFiles(file, (file,))


def _file_in(folder: Path) -> Path:
    best = folder / "checkpoints" / "best.ckpt"
    if best.is_file():
        return best
    if (folder / "recipe.yaml").is_file():
        raise UserError(
            f"{folder}: is a directory without checkpoints/best.ckpt, so no finished run{_named(_weights_in(folder))}; "
            f"or finish it with `vision-train fit --resume {folder}`"
        )
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    inside = _weights_in(folder)
    indices = [file for file in sorted(folder.glob(f"*{_INDEX}")) if file.is_file()]
    if len(indices) == 1 and all(_SHARD.search(file.name) for file in inside):
        return indices[0]
    whole = [file for file in inside if file.parent == folder]
    if len(whole) == 1 and not _SHARD.search(whole[0].name):
        return whole[0]
    raise UserError(f"{folder}: {_without_weights(folder, inside)}")


def _weights_in(folder: Path) -> list[Path]:
    return sorted(file for file in (*folder.glob("*"), *folder.glob("checkpoints/*")) if file.suffix in _SUFFIXES)


def _named(inside: list[Path]) -> str:
    return f"; name one of its files: {', '.join(map(str, inside[:5]))}" if inside else ""


def _without_weights(folder: Path, inside: list[Path]) -> str:
    if any(folder.glob("*.distcp")):
        return (
            "is a distributed checkpoint of torch; turn it into one file with "
            "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE` and name that"
        )
    if inside and all(_SHARD.search(file.name) for file in inside):
        return f"holds shards of weights without their {_INDEX} file; copy that too"
    if inside:
        return f"is a directory without checkpoints/best.ckpt, so no finished run{_named(inside)}"
    for name, library in _FOREIGN.items():
        if (folder / name).is_file():
            return f"holds {library} weights only ({name}); take the PyTorch or safetensors version of them"
    return "is a directory without checkpoints/best.ckpt, so no finished run, and holds no weights; name a weights file"


def _sharded(index: Path) -> WeightsFiles:
    places = _read_index(index)
    names = sorted(set(places.values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f"{index}: {len(missing)} of its {len(names)} files of weights are not beside it, the first of them "
            f"{missing[0]}; copy or download them all"
        )
    return WeightsFiles(index, tuple(index.parent / name for name in names), places)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file}: cannot be read as JSON ({error}); copy or download it again, or move it away"
        ) from error


def _read_index(index: Path) -> dict[str, str]:
    content = _read_json(index)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index}: has no weight_map, so it is no index of shards; name the weights file")
    for name, file in places.items():
        # Only files beside the index: a path would reach anywhere on the disk.
        if not isinstance(file, str) or Path(file).name != file or not file:
            raise UserError(f"{index}: places {name} in {file!r}, which is no name of a file beside it; mend the index")
    return places
