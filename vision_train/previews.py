"""What is drawn on and beside images of samples: likely labels, boxes, shared labels, and previews made of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An image, H W 3."""


@dataclass(frozen=True)
class Bars:
    """The likeliest labels of an image, to be drawn below it."""

    bars: list[tuple[str, float]]
    """Label and probability, likeliest first."""


@dataclass(frozen=True, eq=False)
class BoxesOnImage:
    """Boxes on an image, each of a class."""

    corners: NDArray[np.float64]
    """n x 4: left, top, right, bottom in pixels of the image that they are drawn on; they may reach beyond it."""
    class_ids: NDArray[np.int64]
    """n."""
    classes: Sequence[str]
    """Name of each class."""
    scores: NDArray[np.float64] | None = None
    """n, in [0, 1], falling; None where boxes are the truth."""
    least: NDArray[np.float64] | None = None
    """Score that boxes of each class need to be among these; None where nothing is left out."""
    part: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom of the part of the image that the boxes are of; None for all of it."""


OWN, PARTNER = (35, 96, 197), (232, 139, 26)
"""Colours of an image's own pixels and label, and of those of the image that it is mixed with."""


@dataclass(frozen=True)
class LabelPanel:
    """How a training image shares its label with another one that it is mixed with."""

    title: str
    """What was done, such as ``MaskMix``."""
    label: str
    partner: str = ""
    """Name of the other image; empty if there is none."""
    partner_label: str = ""
    shares: dict[str, float] = field(default_factory=dict)
    """Way of sharing the label -> the share that stays with the image's own."""


@dataclass(frozen=True)
class PreviewRow:
    """One training sample on its way into the network."""

    id: str
    pictures: dict[str, Pixels]
    """Heading of a column -> H W 3."""
    captions: dict[str, str] = field(default_factory=dict)
    """Heading of a column -> small text below the picture."""
    panel: LabelPanel | None = None
    boxes: dict[str, BoxesOnImage] = field(default_factory=dict)
    """Heading of a column -> boxes on its picture, in pixels of that; ``original`` heads the image as on disk."""


@dataclass(frozen=True)
class Preview:
    """What training sees, one sample a row."""

    summary: str
    rows: list[PreviewRow]
    notes: list[str] = field(default_factory=list)
