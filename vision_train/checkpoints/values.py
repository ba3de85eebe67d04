"""Values as configuration files and checkpoints write them, read with care: what has another type is None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

LARGEST = 2**31
"""Larger numbers are no sizes, shares or indices, and may be too large for floats."""


class Normalisation(NamedTuple):
    """Mean and deviation of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    in_bytes: bool
    """They were written for pixels up to 255."""


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping; empty for anything else."""
    return value if isinstance(value, Mapping) else {}


def text(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def number(value: Any) -> float | None:
    """A finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        return None
    return float(value)


def whole_number(value: Any) -> int | None:
    """A whole number; true and false are none."""
    return value if isinstance(value, int) and number(value) is not None else None


def channels(mean: Any, std: Any) -> Normalisation | None:
    """Mean and deviation of three channels; None for those of other channels, and for those of no scale we know."""
    found = []
    for values in (mean, std):
        if not isinstance(values, list | tuple) or len(values) != 3:
            return None
        read = tuple(each for each in map(number, values) if each is not None)
        if len(read) != 3:
            return None
        found.append(read)
    mean, std = found
    if min(std) <= 0 or max(*mean, *std) > 255 or (max(mean) > 1 and min(std) <= 1):
        return None
    # No images in [0, 1] deviate by more than 0.5.
    scale = 255 if min(std) > 1 else 1
    return Normalisation(tuple(each / scale for each in mean), tuple(each / scale for each in std), scale == 255)


def size(value: Any) -> int | tuple[int, int] | None:
    """Side of a square, or height and width."""
    if isinstance(value, Mapping):
        sides = [value.get("height"), value.get("width")] if "height" in value else [value.get("shortest_edge")] * 2
    elif isinstance(value, list | tuple):
        sides = [*value]
    else:
        sides = [value, value]
    whole = [side for side in map(whole_number, sides) if side is not None and side > 0]
    if len(sides) != 2 or len(whole) != 2:
        return None
    height, width = whole
    return height if height == width else (height, width)


def class_names(value: Any, *, to_index: bool | None = None) -> list[str] | None:
    """Names of classes in the order of the outputs.

    Args:
        value: A list, a mapping of outputs to names, or one of names to outputs. Names may be whole numbers.
        to_index: Whether a mapping goes from names to outputs where both would be possible. None where the key that it
            stands under does not say; a text is then taken for a name where it belongs to a whole number.
    """
    if isinstance(value, Mapping):
        value = _in_order(value, to_index)
    if not isinstance(value, list | tuple):
        return None
    names = [str(name) for name in value if isinstance(name, str) or whole_number(name) is not None]
    return names if names and len(set(names)) == len(names) == len(value) else None


def _in_order(value: Mapping[Any, Any], to_index: bool | None) -> list[Any] | None:
    by_name = {place: name for name, each in value.items() if (place := whole_number(each)) is not None}
    by_output = {place: name for key, name in value.items() if (place := _index(key)) is not None}
    if to_index is None:
        if all(whole_number(key) is not None and whole_number(name) is not None for key, name in value.items()):
            return None  # either way round
        to_index = all(isinstance(key, str) for key in value)
    for numbered in (by_name, by_output) if to_index else (by_output, by_name):
        if len(numbered) == len(value) and sorted(numbered) == list(range(len(value))):
            return [numbered[place] for place in range(len(value))]
    return None


def _index(key: Any) -> int | None:
    """The number of an output; JSON has no other keys than texts."""
    return int(key) if isinstance(key, str) and key.isdecimal() and len(key) < 10 else whole_number(key)
