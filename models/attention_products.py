"""Attention by single products, for where PyTorch has no fused kernel."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def attend_by_products(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """Compute attention by single products, with the random numbers that PyTorch's own formula would draw.

    That formula looks through all scores, B x H x N x M, for queries that may attend to nothing. Here only the bias is
    looked through, which is far smaller where it is the same for all heads or queries.

    Args:
        query: B x H x N x D.
        key: B x H x M x D.
        value: B x H x M x E.
        bias: Broadcasts to B x H x N x M; the output of a row of minus infinity alone is 0.
        dropout: Probability in [0, 1) of dropping an attention weight.

    Returns:
        B x H x N x E.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    blind = None
    if bias is not None:
        # A softmax over minus infinity alone is not a number, and neither are its gradients.
        blind = bias.isneginf().all(dim=-1, keepdim=True)
        scores += bias.masked_fill(blind, 0)
    attended = functional.dropout(scores.softmax(dim=-1), dropout) @ value
    return attended if blind is None else attended.masked_fill(blind, 0)
