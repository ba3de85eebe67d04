"""Start-up check that `augment` and `models` are the packages installed with this one.

Their names are common: a folder ``models/`` with an ``__init__.py`` on ``PYTHONPATH`` or in the working directory is
enough to take their place, and the failure that follows points anywhere but there.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vision_train.errors import UserError

COMMON_NAMES = ("augment", "models")


def check_shadowing() -> None:
    """Find, without importing them, the packages that `import` would take.

    Raises:
        UserError: One of them is missing or lies elsewhere than beside ``vision_train``. Names both places.
    """
    home = Path(__file__).resolve().parents[1]
    for name in COMMON_NAMES:
        found = _location(name)
        if found is None:
            raise UserError(f"The package `{name}` is missing from {home}; install vision-train again.")
        if found != home / name:
            raise UserError(
                f"`import {name}` finds {found}, but vision-train needs its own package {home / name}. "
                f"Rename or uninstall the former, take its folder off PYTHONPATH, or start from another directory."
            )


def _location(name: str) -> Path | None:
    """Return the folder of a package or the file of a module; None if there is neither."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None
