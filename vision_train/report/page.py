"""A whole page: one self-contained HTML file.

A content security policy in the page itself refuses anything from outside the file and any script but ours.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from vision_train import __version__
from vision_train.report.rendering import as_markup, render

TEMPLATES = Path(__file__).with_name("templates")


def render_page(template: str, title: str, **values: Any) -> str:
    """Fill in the template of a page.

    Args:
        template: One that extends ``page.html``.
        title: Plain text for the window.
        **values: What the template names.
    """
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return render(
        template,
        title=title,
        style=as_markup(style),
        script=as_markup(script),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        version=__version__,
        **values,
    )
