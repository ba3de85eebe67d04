"""Fonts for text that is drawn as pixels: one that matplotlib brings, and those of the system for what it lacks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import ImageFont

PACKAGES = {
    "fonts-noto-cjk": "\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
    "\U00020000-\U0003ffff",
    "fonts-symbola": "\u2190-\u2bff\U0001f000-\U0001faff",
    "fonts-noto-core": "\u0000-\U0010ffff",
}
"""Package of Debian and Ubuntu -> characters that its fonts draw; the first that fits is named."""


def font(size: int, text: str = "", *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A font with the glyphs of a text.

    DejaVu Sans, as it comes with matplotlib, where it has them: Pillow's own font has no accents, no Greek and no
    Cyrillic. Else the font of the system that has most of those that it lacks.

    Args:
        size: In pixels.
        text: What will be drawn.
        bold: Prefer a bold one.
    """
    lacking = _lacking([text])
    return _loaded((_best(lacking, text, bold=bold) if lacking else None) or _bundled(bold=bold), size)


def remarks_on_glyphs(texts: Iterable[str]) -> list[str]:
    """A sentence on characters of texts that no font of this system has, and which package brings one; or nothing."""
    lacking = _lacking(texts)
    unknown = sorted(lacking.difference(*(characters(path) for path in (system_fonts() if lacking else ()))))
    if not unknown:
        return []
    packages = dict.fromkeys(
        next(name for name, those in PACKAGES.items() if re.match(f"[{those}]", character)) for character in unknown
    )
    shown = " ".join(unknown[:10]) + (f", ... ({len(unknown)} in all)" if len(unknown) > 10 else "")
    return [
        f"no font of this system has the characters {shown}, which are drawn as empty rectangles; the package "
        f"{' and '.join(packages)} of Debian and Ubuntu brings one"
    ]


@cache
def system_fonts() -> tuple[Path, ...]:
    """Scalable fonts of the system, upright and sans serif first."""
    from matplotlib.font_manager import findSystemFonts

    def rank(path: Path) -> tuple[bool, bool, str]:
        name = path.name.lower()
        return bool(re.search("italic|oblique|mono|condensed", name)), "sans" not in name, str(path)

    return tuple(sorted({Path(path) for path in findSystemFonts()}, key=rank))


@cache
def characters(path: Path) -> frozenset[str]:
    """Characters that a font has glyphs for; none for a font of one size, as of coloured pictures."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(str(path))
        if not face.scalable:
            return frozenset()
        return frozenset(map(chr, face.get_charmap()))
    except (OSError, RuntimeError):  # damaged, or in a format that FreeType does not know
        return frozenset()


def families_for(texts: Iterable[str]) -> list[str]:
    """Names of font families that together draw texts, for matplotlib, which falls back from one to the next."""
    from matplotlib.font_manager import fontManager, get_font

    found = dict.fromkeys(_best(frozenset(character), character, bold=False) for character in sorted(_lacking(texts)))
    families = []
    for path in filter(None, found):
        fontManager.addfont(path)
        families.append(get_font(path).family_name)
    return families


def _lacking(texts: Iterable[str]) -> frozenset[str]:
    """Visible characters that the bundled font has not."""
    unknown = frozenset("".join(texts)) - characters(_bundled(bold=False))
    return frozenset(character for character in unknown if character.isprintable())


def _best(lacking: frozenset[str], text: str, *, bold: bool) -> Path | None:
    """The font of the system that has most of what the bundled one lacks, and then most of the text."""
    best, most = None, (0, 0)
    for path in sorted(system_fonts(), key=lambda path: ("bold" in path.name.lower()) != bold):
        known = characters(path)
        if (held := (len(lacking & known), len(frozenset(text) & known))) > most and held[0]:
            best, most = path, held
    return best


@cache
def _bundled(*, bold: bool) -> Path:
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path(), "fonts", "ttf", name)


@cache
def _loaded(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
