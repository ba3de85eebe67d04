"""The page that reports share: one self-contained HTML file, and the pieces it is made of.

Every function returns markup and escapes the text it is given. A content security policy in the page itself refuses
anything from outside the file and any script but ours.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_train import __version__
from vision_train.report.formats import format_cell

STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")


@dataclass(frozen=True)
class Section:
    """A headed part of the page; ``body`` is markup."""

    title: str
    body: str

    @property
    def anchor(self) -> str:
        """Name to link to."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Tile:
    """One number at the head of the page."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than its text."""

    text: str
    value: float | None = None
    """The number that the text stands for; the column sorts by it."""
    fault: bool = False
    """Coloured, so that it is not overlooked."""
    href: str = ""
    """Relative address that the text leads to."""


def escape(value: object) -> str:
    """Text as markup, in content and in quoted attributes alike."""
    return html.escape(str(value), quote=True)


def breakable(value: object) -> str:
    """Escaped text that may break after the separators of file and class names."""
    return re.sub(r"([_/])(?=\w)", r"\1<wbr>", escape(value))


def page(title: str, header: str, sections: Sequence[Section]) -> str:
    """Assemble the file.

    Args:
        title: Plain text for the window.
        header: Markup above the sections.
        sections: Parts in reading order; those with an empty body are left out.
    """
    sections = [section for section in sections if section.body]
    links = "".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in sections)
    parts = "\n".join(
        f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>\n{section.body}\n</section>'
        for section in sections
    )
    script = SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main class="sheet">
<header>
{header}
</header>
<nav aria-label="Sections">{links}</nav>
{parts}
<footer>Written by vision-train {escape(__version__)}.</footer>
</main>
<script>{script}</script>
</body>
</html>
"""


def notice(text: str, fault: bool = False) -> str:
    """A remark that must not be overlooked; a fault is coloured as one."""
    return f'<p class="notice{" fault" if fault else ""}" role="note">{escape(text)}</p>'


def note(text: str) -> str:
    """A small remark below something; nothing for no text."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def block(title: str, body: str, remark: str = "") -> str:
    """Markup under a small heading."""
    return f'<div class="block"><h3>{escape(title)}</h3>{body}{note(remark)}</div>'


def pair(blocks: Iterable[str]) -> str:
    """Blocks side by side where the window is wide enough."""
    joined = "\n".join(blocks)
    return f'<div class="pair">{joined}</div>' if joined else ""


def tiles(items: Iterable[Tile]) -> str:
    """Headline numbers, the first one large."""
    parts = []
    for index, tile in enumerate(items):
        remark = f'<dd class="note">{escape(tile.note)}</dd>' if tile.note else ""
        lead = " lead" if index == 0 else ""
        parts.append(
            f'<div class="tile{lead}"><dt>{escape(tile.label)}</dt><dd>{escape(tile.value)}</dd>{remark}</div>'
        )
    return f'<dl class="tiles">{"".join(parts)}</dl>' if parts else ""


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], remark: str = "") -> str:
    """A table that sorts by a click on a heading.

    Columns of numbers are aligned to the right; a column of three or more shares (fractions in [0, 1]) gets a bar
    in each cell. Long tables scroll. A value may be a :class:`Cell`.
    """
    kinds = [_column_kind([row[index] for row in rows if index < len(row)]) for index in range(len(columns))]
    head = "".join(
        f'<th scope="col"{_alignment(kind)}>{escape(column)}</th>' for column, kind in zip(columns, kinds, strict=True)
    )
    body = "\n".join(
        "<tr>" + "".join(_cell(value, kind) for value, kind in zip(row, kinds, strict=False)) + "</tr>" for row in rows
    )
    return (
        f'<div class="block"><div class="scroll" tabindex="0"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>{note(remark)}</div>"
    )


def _column_kind(values: list[Any]) -> str:
    known = [value for value in values if value is not None]
    if any(isinstance(value, Cell) for value in known):
        known = [value.value if isinstance(value, Cell) else value for value in known]
        return "text" if any(value is None or isinstance(value, str) for value in known) else "number"
    if not known or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return "text"
    shares = len(known) > 2 and any(isinstance(value, float) for value in known)
    return "share" if shares and all(math.isnan(value) or 0 <= value <= 1 for value in known) else "number"


def _alignment(kind: str) -> str:
    return "" if kind == "text" else ' class="number"'


def _cell(value: Any, kind: str) -> str:
    if isinstance(value, Cell):
        return _marked_cell(value, kind)
    if kind == "text" or value is None:
        return f"<td{_alignment(kind)}>{breakable(format_cell(value))}</td>"
    if kind == "number" or math.isnan(value):
        return f'<td class="number" data-value="{value}">{escape(format_cell(value))}</td>'
    return f'<td class="number share" data-value="{value}" style="--share:{value:.3f}">{value:.3f}</td>'


def _marked_cell(cell: Cell, kind: str) -> str:
    classes = " ".join(filter(None, ("number" if kind == "number" else "", "fault" if cell.fault else "")))
    style = f' class="{classes}"' if classes else ""
    sorts = "" if cell.value is None else f' data-value="{cell.value}"'
    text = breakable(cell.text)
    if cell.href:
        text = f'<a href="{escape(cell.href)}">{text}</a>'
    return f"<td{style}{sorts}>{text}</td>"


def facts(values: Mapping[str, Any]) -> str:
    """Names and values, one a line."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(format_cell(value))}</dd>" for name, value in values.items())
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def compact_facts(values: Mapping[str, Any]) -> str:
    """Many short names and values in newspaper columns."""
    rows = "".join(
        f'<div class="row"><dt>{escape(name)}</dt><dd>{escape(format_cell(value))}</dd></div>'
        for name, value in values.items()
    )
    return f'<div class="columns"><dl class="facts">{rows}</dl></div>' if rows else ""


def details(summary: str, body: str) -> str:
    """Markup folded away behind a line."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def listing(lines: Iterable[str]) -> str:
    """Lines of text as they are."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


YAML_LINE = re.compile(r"^(?P<lead>[\s-]*)(?P<key>[^\s#:][^:#]*:)?(?P<value>(?:[^#]|(?<!\s)#)*)(?P<comment>#.*)?$")


def yaml_listing(text: str) -> str:
    """A YAML file with keys, values and comments set apart."""
    lines = "\n".join(_yaml_line(line) for line in text.rstrip().splitlines())
    return f"<pre>{lines}</pre>"


def _yaml_line(line: str) -> str:
    match = YAML_LINE.match(line)
    if match is None:
        return escape(line)
    spans = [escape(match["lead"])]
    for name, style in (("key", "k"), ("value", "v"), ("comment", "c")):
        if match[name]:
            spans.append(f'<span class="{style}">{escape(match[name])}</span>')
    return "".join(spans)
