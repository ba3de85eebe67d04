"""Weights that are named by what offers them instead of by a path."""

from __future__ import annotations

TIMM = "timm"
"""The weights that timm has for the recipe's model; ``timm:NAME.TAG`` names others."""
HUB = "hf-hub:"
"""Begins the name of a repository of the Hugging Face hub: ``hf-hub:OWNER/NAME``, ``hf-hub:OWNER/NAME@REVISION``."""


def is_remote(name: str) -> bool:
    """Whether a name in ``model.checkpoint`` is no path. A file of that name is named by ``./timm``."""
    return name == TIMM or name.startswith((f"{TIMM}:", HUB))
