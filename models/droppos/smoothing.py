"""Position smoothing: how much each position of the grid counts as right for a patch (DropPos, section 3.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def decayed_sigma(sigma: float, epoch: int, epochs: int) -> float:
    """Width of the smoothing in an epoch: linear from ``sigma`` in epoch 0 to ``sigma / epochs`` in the last."""
    return (1 - epoch / epochs) * sigma


def position_targets(
    grid: tuple[int, int],
    sigma: float,
    *,
    compat: Literal["official"] | None = None,
    patch: int | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Target distribution over positions for a patch at each position.

    T_ij = exp(-d_ij^2 / sigma^2) / sum_k exp(-d_ik^2 / sigma^2), with d the Euclidean distance of two positions in
    patches.

    Args:
        grid: Rows and columns of patches, N = rows * columns.
        sigma: Width in patches; 0 for hard targets.
        compat: ``official`` repeats two slips of the released training loop. It lays positions out on a grid whose side
            is the patch size in pixels, not the number of patches in a row; and it makes columns sum to 1, not rows.
        patch: Side of a patch in pixels; for ``compat`` alone.
        device: Where to build the map.

    Returns:
        N x N, float32; row i is the target of a patch at position i. Rows sum to 1 unless ``compat`` is set.

    Raises:
        ValueError: ``sigma`` is negative, or ``compat`` is asked for where the released loop fails: patches or the grid
            are not square, or an image has more patches in a row than a patch has pixels.
    """
    if sigma < 0:
        raise ValueError(f"sigma={sigma:g} must not be negative")
    rows, columns = grid
    if compat == "official":
        if patch is None or rows != columns or patch < rows:
            raise ValueError(
                f"compat=official repeats the released loop, which fails for a grid of {rows} x {columns} patches of "
                f"{patch} pixels: it needs a square grid and at least as many pixels in a patch as patches in a row; "
                "leave compat out"
            )
        rows = columns = patch
    if sigma * sigma == 0:
        return torch.eye(grid[0] * grid[1], dtype=torch.float32, device=device)
    # Columns of the symmetric exponent normalised, where the released loop meant rows.
    normalised = 0 if compat == "official" else 1
    # The exponential of a sum over rows and columns is a product, and so is its sum over the grid.
    smoothed = torch.kron(*(_smoothed_along(side, sigma, normalised, device) for side in (rows, columns)))
    patches = grid[0] * grid[1]
    return smoothed[:patches, :patches].contiguous()


def _smoothed_along(side: int, sigma: float, normalised: int, device: torch.device | str | None) -> Tensor:
    """Targets along one axis of the grid, side x side, float32; they sum to 1 over dimension ``normalised``."""
    places = torch.arange(side, dtype=torch.float64)
    # On the CPU in double precision, where no width of use underflows.
    return (-(places[:, None] - places).square() / (sigma * sigma)).softmax(dim=normalised).float().to(device)
