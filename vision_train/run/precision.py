"""``trainer.precision=auto``: half the bits where the device multiplies them itself, and all of them elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pytorch_lightning.accelerators import Accelerator

MIXED, FULL = "bf16-mixed", "32-true"


@dataclass(frozen=True)
class Precision:
    """In which number format a run computes."""

    name: str
    """As Lightning calls it."""
    because: str
    """What decided, in words."""


def precision_of(accelerator: Accelerator) -> Precision:
    """The format that the devices of an accelerator get under ``auto``."""
    from pytorch_lightning.accelerators import CPUAccelerator, CUDAAccelerator

    kinds = {CUDAAccelerator: "cuda", CPUAccelerator: "cpu"}
    return precision_on(next((kind for each, kind in kinds.items() if isinstance(accelerator, each)), "another"))


def precision_on(kind: str) -> Precision:
    """The format that a kind of device gets under ``auto``, asked without Lightning, which takes seconds to import.

    Nothing is measured: the same device always gets the same one.

    Args:
        kind: As torch calls it: ``cuda``, ``cpu``, ``mps``.
    """
    if kind == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision(MIXED, f"{torch.cuda.get_device_name()} multiplies bfloat16 itself")
        return Precision(FULL, f"{torch.cuda.get_device_name()} does not multiply bfloat16 itself")
    if kind == "cpu":
        if unit := _unit_of_processor():
            return Precision(MIXED, f"this processor multiplies bfloat16 itself ({unit})")
        return Precision(FULL, "this processor does not multiply bfloat16 itself, as AMX and AVX-512 BF16 do")
    return Precision(FULL, "of this kind of device it is not known whether it multiplies bfloat16 itself")


def _unit_of_processor() -> str:
    """The part of the processor that multiplies bfloat16; empty where torch knows of none.

    torch has no public function for it that leaves out emulation; these are the ones that it asks itself.
    """
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX-512 BF16" if torch.cpu._is_avx512_bf16_supported() else ""
