"""Nyström attention: softmax attention approximated through landmarks, without any map of N x N."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from models.attention import attention

_KEYS_AT_A_TIME: Final = 4096
"""Bounds the memory that reading off a row takes."""

ITERATIONS = 6
"""Steps of the iterative pseudo-inverse."""
KERNEL = 33
"""Length of the convolution of the values along the sequence."""
DROPOUT = 0.1
"""Dropout of the output of the attention."""


class _Projected(NamedTuple):
    """Tokens as heads see them: H x n x c each, H x M x c for landmarks; n is N filled up to a multiple of M."""

    query: Tensor
    key: Tensor
    value: Tensor
    query_landmarks: Tensor
    key_landmarks: Tensor


class NystromAttention(nn.Module):
    """Self-attention through M landmarks (Xiong et al. 2021), with a convolution of the values beside it.

    softmax(Q K~^T) pinv(softmax(Q~ K~^T)) softmax(Q~ K^T) V, where the landmarks Q~ and K~ are means over stretches of
    tokens. Both outer factors are ordinary attention: they run in its kernels, and their maps, N x M, are never held.

    Args:
        width: L, a multiple of the heads.
        heads: H.
        landmarks: M.

    Raises:
        ValueError: The heads do not divide the width.
    """

    def __init__(self, width: int, *, heads: int, landmarks: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be split into {heads} heads")
        self.heads, self.landmarks = heads, landmarks
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(DROPOUT))
        self.res_conv = nn.Conv2d(heads, heads, (KERNEL, 1), padding=(KERNEL // 2, 0), groups=heads, bias=False)

    def forward(self, tokens: Tensor, *, row: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            tokens: N x L.
            row: Index of a token whose attention is wanted.

        Returns:
            N x L, and the attention of that token to all: N, the mean over the heads, without gradient. It may be
            negative, since the inverse may be; the convolution of the values has no part in it.
        """
        projected = self._project(tokens)
        inverse = self._inverse(projected)
        gathered = attention(projected.query_landmarks[None], projected.key[None], projected.value[None])[0]
        mixed = inverse.to(gathered.dtype) @ gathered
        attended = attention(projected.query[None], projected.key_landmarks[None], mixed[None])[0]
        attended = attended + self.res_conv(projected.value[None])[0]
        out: Tensor = self.to_out(attended.transpose(0, 1).flatten(1))[-len(tokens) :]
        return out, None if row is None else self._row(projected, inverse, row - len(tokens))[-len(tokens) :]

    def _project(self, tokens: Tensor) -> _Projected:
        # Zeros ahead, as published. They take part: as keys of score 0, and in the mean of the first landmark.
        filling = -len(tokens) % self.landmarks
        filled = torch.cat([tokens.new_zeros(filling, tokens.shape[1]), tokens])
        heads = self.to_qkv(filled).unflatten(1, (3, self.heads, -1)).permute(1, 2, 0, 3)
        query, key, value = heads
        query_landmarks, key_landmarks = heads[:2].unflatten(2, (self.landmarks, -1)).mean(dim=3)
        return _Projected(query, key, value, query_landmarks, key_landmarks)

    def _inverse(self, projected: _Projected) -> Tensor:
        """Pseudo-inverse of the attention among landmarks, H x M x M, by iteration (Razavi et al. 2014), in float32."""
        with torch.autocast(projected.query.device.type, enabled=False):
            query, key = projected.query_landmarks.float(), projected.key_landmarks.float()
            matrix = (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1)
            identity = torch.eye(self.landmarks, device=matrix.device)
            inverse = matrix.mT / (matrix.sum(dim=-1).amax() * matrix.sum(dim=-2).amax())
            for _ in range(ITERATIONS):
                product = matrix @ inverse
                inner = 15 * identity - product @ (7 * identity - product)
                inverse = 0.25 * inverse @ (13 * identity - product @ inner)
        return inverse

    @torch.no_grad()
    def _row(self, projected: _Projected, inverse: Tensor, index: int) -> Tensor:
        """Attention of one token to all n, mean over heads."""
        scale = projected.query.shape[-1] ** -0.5
        landmarks = projected.query_landmarks.float() * scale
        own = projected.query[:, index, None].float() * scale
        weights = (own @ projected.key_landmarks.float().mT).softmax(dim=-1) @ inverse  # H 1 M
        keys = projected.key.split(_KEYS_AT_A_TIME, dim=1)
        parts = [(landmarks @ key.float().mT).logsumexp(dim=-1) for key in keys]
        total = torch.stack(parts).logsumexp(dim=0)[..., None]
        return torch.cat([weights @ (landmarks @ key.float().mT - total).exp() for key in keys], dim=-1).mean(
            dim=(0, 1)
        )
