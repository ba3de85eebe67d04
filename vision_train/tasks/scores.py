"""Numbers of each sample of one pass over a split.

A few numbers a sample are kept instead of what the network gave for it, so that a thousand classes cost no more memory
than two. They are gathered by sample id: a sample that two processes saw, or one saw twice, counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vision_train.processes import gather_by_id, gather_objects


@dataclass(frozen=True)
class Scores:
    """Numbers of N samples, each once and in the order of the ids.

    Attributes:
        ids: N.
        fields: Names of the F columns.
        rows: N x F.
        groups: Group of each sample that has one, by id.
    """

    ids: list[str]
    fields: tuple[str, ...]
    rows: Tensor
    groups: dict[str, str]

    def column(self, name: str) -> Tensor:
        """One column, length N."""
        return self.rows[:, self.fields.index(name)].contiguous()

    @property
    def group_of_each(self) -> list[str] | None:
        """Group of each sample, a sample without one by itself; None where no sample has one."""
        return [self.groups.get(name, name) for name in self.ids] if self.groups else None


class Collected(Protocol):
    """What each process collects in a pass over a split."""

    def gather(self) -> Any:
        """What all processes collected, the same on each and every sample once. A collective call."""


class ScoreTable:
    """Collects the numbers of a pass in each process.

    Args:
        fields: Names of the columns.
        dtype: Type of the numbers. Double precision is the default: sums over many samples keep their digits.
    """

    def __init__(self, fields: Sequence[str], dtype: torch.dtype = torch.float64) -> None:
        self.fields = tuple(fields)
        self.dtype = dtype
        self._parts: list[tuple[list[str], Tensor]] = []
        self._groups: dict[str, str] = {}

    def add(self, ids: Sequence[str], rows: Tensor, groups: Sequence[str] | None = None) -> None:
        """Note a batch.

        Args:
            ids: B.
            rows: B x F.
            groups: B, what the samples belong to; None where each stands for itself.
        """
        # Converted on the CPU: not every accelerator has double precision.
        self._parts.append((list(ids), rows.detach().cpu().to(self.dtype)))
        if groups is not None:
            self._groups |= dict(zip(ids, groups, strict=True))

    def gather(self) -> Scores:
        """The numbers of all processes, the same on each. A collective call."""
        ids, rows = gather_by_id(self._parts)
        groups = {name: group for part in gather_objects(self._groups) for name, group in part.items()}
        empty = torch.empty(0, len(self.fields), dtype=self.dtype)
        return Scores(ids, self.fields, empty if rows is None else rows, groups)
