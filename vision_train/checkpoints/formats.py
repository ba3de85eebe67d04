"""Opening a weights file of any format without executing code, with a remedy for everything that is not one."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import struct
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from vision_train.errors import UserError
from vision_train.files import utf_8_path

OURS = "vision_train"
"""Key of a safetensors file's metadata under which ours keep, as JSON, what a checkpoint holds beside weights; and by
which the content of such a file is known."""


class _Inert:
    """Takes the place of a harmless object inside a published file: accepts whatever the file says, keeps nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _mapping(*_: object) -> OrderedDict[Any, Any]:
    """Takes the place of ``defaultdict``, whose argument is a factory to call."""
    return OrderedDict()


# Subclasses of dict: the restricted unpickler fills only dict, OrderedDict and Counter, and of these only an
# OrderedDict can also hold the attributes that such files set.
_MAPPINGS = (
    "addict.addict.Dict",
    "detectron2.config.config.CfgNode",
    "easydict.EasyDict",
    "fvcore.common.config.CfgNode",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
)
_OBJECTS = (
    "argparse.Namespace",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.StringNode",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "torch.torch_version.TorchVersion",
    "typing.Any",
    "utils.utils.Struct",  # holds the settings that some published files keep beside their weights
    # Named by OmegaConf nodes as their content type, never filled.
    "builtins.bool",
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "builtins.str",
)
_STAND_INS: list[Any] = [
    *((OrderedDict, name) for name in _MAPPINGS),
    *((_Inert, name) for name in _OBJECTS),
    (_mapping, "collections.defaultdict"),
]

_LEGACY_PICKLES = 4
"""A file of torch before 1.6 begins with its magic number, version, platform and content, each a pickle."""

_DAMAGE = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error)
"""What torch raises on bytes that are no checkpoint, depending on where it stumbles."""


def open_weights(path: Path) -> tuple[Any, str]:
    """Read a file into plain containers of CPU tensors, mapped from disk where the format allows.

    Returns:
        The content, and the name of its format: ``safetensors``, ``torch`` or ``torch before 1.6``.

    Raises:
        UserError: The file is absent, damaged, of another format, or would run code.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a weights file or a run directory") from error
    if not head:
        raise UserError(f"{path}: is empty (0 bytes); copy or download it again")
    if head.startswith(b"PK\x03\x04"):
        _check_archive(path)
        return _open_torch(path, mmap=True), "torch"
    # Before the pickles: the length that a safetensors file begins with may look like the start of one.
    if path.suffix == ".safetensors" or _is_safetensors(head):
        return _open_safetensors(path, head), "safetensors"
    if head.startswith(b"\x80"):
        return _open_torch(path, mmap=False), "torch before 1.6"
    raise _foreign(path, head)


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and not _is_text(head)


def _is_text(head: bytes) -> bool:
    return b"\x00" not in head and all(byte >= 32 or byte in b"\t\r\n\x0c" for byte in head)


def _open_safetensors(path: Path, head: bytes) -> dict[str, Any]:
    if _is_text(head):
        raise _foreign(path, head)
    try:
        with utf_8_path(path) as readable:
            with safe_open(readable, "pt") as file:
                told = (file.metadata() or {}).get(OURS)
            state, facts = load_file(readable), json.loads(told) if told else None
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"{path}: is truncated or damaged ({error}); copy or download it again") from error
    return {"weights": state, **facts, OURS: True} if isinstance(facts, dict) else state


def _check_archive(path: Path) -> None:
    """Tell zip archives that torch.load can read from damaged ones and from those of other programs."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name.rsplit("/", 1)[-1] for name in archive.namelist()]
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise UserError(f"{path}: is truncated or damaged ({error}); copy or download it again") from error
    if "constants.pkl" in members and "data.pkl" in members:
        raise UserError(f"{path}: is a TorchScript program; ask for a file that holds only its state dict")
    if any(name.endswith(".npy") for name in members):
        raise UserError(f"{path}: holds NumPy arrays (a JAX checkpoint?); take the PyTorch version of these weights")
    if "data.pkl" not in members:
        raise UserError(f"{path}: is a zip archive without weights; unpack it and name the weights file inside")


def _open_torch(path: Path, *, mmap: bool) -> Any:
    with torch.serialization.safe_globals(_STAND_INS), warnings.catch_warnings():
        # torch asks for a bug report about pickle protocols; the error below says what the user can do.
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        try:
            with utf_8_path(path) as readable:
                return torch.load(readable, map_location="cpu", weights_only=True, mmap=mmap)
        except pickle.UnpicklingError as error:
            raise _unsafe(path) from error
        except _DAMAGE as error:
            # A pickle of something else fails in many ways before torch meets its first name.
            if _names_called(path):
                raise _unsafe(path) from error
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{path}: is truncated or damaged ({reason}); copy or download it again") from error


def _unsafe(path: Path) -> UserError:
    wanted = _names_called(path)
    if not wanted:
        return UserError(
            f"{path}: is damaged, or pickled in a way that cannot be read safely; download it again, "
            "or save its state dict with the defaults of torch.save"
        )
    listed = ", ".join(wanted[:8]) + (f" and {len(wanted) - 8} more" if len(wanted) > 8 else "")
    return UserError(
        f"{path}: was not opened, as loading it could run code: it asks for {listed}. "
        "Ask for a .safetensors version; if the file is your own, save model.state_dict() alone and name that"
    )


def _names_called(path: Path) -> list[str]:
    """List what the pickle wants to import beyond tensors, read statically: nothing is imported or called."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (pickle.UnpicklingError, *_DAMAGE):
        pass  # torch lists its own zip format in its own pickle protocol only
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    else:
        content = path.read_bytes()
    harmless = {name for _, name in _STAND_INS}
    return sorted(name for name in _imports(content) - harmless if not name.startswith(("torch.", "collections.")))


def _imports(content: bytes) -> set[str]:
    """Names that a pickle imports, as far as its opcodes can be followed."""
    names: set[str] = set()
    strings: list[str] = []
    stream = io.BytesIO(content)
    try:
        for _ in range(_LEGACY_PICKLES):
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    names.add(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.add(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    except (ValueError, EOFError, LookupError, struct.error):
        pass  # the damaged end of a truncated file: the names before it stand
    return names


def _foreign(path: Path, head: bytes) -> UserError:
    if head.startswith(b"version https://git-lfs"):
        return UserError(f"{path}: is a git-lfs pointer, not the weights; run `git lfs pull` where it came from")
    if head.lstrip()[:1] == b"<" and _is_text(head):
        return UserError(f"{path}: is a web page, not weights (a failed download?); download the file itself")
    if _is_text(head):
        start = head[:40].decode("utf-8", "replace").split("\n")[0]
        return UserError(f"{path}: is a text file beginning {start!r}, not weights; name the weights file")
    if head.startswith(b"\x89HDF"):
        return UserError(f"{path}: is an HDF5 file (Keras?); take the PyTorch version of these weights")
    if tarfile.is_tarfile(path):
        return UserError(
            f"{path}: is a tar archive, which torch cannot read safely; unpack it and name the weights file inside, "
            "or take a newer version of these weights"
        )
    return UserError(f"{path}: is no format of weights we know; give a .safetensors file or one made by torch.save")
