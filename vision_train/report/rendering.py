"""From values to markup: templates that escape every text they are given."""

from __future__ import annotations

import base64
import io
import re
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from vision_train.report.formats import format_cell
from vision_train.report.grid import grid_of

HOME = "vision_train.report"


def render(template: str, package: str = HOME, **values: Any) -> Markup:
    """Fill in a template.

    Args:
        template: File in the folder ``templates`` of the package, or of this one: ``blocks.html`` is for everyone.
        package: Dotted name of the package.
        **values: What the template names; all of them, and escaped unless they are markup.
    """
    return as_markup(_environment(package).get_template(template).render(values))


def as_markup(text: str) -> Markup:
    """Declare that all values in a piece of markup are escaped: templates will take it as it is."""
    return Markup(text)  # noqa: S704


@cache
def _environment(package: str) -> Environment:
    loader = ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, HOME))])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"breakable": breakable, "cell": format_cell, "anchor": anchor}
    environment.globals["grid_of"] = grid_of
    return environment


def breakable(value: object) -> Markup:
    """Escaped text that may break after the separators of file and class names."""
    return as_markup(re.sub(r"([_/])(?=\w)", r"\1<wbr>", str(escape(value))))


def anchor(title: str) -> str:
    """Name by which a link finds the section of this title."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def image_source(image: Image.Image, kind: str = "PNG", **options: int) -> str:
    """A picture as an address that holds it whole."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
