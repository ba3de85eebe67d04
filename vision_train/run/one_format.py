"""Processes that train together compute in one number format."""

from __future__ import annotations

import platform

from pytorch_lightning import Callback, LightningModule, Trainer

from vision_train.errors import UserError
from vision_train.processes import gather_objects


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
