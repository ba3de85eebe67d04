"""Mixing of image pairs within a batch: MaskMix, MixUp and CutMix.

Drawing is kept apart from applying: ``Mixer.draw`` is the only random step and takes its own generator, ``mix_images``
and ``own_share`` are plain functions of its result. Throughout, ``share`` is the share of an image that stays its own;
``1 - share`` comes from its partner.

Sources: Zhao et al., "MixPro: Data Augmentation with MaskMix and Progressive Attention Labeling for Vision
Transformer", ICLR 2023; Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, equation 1;
Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019,
equations 1 and 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """What one batch undergoes; all tensors on the CPU.

    Attributes:
        kind: Which mixing it is.
        partner: B, int64; sample i is mixed with sample ``partner[i]``.
        share: B, float32, in [0, 1]: share of each image that stays its own, by area or in the blend.
        box: CutMix: top, bottom, left, right of the rectangle taken from the partner, in pixels.
        cells: MaskMix: B rows columns, bool; True where a cell stays the image's own.
        mask_patch: MaskMix: side of a cell in pixels; the last row and column may reach beyond the image.
    """

    kind: Literal["maskmix", "mixup", "cutmix"]
    partner: Tensor
    share: Tensor
    box: tuple[int, int, int, int] | None = None
    cells: Tensor | None = None
    mask_patch: int | None = None


class Mixer:
    """Draws which mixing a batch undergoes, from a generator of its own.

    Args:
        maskmix: Share of the batches that are put together from cells of two images.
        mixup: Share of the batches that are blended.
        cutmix: Share of the batches that receive a pasted rectangle; the rest stays unmixed.
        maskmix_alpha: Beta parameter of the share of cells that stay.
        mixup_alpha: Beta parameter of the blend.
        cutmix_alpha: Beta parameter of the rectangle's area.
        mask_patch: Side of a MaskMix cell in pixels; it divides the images' height and width.
        partner: ``permutation`` pairs images at random, some of them with themselves; ``flip`` pairs the first with
            the last, the second with the last but one, and so on, as timm does.
        seed: Seeds the generator; give each process its own.

    Raises:
        ValueError: A share is negative, they sum to more than 1, or MaskMix has no ``mask_patch``.
    """

    def __init__(
        self,
        *,
        maskmix: float,
        mixup: float,
        cutmix: float,
        maskmix_alpha: float,
        mixup_alpha: float,
        cutmix_alpha: float,
        mask_patch: int | None,
        partner: Literal["permutation", "flip"],
        seed: int,
    ) -> None:
        if min(maskmix, mixup, cutmix) < 0 or maskmix + mixup + cutmix > 1 + 1e-9:
            shares = f"maskmix={maskmix:g}, mixup={mixup:g} and cutmix={cutmix:g}"
            raise ValueError(f"{shares} are shares of the batches: none below 0, and at most 1 in sum")
        if maskmix > 0 and mask_patch is None:
            raise ValueError("maskmix needs a mask_patch: the side of its cells in pixels")
        self.maskmix, self.mixup, self.cutmix = maskmix, mixup, cutmix
        self.maskmix_alpha, self.mixup_alpha, self.cutmix_alpha = maskmix_alpha, mixup_alpha, cutmix_alpha
        self.mask_patch = mask_patch if maskmix > 0 else None
        self.partner = partner
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, batch_size: int, height: int, width: int) -> Mix | None:
        """Draw the mix of one batch of B images of H x W pixels; None leaves the batch as it is.

        Raises:
            ValueError: The mask patch does not divide the images, or a batch of this size cannot be paired.
        """
        self._check(batch_size, height, width)
        choice = self._uniform()
        if choice < self.maskmix:
            return self._draw_maskmix(batch_size, height, width)
        if choice < self.maskmix + self.mixup:
            return self._draw_mixup(batch_size)
        if choice < self.maskmix + self.mixup + self.cutmix:
            return self._draw_cutmix(batch_size, height, width)
        return None

    def _check(self, batch_size: int, height: int, width: int) -> None:
        problem = partner_problem(batch_size, self.partner, self.maskmix + self.mixup + self.cutmix)
        if problem and self.partner == "flip":  # a permutation mixes one image with itself, which leaves it as it is
            raise ValueError(f"{problem}; use an even batch size or partner=permutation")
        valid = valid_mask_patches((height, width), 1)
        if self.mask_patch is not None and self.mask_patch not in valid:
            raise ValueError(
                f"mask_patch={self.mask_patch} does not divide images of {height} x {width} pixels into cells; "
                f"these do: {', '.join(map(str, valid)) or 'none'}"
            )

    def _draw_maskmix(self, batch_size: int, height: int, width: int) -> Mix:
        assert self.mask_patch is not None
        share = self._beta(self.maskmix_alpha)
        partner = self._partner(batch_size)
        rows, columns = height // self.mask_patch, width // self.mask_patch
        kept = masked_cells(rows * columns, share)
        # Each row is a permutation of the cells, so that each sample keeps as many as the others, but other ones.
        order = torch.rand(batch_size, rows * columns, generator=self.generator, dtype=torch.float32).argsort(dim=1)
        cells = (order < kept).view(batch_size, rows, columns)
        own = _alike(batch_size, kept / (rows * columns))
        return Mix("maskmix", partner, own, cells=cells, mask_patch=self.mask_patch)

    def _draw_mixup(self, batch_size: int) -> Mix:
        share = self._beta(self.mixup_alpha)
        return Mix("mixup", self._partner(batch_size), _alike(batch_size, share))

    def _draw_cutmix(self, batch_size: int, height: int, width: int) -> Mix:
        share = self._beta(self.cutmix_alpha)
        partner = self._partner(batch_size)
        top, bottom, left, right = box = self._box(share, height, width)
        # The rectangle is cut off at the border, so its true area decides, not the drawn one.
        area = 1 - (bottom - top) * (right - left) / (height * width)
        return Mix("cutmix", partner, _alike(batch_size, area), box=box)

    def _partner(self, batch_size: int) -> Tensor:
        if self.partner == "flip":
            return torch.arange(batch_size).flip(0)
        return torch.randperm(batch_size, generator=self.generator)

    def _uniform(self) -> float:
        return torch.rand((), generator=self.generator, dtype=torch.float64).item()

    def _beta(self, alpha: float) -> float:
        # torch.distributions takes no generator; a ratio of Gamma draws is a Beta draw, and _standard_gamma does.
        first, second = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=self.generator)
        return (first / (first + second).clamp_min(torch.finfo(torch.float64).tiny)).item()

    def _box(self, share: float, height: int, width: int) -> tuple[int, int, int, int]:
        """A rectangle of the image's own aspect, of area ``1 - share``, around a uniform centre (CutMix, eq. 2)."""
        side = (1 - share) ** 0.5
        half_height, half_width = int(height * side) // 2, int(width * side) // 2
        row, column = int(self._uniform() * height), int(self._uniform() * width)
        return (
            max(row - half_height, 0),
            min(row + half_height, height),
            max(column - half_width, 0),
            min(column + half_width, width),
        )


