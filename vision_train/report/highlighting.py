"""YAML in colours; which ones, the stylesheet says."""

from __future__ import annotations

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import YamlLexer

from vision_train.report.rendering import as_markup


def highlighted_yaml(text: str) -> Markup:
    """A YAML file with keys, values and comments set apart, for a ``pre``."""
    return as_markup(highlight(text.rstrip(), YamlLexer(), HtmlFormatter(nowrap=True)).rstrip())
