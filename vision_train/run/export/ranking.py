"""Choices of the best of a list, by a written program and by PyTorch: near equals may change places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

CLOSE = 1e-4
"""Values that differ by less, or by such a share of them, may change places."""


class Ranking(TorchDispatchMode):
    """Notes what ``topk`` chooses inside of the context, and may let it choose as another program did.

    Two programs that compute the same numbers but for rounding rank near equals either way, and what follows from an
    element at another rank is nowhere near. With the same ranks the rest can be compared.

    Args:
        ranks: What each call is to choose, in the order of the calls. A call keeps its own choice where that of the
            other program is none of as good elements, up to :data:`CLOSE`, or where there is none.

    Attributes:
        chosen: Indices that each call returned.
    """

    def __init__(self, ranks: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self._ranks = iter(ranks)
        self.chosen: list[Tensor] = []

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operation, and put other ranks in the place of those of ``topk``."""
        result = func(*args, **(kwargs or {}))
        if func is not torch.ops.aten.topk.default:
            return result
        best, indices = result
        ranks = next(self._ranks, None)
        dim = args[2] if len(args) > 2 else -1
        if ranks is not None and _as_good(args[0], dim, best, ranks):
            best, indices = args[0].gather(dim, ranks), ranks
        self.chosen.append(indices)
        return best, indices


def _as_good(values: Tensor, dim: int, best: Tensor, ranks: Tensor) -> bool:
    """Whether ranks name different elements, each as good as the best of its rank."""
    if ranks.shape != best.shape or not ranks.numel():
        return False
    if ranks.min() < 0 or ranks.max() >= values.shape[dim] or (ranks.sort(dim).values.diff(dim=dim) == 0).any():
        return False
    return torch.allclose(values.gather(dim, ranks), best, rtol=CLOSE, atol=CLOSE, equal_nan=True)
