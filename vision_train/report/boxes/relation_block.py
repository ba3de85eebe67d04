"""The learned relation of boxes as a part of the page: one chart for each head of attention."""

from __future__ import annotations

from markupsafe import Markup

from models.detr.relation_bias import RelationBias
from vision_train.report.charts import Line, LineChart
from vision_train.report.line_chart import line_chart
from vision_train.report.rendering import render


def relation_block(relation: RelationBias) -> Markup:
    """Markup of the charts, all on one scale; heads that add nothing anywhere are named instead."""
    largest = [max(max(values) for values in head) for head in relation.heads]
    silent = [str(number) for number, most in enumerate(largest, start=1) if most <= 0]
    charts = [
        line_chart(_chart(relation, number, max(largest))) for number, most in enumerate(largest, start=1) if most > 0
    ]
    return render(
        "relation_block.html",
        package=__package__,
        relation=relation,
        charts=charts,
        silent=_silent(silent, len(relation.heads)),
    )


def _silent(heads: list[str], count: int) -> str:
    if not heads:
        return ""
    if len(heads) == count:
        return "No head adds anything, wherever boxes lie: all attend as without the relation."
    named = f"Head {heads[0]} adds" if len(heads) == 1 else f"Heads {', '.join(heads)} add"
    return f"{named} nothing, wherever boxes lie."


def _chart(relation: RelationBias, number: int, largest: float) -> LineChart:
    lines = [
        Line(_ratio(ratio), relation.distances, values)
        for ratio, values in zip(relation.size_ratios, relation.heads[number - 1], strict=True)
    ]
    return LineChart(
        f"Head {number}",
        lines,
        "distance of centres, in sides of the box that attends",
        y_label="added to the score",
        y_range=(0.0, largest),
        last_values=False,
    )


def _ratio(ratio: float) -> str:
    """How large the other box is, in words."""
    return "equal sides" if ratio == 1 else f"{ratio:g} x the side"
