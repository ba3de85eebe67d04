"""The metric by which a study judges, and how its values and differences are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vision_train.artefacts import Metric
from vision_train.report.formats import (
    NumberFormat,
    describe,
    format_number,
    format_percent,
    metric_format,
    metric_title,
)


@dataclass(frozen=True)
class JudgedMetric:
    """A metric of the test split. Shares are written in per cent, and their differences in points."""

    name: str
    """With its split, such as ``test/accuracy``."""
    title: str
    format: NumberFormat = format_number
    is_share: bool = False
    bounds: tuple[float | None, float | None] = (None, None)
    """Lies in [0, 1]."""

    def on(self, split: str) -> str:
        """Title of the same metric on another split, within a sentence."""
        return f"{split} {self.title.partition(' ')[2]}"

    @property
    def factor(self) -> float:
        """Differences are multiplied by it."""
        return 100.0 if self.format is format_percent else 1.0

    @property
    def unit(self) -> str:
        """Unit of the differences; empty for plain numbers."""
        return "points" if self.format is format_percent else ""

    def format_difference(self, value: float, decimals: int = 2) -> str:
        """A difference of two values without its unit, such as ``+1.90``.

        Args:
            value: The difference.
            decimals: Decimals of points; other numbers have four digits.
        """
        size = f"{abs(self.factor * value):.{decimals}f}" if self.unit else format_number(abs(value))
        return f"{'+' if value > 0 else '−' if value < 0 else ''}{size}"


def describe_judged(name: str, metrics: Sequence[Metric]) -> JudgedMetric:
    """The judged metric in the words of the task that measures it.

    Args:
        name: With its split.
        metrics: What the task says of its metrics.
    """
    described = {metric.name: metric for metric in metrics}
    found = describe(name, described)
    title, written = metric_title(name, described), metric_format(name, described)
    return JudgedMetric(name, title, written, found.is_share, found.bounds)
