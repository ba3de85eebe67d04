"""The keys of ``data.crop``, for kinds of data whose boxes follow a crop."""

from __future__ import annotations

from dataclasses import dataclass, field

from vision_train.data.kind import Problems


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A random part of some of the training images: resized, cropped, resized to one of `data.scales`."""

    probability: float = 0.5
    """Share of the images that are cropped; the others are resized as a whole."""
    short_sides: list[int] = field(default_factory=lambda: [400, 500, 600])
    """Short sides of the whole image before the crop, of which one is drawn."""
    sides: tuple[int, int] = (384, 600)
    """Smallest and largest width and height of the crop, in pixels of the image of that short side."""

    def problems(self) -> Problems:
        """Yield values outside their range."""
        if not 0 <= self.probability <= 1:
            yield "probability", f"is {self.probability}; must lie between 0 and 1"
        if not self.short_sides or min(self.short_sides) < 1:
            yield "short_sides", f"is {self.short_sides}; name at least one side of 1 pixel or more"
        if not 1 <= self.sides[0] <= self.sides[1]:
            yield "sides", f"is {list(self.sides)}; needs 1 <= smallest <= largest"
