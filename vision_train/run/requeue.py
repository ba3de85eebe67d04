"""SLURM's signal that a job will end soon: the job is queued again, and the same command goes on with its run."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from rich.console import Console

from vision_train.processes import launched_rank


def started_by_slurm() -> bool:
    """Whether ``srun`` started this process, and no launcher in between."""
    return SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()


def environment_plugins() -> list[Any]:
    """SLURM without Lightning's own requeueing, which would write a checkpoint of another kind into the run."""
    return [SLURMEnvironment(auto_requeue=False)] if started_by_slurm() else []


@contextmanager
def queued_again(console: Console) -> Iterator[None]:
    """Queue the job again when SLURM sends SIGUSR1 (``sbatch --signal=USR1@120``), as Lightning does.

    The run has a checkpoint of its last epoch, from which the same command with ``--auto-resume`` goes on.

    Args:
        console: Where that is said.
    """
    if not started_by_slurm() or not hasattr(signal, "SIGUSR1"):
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if launched_rank() == 0:
            said = _requeue(_job())
            console.print(said)
            logging.getLogger("vision_train").warning(said)

    before = signal.signal(signal.SIGUSR1, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def _job() -> str:
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def _requeue(job: str) -> str:
    """Ask SLURM to queue a job again; what came of it, in a sentence."""
    try:
        # The cluster's own command, found as all of SLURM's are.
        done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)  # noqa: S603, S607
    except OSError as error:
        return f"warning: job {job} is not queued again: scontrol cannot be started ({error.strerror})"
    if done.returncode:
        return f"warning: job {job} is not queued again: {done.stderr.strip() or done.stdout.strip()}"
    return f"job {job} is queued again; it goes on with the last epoch that is saved"
