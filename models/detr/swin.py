"""Swin's blocks for images of any size, as the published detectors run them."""

from __future__ import annotations

import torch
from timm.models.swin_transformer import SwinTransformerBlock, window_partition, window_reverse
from torch import Tensor, nn
from torch.nn import functional

_SEPARATE = -100.0
"""Added to the score of two tokens that only the shift has brought into one window."""


class AnySizeBlock(SwinTransformerBlock):
    """A block that pads a map to whole windows before it shifts them.

    timm shifts first, and decides by the size that a model was built for whether windows are shifted at all. That is
    the same on maps of whole windows, but not on others. torchvision and Swin's own detectors do it as here.
    """

    def _attn(self, x: Tensor) -> Tensor:
        _, height, width, dim = x.shape
        window = self.window_size
        x = functional.pad(x, (0, 0, 0, -width % window[1], 0, -height % window[0]))
        rows, columns = x.shape[1:3]
        wanted = self.target_shift_size
        shift = (wanted[0] if rows > window[0] else 0, wanted[1] if columns > window[1] else 0)
        mask = None
        if any(shift):
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
            mask = self._between_regions(x, shift)
        windows = window_partition(x, window).view(-1, window[0] * window[1], dim)
        attended = self.attn(windows, mask=mask).view(-1, *window, dim)
        x = window_reverse(attended, window, rows, columns)
        if any(shift):
            x = torch.roll(x, shift, (1, 2))
        return x[:, :height, :width].contiguous()

    def _between_regions(self, x: Tensor, shift: tuple[int, int]) -> Tensor:
        """What is added to scores within each window, W N N: tokens of other sides of the map are kept apart."""
        first, second = (
            (torch.arange(side, device=x.device) >= side - window).int()
            + (torch.arange(side, device=x.device) >= side - by).int()
            for side, window, by in zip(x.shape[1:3], self.window_size, shift, strict=True)
        )
        regions = window_partition((3 * first[:, None] + second)[None, :, :, None], self.window_size).flatten(1)  # W N
        apart = regions[:, None] != regions[:, :, None]
        return x.new_zeros(apart.shape).masked_fill_(apart, _SEPARATE)


def take_any_size(model: nn.Module) -> None:
    """Let the Swin blocks of a model, if it has any, compute maps of any size; their parameters stay as they are."""
    for module in model.modules():
        if isinstance(module, SwinTransformerBlock):
            module.__class__ = AnySizeBlock
