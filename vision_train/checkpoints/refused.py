"""Files that hold tensors, and yet no weights that a network could start from: named for what they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vision_train.errors import UserError

_ADAPTER = re.compile(
    r"(^|\.)(lora_(A|B|down|up|embedding_[AB]|magnitude_vector)\b|hada_w\d|vera_lambda_[bd]|linear_[ab]_[qkv]|lokr_w\d|ia3_l\b|oft_[rs]\b)"
)
_QUANTISED = re.compile(
    r"\.(qweight|qzeros|g_idx|SCB|weight_format|absmax|quant_map|nested_absmax|nested_quant_map|_packed_params(\._\w+)?)$"
    r"|\.quant_state\.|\.(weight|input)_scale(_inv)?$|\.weight_packed$|\.zero_point$"
)
_SMALL_FLOATS = {getattr(torch, name) for name in dir(torch) if name.startswith("float8") or name.startswith("float4")}
_MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "acc_delta", "momentum_buffer"}
"""What optimisers remember of each parameter, beside its number of steps."""
_UNQUANTISED = "take the version of these weights in float32, float16 or bfloat16"


def check_state(file: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse adapters, quantised weights and tensors that hold nothing or no plain memory.

    Raises:
        UserError: The state is one of these.
    """
    sized = [weight.numel() for weight in state.values() if weight.is_floating_point()]
    if sized and not any(sized):
        raise UserError(
            f"{file}: all its tensors are empty, as DeepSpeed's ZeRO-3 leaves them: the weights lie in pieces in other "
            "files. Run `zero_to_fp32.py`, which DeepSpeed put beside them, and name the file that it writes"
        )
    if adapters := [name for name in state if _ADAPTER.search(name)]:
        raise UserError(_adapter(file, adapters, state))
    if quantised := [name for name in state if _QUANTISED.search(name)]:
        raise UserError(f"{file}: holds quantised weights (such as {quantised[0]}); {_UNQUANTISED}")
    for name, weight in state.items():
        if weight.layout != torch.strided or weight.is_quantized or weight.is_meta:
            kind = "quantised" if weight.is_quantized else "empty (meta)" if weight.is_meta else str(weight.layout)
            raise UserError(f"{file}: {name} is a {kind} tensor; save the state dict with ordinary dense tensors")
        integers = not weight.is_floating_point() and not weight.is_complex() and name.endswith(".weight")
        if (integers and weight.ndim > 1) or weight.dtype in _SMALL_FLOATS:
            kind = str(weight.dtype).removeprefix("torch.")
            raise UserError(f"{file}: holds quantised weights ({name} is of type {kind}); {_UNQUANTISED}")


def _adapter(file: Path, adapters: list[str], state: Mapping[str, Tensor]) -> str:
    if len(adapters) * 2 > len(state):
        what = "is a LoRA or similar adapter: small matrices to add to a base model, which it does not hold"
    else:
        what = "holds the layers of a LoRA or similar adapter beside the weights of its base model"
    return (
        f"{file}: {what} ({len(adapters)} tensors such as {adapters[0]}). Merge the adapter into its base model (peft: "
        "`model.merge_and_unload()`), save the state dict of the result and name that file"
    )


def without_weights(file: Path, content: Any) -> UserError:
    """Say what a file holds in which no network was found."""
    if _is_optimiser(content):
        return UserError(
            f"{file}: holds the state of an optimiser and no weights; name the file of the model that was saved "
            "beside it"
        )
    if isinstance(content, Tensor):
        return UserError(f"{file}: is a single tensor, no weights by name; save the state dict of the model")
    held = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
    return UserError(f"{file}: holds no weights (only: {held or 'nothing'}); name a file with a state dict")


def is_optimiser_state(content: Mapping[Any, Any]) -> bool:
    """Whether a container is what an optimiser remembers: of all parameters, of one, or with flat names."""
    if {"state", "param_groups"} <= content.keys():
        return True
    tensors = [name for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)]
    moments = [name for name in tensors if name.rpartition(".")[2] in _MOMENTS]
    steps = [name for name in tensors if name.rpartition(".")[2] == "step"]
    return bool(moments) and (len(moments) + len(steps)) * 2 > len(tensors)


def _is_optimiser(content: Any, depth: int = 0) -> bool:
    if depth > 3 or not isinstance(content, Mapping | list | tuple):
        return False
    if isinstance(content, Mapping) and (
        is_optimiser_state(content) or "base_optimizer_state" in content or "exp_avg" in content
    ):
        return True
    inside: Iterable[Any] = content.values() if isinstance(content, Mapping) else content
    return any(_is_optimiser(each, depth + 1) for each in inside)
