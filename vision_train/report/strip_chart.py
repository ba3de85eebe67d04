"""Values of several runs as dots on a strip for each arm, with their mean and its interval, as inline SVG."""

from __future__ import annotations

from markupsafe import Markup, escape

from vision_train.report.charts import COLOURS, Strip, StripChart
from vision_train.report.formats import NumberFormat
from vision_train.report.line_chart import Scale, tick_label, ticks
from vision_train.report.rendering import as_markup, render

WIDTH = 480
LEFT, RIGHT = 14, 466
NAME, STRIP, ROW = 18, 36, 58
"""Within a row: baseline of the name, middle of the strip, height of the whole, in pixels."""
SCATTER = (0.0, -4.5, 4.5, -2.2, 2.2)
"""Heights at which dots take turns, so that equal values are seen to be several."""


def strip_chart(chart: StripChart) -> Markup:
    """Draw strips one below another over a common axis.

    Returns:
        A ``figure``.
    """
    strips, written = chart.strips, chart.written
    everything = [value for strip in strips for value in (*strip.values, *(strip.interval or ()))]
    low, high = min(everything), max(everything)
    if chart.difference:
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.04 * (high - low) or 0.02 * abs(high) or 1.0
    marks = ticks(*_kept(low - room, high + room, chart.bounded and 0 <= low <= high <= 1))
    scale = Scale(marks[0], marks[-1], LEFT, RIGHT)
    bottom = ROW * len(strips) + 4
    parts = [f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{bottom}" y2="{bottom}"/>']
    for mark in marks:
        x = scale(mark)
        kind = "zero" if mark == 0 and low < 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(tick_label(mark, written))}</text>'
        )
    parts += [_strip(strip, row * ROW, scale, written) for row, strip in enumerate(strips)]
    parts.append(f'<text x="{RIGHT}" y="{bottom + 34}" text-anchor="end">{escape(chart.x_label)}</text>')
    means = "; ".join(f"{strip.name} {written(strip.mean)}" for strip in strips)
    return render(
        "strip_chart.html",
        chart=chart,
        size=(WIDTH, bottom + 40),
        summary=f"{chart.title}: {means}",
        body=as_markup("".join(parts)),
    )


def _kept(low: float, high: float, bounded: bool) -> tuple[float, float]:
    return (max(low, 0.0), min(high, 1.0)) if bounded else (low, high)


def _strip(strip: Strip, top: int, scale: Scale, written: NumberFormat) -> Markup:
    middle = top + STRIP
    parts = [
        f'<text class="name" x="{LEFT}" y="{top + NAME}">{escape(strip.name)}</text>',
        f'<text class="name" x="{RIGHT}" y="{top + NAME}" text-anchor="end">{escape(written(strip.mean))}</text>',
    ]
    if strip.interval:
        low, high = (scale(end) for end in strip.interval)
        parts.append(f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>')
    mean = scale(strip.mean)
    parts.append(f'<line class="mean" x1="{mean:.1f}" x2="{mean:.1f}" y1="{middle - 11}" y2="{middle + 11}"/>')
    for index, value in enumerate(sorted(strip.values)):
        y = middle + SCATTER[index % len(SCATTER)]
        parts.append(
            f'<circle class="dot" cx="{scale(value):.1f}" cy="{y:.1f}" r="3.2"><title>{escape(written(value))}</title>'
            "</circle>"
        )
    return as_markup(f'<g class="series-{strip.colour % COLOURS}">{"".join(parts)}</g>')