def partner_problem(batch_size: int, partner: str, mixed: float) -> str | None:
    """Why the images of a batch cannot be mixed with one another; None if they can.

    Args:
        batch_size: Images in the batch.
        partner: How they are paired: ``permutation`` or ``flip``.
        mixed: Share of the batches that are mixed at all; 0 never has a problem.
    """
    if mixed <= 0:
        return None
    if batch_size == 1:
        return "a batch of 1 has no partner to mix with"
    if partner == "flip" and batch_size % 2:
        return f"a batch of {batch_size} cannot be paired by partner=flip, which needs an even number of images"
    return None


def masked_cells(cells: int, share: float) -> int:
    """How many of the cells stay an image's own: ``ceil(cells * share)``, so none only for a share of 0."""
    return math.ceil(cells * share)


def valid_mask_patches(image_size: tuple[int, int], patch: int) -> list[int]:
    """Mask patches that divide images of (height, width) and consist of whole image patches, ascending.

    One that is the whole image is none of them: a single cell is always its own, and nothing would be mixed.
    """
    side = math.gcd(*image_size)
    divide = (mask_patch for mask_patch in range(patch, side + 1, patch) if side % mask_patch == 0)
    return [mask_patch for mask_patch in divide if mask_patch < max(image_size)]


def _alike(batch_size: int, share: float) -> Tensor:
    # In float32 also where the default type is a shorter one, as under Lightning's bf16-true.
    return torch.full((batch_size,), share, dtype=torch.float32)


