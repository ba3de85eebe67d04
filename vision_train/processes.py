"""Which of several training processes this one is, and what they tell one another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")


def launched_rank() -> int:
    """Rank of this process as its launcher set it; 0 in the first process, and before any launch."""
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    if "SLURM_PROCID" in os.environ and "SLURM_NTASKS" in os.environ:
        return int(os.environ["SLURM_PROCID"])
    # Lightning starts the others of a node itself and tells them their place on it only.
    return int(os.environ.get("LOCAL_RANK", "0")) + int(os.environ.get("NODE_RANK", "0"))


def gather_objects(value: Value) -> list[Value]:
    """What every process holds, in order of rank, on every process. A collective call; alone it returns ``[value]``."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    everyone: list[Value] = [value] * dist.get_world_size()
    dist.all_gather_object(everyone, value)
    return everyone


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all processes, in order of rank, on every process. A collective call; alone it returns ``rows``.

    Args:
        rows: N x ..., of one shape and type in all processes; nothing flows back through them.
    """
    import torch
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return rows
    everyone = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, rows.detach().contiguous())
    return torch.cat(everyone)


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum of what all processes hold, on every process. A collective call; alone it returns ``value``.

    Gradients reach each process's own part, multiplied by the number of processes. Averaged over the processes, as DDP
    averages them, they are the gradients of one process that holds everything.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    own = value * dist.get_world_size()
    return own - own.detach() + total


def gather_by_id(parts: Sequence[tuple[Sequence[str], Tensor]]) -> tuple[list[str], Tensor | None]:
    """Join what all processes measured, so that an image that two of them saw, or one saw twice, counts once.

    Args:
        parts: Ids of images and their rows, batch by batch.

    Returns:
        Ids in order, and one row (``... x columns``) for each, the same on every process; None where there is none.
    """
    import torch

    everyone = gather_objects(([name for names, _ in parts for name in names], [rows for _, rows in parts]))
    ids = [name for names, _ in everyone for name in names]
    if not ids:
        return [], None
    first_row = {name: row for row, name in reversed(list(enumerate(ids)))}
    unique = sorted(first_row)
    rows = torch.cat([part for _, of_process in everyone for part in of_process])
    return unique, rows[[first_row[name] for name in unique]]


def leave_process_group() -> None:
    """Take leave of the other processes, if there are any; an exit without it can end in an abort of native threads."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
