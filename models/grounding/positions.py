"""Learned positions of a sequence of [REG], words and cells, brought to other lengths of text and sizes of images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from models.positions import fit_positions

PUBLISHED_LENGTHS = (20, 40)
"""Tokens of a text in published files: of most data sets, and of RefCOCOg."""
REG, TEXT, VISUAL = "fusion.reg_position", "fusion.text_positions", "fusion.visual_positions"
"""Names of the parts in our network."""


class Layout(NamedTuple):
    """What a network has positions for."""

    text_length: int
    """Tokens of a text, L."""
    grid: tuple[int, int]
    """Rows and columns of cells, N together."""


def split_table(table: Tensor, wanted: Layout) -> dict[str, Tensor]:
    """Split the official table into its parts, which no tensor says the lengths of.

    Args:
        table: (1 + L + N) x D: [REG], words, cells.
        wanted: Of the network that it is for, which the file may share one or both of.

    Returns:
        The parts by our names, as views.

    Raises:
        ValueError: The lengths are unknown.
    """
    cells, rest = wanted.grid[0] * wanted.grid[1], len(table) - 1
    known = dict.fromkeys((wanted.text_length, *PUBLISHED_LENGTHS))
    if rest == wanted.text_length + cells:
        lengths = [wanted.text_length]
    else:
        lengths = [each for each in known if _is_square(rest - each)] or [rest - cells]
    if len(lengths) > 1 or lengths[0] < 1:
        raise ValueError(
            f"its vl_pos_embed has {len(table)} rows, and nothing says how many of them are of words: with "
            f"{' or '.join(map(str, known))} words {'several' if len(lengths) > 1 else 'no'} squares of cells remain"
        )
    end = 1 + lengths[0]
    return {REG: table[:1], TEXT: table[1:end], VISUAL: table[end:]}


def fit_tables(named: Mapping[str, Tensor], wanted: Layout) -> tuple[dict[str, Tensor], list[str]]:
    """Bring positions of words and cells to the lengths of a network.

    Those of words that are too many are left out; those that are lacking are zeros (our choice). Those of cells are
    resized bicubically.

    Args:
        named: Weights by our names.
        wanted: Of the network.

    Returns:
        Those that were changed, and sentences on them.

    Raises:
        ValueError: The cells of the file form no square.
    """
    fitted: dict[str, Tensor] = {}
    notes = []
    words, cells = named.get(TEXT), named.get(VISUAL)
    if words is not None and len(words) != wanted.text_length:
        fitted[TEXT] = functional.pad(words, (0, 0, 0, max(wanted.text_length - len(words), 0)))[: wanted.text_length]
        what = "the others are left out" if len(words) > wanted.text_length else "the others begin with zeros"
        notes.append(
            f"the file has positions for {len(words)} tokens of text, the network for {wanted.text_length}; {what}"
        )
    if cells is not None and len(cells) != wanted.grid[0] * wanted.grid[1]:
        if not _is_square(len(cells)):
            raise ValueError(
                f"its {len(cells)} positions of cells form no square, and the grid that they are of is unknown"
            )
        side = math.isqrt(len(cells))
        fitted[VISUAL] = fit_positions(cells[None], wanted.grid, prefix=0, before=(side, side))[0]
        grid = " x ".join(map(str, wanted.grid))
        notes.append(f"positions of {side} x {side} cells are resized to {grid}: the file is of another image size")
    return fitted, notes


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number
