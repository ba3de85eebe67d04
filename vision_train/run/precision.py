"""``trainer.precision=auto``: half the bits where the device multiplies them itself, and all of them elsewhere."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator

from vision_train.errors import UserError
from vision_train.processes import gather_objects

MIXED, FULL = "bf16-mixed", "32-true"


@dataclass(frozen=True)
class Precision:
    """In which number format a run computes."""

    name: str
    """As Lightning calls it."""
    because: str
    """What decided, in words."""


def precision_of(accelerator: Accelerator) -> Precision:
    """The format that a kind of device gets under ``auto``.

    Nothing is measured: the same device always gets the same one.
    """
    if isinstance(accelerator, CUDAAccelerator):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision(MIXED, f"{torch.cuda.get_device_name()} multiplies bfloat16 itself")
        return Precision(FULL, f"{torch.cuda.get_device_name()} does not multiply bfloat16 itself")
    if isinstance(accelerator, CPUAccelerator):
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


class OneFormat(Callback):
    """Refuses processes that would train together in different formats.

    Each settles ``auto`` by its own machine, before it has met the others.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare, once they have met and before the first step; every process calls this.

        Raises:
            UserError: The formats differ.
        """
        formats = gather_objects((str(trainer.precision), platform.node()))
        if len(machines := dict(reversed(formats))) > 1:
            found = " and ".join(f"{name} on {machine}" for name, machine in sorted(machines.items()))
            raise UserError(
                f"trainer.precision=auto: would train in {found}, by what each machine multiplies itself; set it to "
                "one of these for all of them",
                shared=True,
            )
