"""A second head that classifies coordinates."""

from __future__ import annotations

from torch import Tensor, nn

from models.detr.layers import Mlp


class QuantisedHead(nn.Module):
    """Scores the bins of each coordinate.

    Args:
        dim: Width of the token that it reads, D.
        bins: Of each coordinate, K.
    """

    def __init__(self, dim: int, bins: int) -> None:
        super().__init__()
        self.mlp = Mlp((dim, dim, dim, 4 * bins))

    def forward(self, token: Tensor) -> Tensor:
        """B x D -> B x 4 x K."""
        return self.mlp(token).unflatten(-1, (4, -1))
