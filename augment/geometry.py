"""Views of an image, and the steps that move its pixels: resize, crop, flip and pad, with boxes and an exact affine.

Coordinates are continuous: the edges of the pixels of an image of width W lie at 0, 1, ..., W, so that resizing is a
pure scale and mirroring maps x to W - x. Everything about coordinates is float64. torchvision's kernels for boxes are
not used: its resize multiplies by ratios in float32, and its centre crop of an image that needs uneven padding puts
boxes one pixel beside the image. The results agree otherwise.

As in torchvision's v2 transforms, no step drops a box. A crop clips all of them, and one that it cuts away is left
with an area of zero at the border; :func:`drop_cut_boxes` drops those and says which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

Pixels = NDArray[np.uint8]
"""H W 3."""
Affine = NDArray[np.float64]
"""3 x 3, applied to columns (x, y, 1)."""
Boxes = NDArray[np.float64]
"""n x 4: x1, y1, x2, y2 in pixels."""
Interpolation = Literal["bilinear", "bicubic"]
Size = int | tuple[int, int]
"""Height and width, or the side of a square."""

_OTHER_SIDE = {"left": "right", "right": "left"}
_SIDES = re.compile(r"\b(?:left|right)(?=(?:most|hand)?\b)", re.IGNORECASE)
"""The part of `left`, `leftmost`, `left-hand` and `lefthand` that says the side, and of the same for `right`."""

IDENTITY: Affine = np.eye(3)
"""Moves nothing; cannot be written to, so that all views can share it."""
IDENTITY.setflags(write=False)

Content = TypeVar("Content", Pixels, torch.Tensor)
Other = TypeVar("Other", Pixels, torch.Tensor)


@dataclass(frozen=True, eq=False, slots=True)
class View(Generic[Content]):
    """An image on its way into a network, with what has to follow its pixels.

    Attributes:
        image: H W 3 uint8; after normalisation a tensor 3 H W, float32.
        affine: Maps pixels of the original image to those of this view; None once a step has moved pixels in a way
            that is not tracked.
        boxes: In pixels of this view; None where the image has none. No boxes are an array of shape 0 x 4.
        text: What is said about the image; None where nothing is.
        original_size: Height and width of the original image, where it was decoded at a fraction of them; None where
            ``image`` had all of its pixels.
    """

    image: Content
    affine: Affine | None
    boxes: Boxes | None = None
    text: str | None = None
    original_size: tuple[int, int] | None = None

    @staticmethod
    def whole(pixels: Pixels, boxes: Boxes | None = None, text: str | None = None) -> View[Pixels]:
        """The original image, H W 3, with boxes in its own pixels."""
        return View(pixels, IDENTITY, boxes, text)

    @property
    def whole_size(self) -> tuple[int, int]:
        """Height and width of an image that no step has moved yet, in its original pixels."""
        height, width = self.image.shape[:2] if self.original_size is None else self.original_size
        return height, width


def height_and_width(size: Size) -> tuple[int, int]:
    """A size as height and width."""
    return (size, size) if isinstance(size, int) else size


def resize(view: View[Pixels], size: tuple[int, int], interpolation: Interpolation) -> View[Pixels]:
    """Antialiased resize to ``size`` (height, width), as in training."""
    return moved(view, resize_pixels(view.image, size, interpolation), scale_to(view.image, size), size)


def resize_pixels(image: Pixels, size: tuple[int, int], interpolation: Interpolation) -> Pixels:
    """Antialiased resize of bare pixels, within 2 of 255 levels of Pillow's and several times as fast."""
    pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    resized = interpolate(pixels, size, mode=interpolation, antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def crop(view: View[Pixels], left: int, top: int, right: int, bottom: int) -> View[Pixels]:
    """Cut out a rectangle of pixels and clip all boxes to it.

    Raises:
        ValueError: The rectangle is empty or reaches beyond the view.
    """
    height, width = view.image.shape[:2]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        corners = f"({left}, {top}) to ({right}, {bottom})"
        raise ValueError(f"a crop from {corners} does not lie within {width} x {height} pixels; pad first")
    return moved(view, view.image[top:bottom, left:right], translation(-left, -top), (bottom - top, right - left))


def center_crop(view: View[Pixels], size: Size) -> View[Pixels]:
    """Cut out the middle; what is smaller is padded with black first, as torchvision does."""
    (rows, columns), (height, width) = height_and_width(size), view.image.shape[:2]
    missing_rows, missing_columns = max(rows - height, 0), max(columns - width, 0)
    if missing_rows or missing_columns:
        left, top = missing_columns // 2, missing_rows // 2
        view = pad(view, left, top, missing_columns - left, missing_rows - top)
        height, width = view.image.shape[:2]
    left, top = round((width - columns) / 2), round((height - rows) / 2)
    return crop(view, left, top, left + columns, top + rows)


def horizontal_flip(view: View[Pixels]) -> View[Pixels]:
    """Mirror left and right, in the text too (:func:`mirrored_text`)."""
    return moved(view, view.image[:, ::-1].copy(), mirror(view.image.shape[1]), view.image.shape[:2])


def pad(view: View[Pixels], left: int, top: int, right: int, bottom: int, fill: int = 0) -> View[Pixels]:
    """Add so many rows and columns of the grey level ``fill`` at each side."""
    padded = np.pad(view.image, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
    return moved(view, padded, translation(left, top), padded.shape[:2])


def moved(view: View[Pixels], image: Other, step: Affine, size: tuple[int, int]) -> View[Other]:
    """The view after a step that moved its pixels: affine, boxes and text follow.

    Args:
        view: Before the step.
        image: The image after it.
        step: Maps pixels before the step to those after it.
        size: Height and width after it; boxes are clipped to them.
    """
    affine, boxes, text = view.affine, view.boxes, view.text
    if affine is not None:
        affine = step if affine is IDENTITY else step @ affine  # most views take one step, and most have no boxes
    if boxes is not None:
        boxes = clip_boxes(map_boxes(boxes, step), size)[0]
    if text is not None and step[0, 0] < 0:
        text = mirrored_text(text)
    return View(image, affine, boxes, text)


def mirrored_text(text: str) -> str:
    """What an English text says about the mirrored image: left and right change places, as whole words.

    `bright` and `upright` stay as they are. Mirroring twice gives the text again; of a word in mixed case, such as
    `lEFT`, in small letters. Texts in other languages stay as they are, so images with such texts cannot be mirrored.
    """
    return _SIDES.sub(lambda found: _in_case_of(found[0], _OTHER_SIDE[found[0].casefold()]), text)


def _in_case_of(model: str, word: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word


def scale(x: float, y: float) -> Affine:
    """Multiply x and y."""
    return np.array([[x, 0, 0], [0, y, 0], [0, 0, 1]], dtype=np.float64)


def scale_to(image: Pixels, size: tuple[int, int]) -> Affine:
    """Bring an image to this height and width."""
    return scale(size[1] / image.shape[1], size[0] / image.shape[0])


def whole_of(rectangle: tuple[int, int, int, int], size: tuple[int, int], *, mirrored: bool = False) -> Affine:
    """Make a rectangle (left, top, right, bottom) a whole image of this height and width, and mirror that if asked."""
    left, top, right, bottom = rectangle
    x, y = size[1] / (right - left), size[0] / (bottom - top)
    across = [-x, 0, size[1] + x * left] if mirrored else [x, 0, -x * left]
    return np.array([across, [0, y, -y * top], [0, 0, 1]], dtype=np.float64)


def translation(x: float, y: float) -> Affine:
    """Add to x and y."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64)


def mirror(width: float) -> Affine:
    """Mirror an image of this width: x becomes ``width - x``."""
    return np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]], dtype=np.float64)


def invert(affine: Affine) -> Affine:
    """The affine of the way back.

    Raises:
        ValueError: There is none: the affine maps the plane to a line or a point.
    """
    try:
        inverse: Affine = np.linalg.inv(affine).astype(np.float64, copy=False)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"the affine {affine.tolist()} cannot be inverted") from error
    inverse[2] = 0, 0, 1  # exactly, which rounding may have missed
    return inverse


def map_points(points: NDArray[np.float64], affine: Affine) -> NDArray[np.float64]:
    """Map points (n 2: x, y) by an affine."""
    return points @ affine[:2, :2].T + affine[:2, 2]


def map_boxes(boxes: Boxes, affine: Affine) -> Boxes:
    """Map boxes by an affine; one that turns or shears gives the smallest upright boxes around the mapped corners."""
    corners = map_points(boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]], affine)  # n 4 2
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def clip_boxes(boxes: Boxes, size: tuple[float, float]) -> tuple[Boxes, NDArray[np.float64]]:
    """Clip boxes to an image.

    Args:
        boxes: In pixels of the image.
        size: Height and width of the image.

    Returns:
        The boxes in their order, those that lie outside with an area of zero at the border; and the share of its area
        that each keeps (n), 0 for boxes without area.
    """
    height, width = size
    clipped = np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float64))
    return clipped, _share(clipped, boxes)


class Followed(NamedTuple):
    """Boxes carried from one view of an image into another."""

    boxes: Boxes
    """n x 4, in their order, clipped to the other view."""
    visible: NDArray[np.bool_]
    """n, whether the centre lies inside and enough of the area is left."""
    tight: NDArray[np.bool_]
    """n, whether the upright box is hardly larger than what was mapped."""


def follow_boxes(
    boxes: Boxes, affine: Affine, size: tuple[int, int], *, least_share: float = 0.5, loosest: float = 1.3
) -> Followed:
    """Carry boxes along an affine into a view; they are clipped last, after the smallest upright boxes are known.

    Args:
        boxes: n x 4, as they are, also where they reach beyond the view that they come from.
        affine: From that view to the other one.
        size: Height and width of the other view.
        least_share: A box is visible if at least this share of its upright box lies inside.
        loosest: Largest area of an upright box over that of the mapped box which still says where the object is.
    """
    upright = map_boxes(boxes, affine)
    clipped, share = clip_boxes(upright, size)
    centres = (upright[:, :2] + upright[:, 2:]) / 2
    inside = ((centres >= 0) & (centres <= np.array([size[1], size[0]], dtype=np.float64))).all(axis=1)
    # An affine maps a box to a parallelogram, whose area grows by the determinant.
    mapped = _areas(boxes) * abs(float(np.linalg.det(affine[:2, :2])))
    return Followed(clipped, inside & (share >= least_share), _areas(upright) <= loosest * mapped)


def drop_cut_boxes(view: View[Content], original: Boxes, min_share: float) -> tuple[View[Content], NDArray[np.bool_]]:
    """Drop the boxes of which crops have left too little.

    Args:
        view: With boxes that crops have clipped, however many there were.
        original: The same boxes in pixels of the original image, in the same order.
        min_share: A box stays if at least this share of its area is left, and any area at all.

    Returns:
        The view with the boxes that stay, and which of the boxes these are (n, True for those), so that labels can be
        dropped with them.

    Raises:
        ValueError: The view has other boxes than the original, or its affine is unknown.
    """
    if view.affine is None or view.boxes is None or len(view.boxes) != len(original):
        raise ValueError("the boxes of a view can be compared with the original ones if it has as many and an affine")
    share = _share(view.boxes, map_boxes(original, view.affine))
    kept = (share > 0) & (share >= min_share)
    return View(view.image, view.affine, view.boxes[kept], view.text), kept


def _share(part: Boxes, whole: Boxes) -> NDArray[np.float64]:
    area = _areas(whole)
    return np.divide(_areas(part), area, out=np.zeros_like(area), where=area > 0)


def _areas(boxes: Boxes) -> NDArray[np.float64]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