def mix_images(images: Tensor, mix: Mix) -> Tensor:
    """Mix images with their partners.

    Args:
        images: B C H W; any floating type, for MaskMix and CutMix any type; not modified.
        mix: What was drawn for this batch.

    Returns:
        B C H W, a new tensor of the same type, device and memory format.
    """
    partner = mix.partner.to(images.device)
    if mix.kind == "mixup":
        share = mix.share.to(images.device, images.dtype).view(-1, 1, 1, 1)
        return images[partner].lerp_(images, share)
    if mix.kind == "cutmix":
        assert mix.box is not None
        top, bottom, left, right = mix.box
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images[partner, ..., top:bottom, left:right]
        return mixed
    return _mix_cells(images, partner, mix)


def _mix_cells(images: Tensor, partner: Tensor, mix: Mix) -> Tensor:
    """Gather the images from runs of pixels: stretches of a row that lie within one cell.

    Each pixel is read once and written once, in one operation; neither a mask of pixels nor the batch of partners is
    ever made. The index holds one number for each run, and a run is a whole row of a cell where the cells divide the
    image.
    """
    assert mix.cells is not None
    assert mix.mask_patch is not None
    device, (height, width) = images.device, images.shape[-2:]
    channels_last = not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)
    # B planes H W depth, in the order of memory: the channels are either the planes or the depth.
    pixels = images.movedim(1, -1).unsqueeze(1) if channels_last else images.contiguous().unsqueeze(-1)
    planes, depth = pixels.shape[1], pixels.shape[-1]
    run = math.gcd(width, mix.mask_patch)
    runs = torch.arange(planes * height * (width // run), dtype=torch.int32, device=device)  # those of one image

    itself = torch.arange(len(images), device=device).view(-1, 1, 1)
    taken_from = torch.where(mix.cells.to(device), itself, partner.view(-1, 1, 1)).int()
    cell_row = torch.arange(height, device=device).unsqueeze(1) // mix.mask_patch
    cell_column = torch.arange(0, width, run, device=device) // mix.mask_patch
    first = (taken_from * len(runs))[:, cell_row, cell_column].unsqueeze(1)
    source = first + runs.view(planes, height, -1)  # B planes H runs
    mixed = pixels.reshape(-1, run * depth).index_select(0, source.flatten()).view(pixels.shape)
    return mixed.squeeze(1).movedim(-1, 1) if channels_last else mixed.squeeze(-1)


def own_share(mix: Mix, grid: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """How much of each cell of an attention grid is the image's own.

    MaskMix: the share of the cell's area, which is 0 or 1 where mask patches consist of whole cells. CutMix: whether
    the pixel at the cell's upper left corner is its own (nearest resizing of the mask, as in TransMix). MixUp: the
    blend, everywhere alike.

    Args:
        mix: What was drawn for the batch.
        grid: Rows and columns of the attention grid.
        image_size: Height and width of the images in pixels.

    Returns:
        B N, float32 in [0, 1], N = rows * columns in reading order; on the CPU.
    """
    batch_size, (rows, columns) = len(mix.partner), grid
    if mix.kind == "mixup":
        return mix.share.unsqueeze(1).expand(-1, rows * columns)
    height, width = image_size
    if mix.kind == "cutmix":
        assert mix.box is not None
        top, bottom, left, right = mix.box
        first_row = torch.arange(rows) * height // rows
        first_column = torch.arange(columns) * width // columns
        pasted_row = (first_row >= top) & (first_row < bottom)
        pasted_column = (first_column >= left) & (first_column < right)
        own = ~(pasted_row.unsqueeze(1) & pasted_column)
        return own.flatten().float().expand(batch_size, -1)
    assert mix.cells is not None
    assert mix.mask_patch is not None
    row_overlap = _overlap(rows, mix.cells.shape[1], mix.mask_patch, height)
    column_overlap = _overlap(columns, mix.cells.shape[2], mix.mask_patch, width)
    return (row_overlap @ mix.cells.double() @ column_overlap.T).flatten(1).float()


def _overlap(intervals: int, cells: int, mask_patch: int, length: int) -> Tensor:
    """Share of each of ``intervals`` equal parts of ``length`` pixels that each mask cell covers: intervals x cells."""
    # In units of 1 / intervals of a pixel all edges are whole numbers, so that full cover is exactly 1. Double
    # precision is what autocast leaves alone.
    edges = torch.arange(intervals + 1).unsqueeze(1) * length
    cell_edges = (torch.arange(cells + 1) * mask_patch).clamp_max(length) * intervals
    covered = torch.minimum(edges[1:], cell_edges[1:]) - torch.maximum(edges[:-1], cell_edges[:-1])
    return covered.clamp_min(0).double() / length
