"""What a checkpoint file keeps beside tensors, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEEPEST = 6
"""Containers within containers; a file may even hold itself."""

_NOTHING: Any = object()


def plain_facts(content: Mapping[Any, Any]) -> dict[str, Any]:
    """The numbers, texts, lists and mappings in the content of a file; tensors and other objects are left out."""
    return _plain(content, 0)


def _plain(value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        return _NOTHING
    if isinstance(value, Mapping):
        items = {key: _plain(item, depth + 1) for key, item in value.items() if isinstance(key, str | int)}
        return {key: item for key, item in items.items() if item is not _NOTHING}
    if isinstance(value, list | tuple):
        listed = [_plain(item, depth + 1) for item in value]
        return _NOTHING if any(item is _NOTHING for item in listed) else listed
    return value if value is None or isinstance(value, str | int | float) else _NOTHING
