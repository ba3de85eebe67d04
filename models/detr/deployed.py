"""A detector as a program of its own: from pixels as other programs hold them to boxes in these pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.utils.model import unfreeze_batch_norm_2d
from torch import Tensor, nn
from torch.nn import functional

from models.detr.network import RelationDetr
from models.detr.postprocess import likeliest_boxes

STRIDE = 32
"""Sides of what the network sees are multiples of this; what they lack is padding."""
_SHARES_UP_TO = 1.5
"""Images with no larger value hold shares of 1, others levels up to 255. Resampled shares may exceed 1 a little."""
_NORMALISED_UP_TO = 3.0
"""No image that was normalised with usual means and deviations holds more."""
_OVERSHOOT = 0.2
"""Share of the largest value by which a resampled image may fall below 0."""


class DeployedDetector(nn.Module):
    """A network with its preprocessing before it and the choice of boxes behind it; traced by ``torch.export``.

    Args:
        network: With its weights. Put into evaluation mode; its frozen batch norms become plain ones.
        mean: Of the channels red, green and blue, in shares of 1.
        std: Likewise.
        top: Boxes of an image.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: RelationDetr, mean: Sequence[float], std: Sequence[float], top: int = 300) -> None:
        super().__init__()
        # A batch norm is one operation of a program; a frozen one is eleven, which takes long to write.
        network.backbone = unfreeze_batch_norm_2d(network.backbone)
        self.network, self.top = network, top
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.eval()

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find boxes.

        A traced program cannot raise. Of an image that holds no pixels, such as one that was normalised before or has
        16 bits, all scores are NaN.

        Args:
            image: B x 3 x H x W float32, red, green and blue; each image in 0..1 or in 0..255, which its largest value
                tells. Each lies in the upper left of its H x W; what is outside does not count.
            size: B x 2, height and width of each image.

        Returns:
            Scores, labels and boxes, as in :class:`~models.detr.postprocess.Detections`; a plain tuple can be exported.
        """
        padding = _outside(size, image.shape[-2], image.shape[-1])
        image = image.masked_fill(padding[:, None], 0.0)
        largest, smallest = image.amax((1, 2, 3), keepdim=True), image.amin((1, 2, 3), keepdim=True)
        scale = torch.where(largest > _SHARES_UP_TO, 1.0, 255.0)
        # As in training, one product and one difference: so the results are the same to the last bit.
        pixels = image * scale * (1 / (255 * self.std)) - self.mean / self.std
        pixels, padding = _padded(pixels.masked_fill(padding[:, None], 0.0), padding)
        found = self.network(pixels, padding).queries
        scores, labels, boxes = likeliest_boxes(found.logits[-1], found.boxes[-1], size, self.top)
        return scores.where(_are_pixels(smallest, largest)[:, 0, 0], torch.nan), labels, boxes


def _are_pixels(smallest: Tensor, largest: Tensor) -> Tensor:
    """Whether an image of such values is neither normalised already nor in more than 8 bits."""
    dark = (largest > _SHARES_UP_TO) & (largest <= _NORMALISED_UP_TO) & (smallest < 0)
    return (smallest >= -_OVERSHOOT * largest) & ~dark & (largest <= 255 * _SHARES_UP_TO)


def _outside(size: Tensor, height: int, width: int) -> Tensor:
    """B x H x W, True outside of images of these heights and widths."""
    rows = torch.arange(height, device=size.device) >= size[:, :1]
    columns = torch.arange(width, device=size.device) >= size[:, 1:]
    return rows[:, :, None] | columns[:, None]


def _padded(pixels: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
    """Pad at the right and at the bottom to multiples of the stride."""
    height, width = pixels.shape[-2:]
    added = (0, -width % STRIDE, 0, -height % STRIDE)
    return functional.pad(pixels, added), functional.pad(padding.float(), added, value=1.0) > 0
