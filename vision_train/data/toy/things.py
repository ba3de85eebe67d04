"""What is on a drawn scene that is described in words."""

from __future__ import annotations

from dataclasses import dataclass

from vision_train.data.toy.scenes import Box

COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "square", "triangle")
SIZES = ("small", "large")


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing with its attributes."""

    colour: str
    shape: str
    size: str
    box: Box
    """Around what is drawn of it."""

    @property
    def centre(self) -> tuple[float, float]:
        """x, y in pixels."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2


def attributes(thing: Thing) -> list[tuple[str, ...]]:
    """The ways to describe a thing by its attributes: its shape, with or without size and colour before it."""
    return [
        (thing.shape,),
        (thing.colour, thing.shape),
        (thing.size, thing.shape),
        (thing.size, thing.colour, thing.shape),
    ]
