"""Telling recipe keys on a command line from the files beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vision_train.errors import UserError
from vision_train.files import printable

OVERRIDE = re.compile(r"[A-Za-z_][\w-]*\.[\w.-]+\s*=")
"""How ``section.key=value`` begins."""


def refuse_absent(place: Path, what: str) -> None:
    """Refuse a place that is not there.

    Args:
        place: As it was typed.
        what: What should be there, and how to mend it where that is not plain.

    Raises:
        UserError: It is absent.
    """
    if not place.exists():
        raise UserError(f"{printable(str(place))}: no such {what}")


def divide_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files and folders first, then recipe keys to change; a file that exists is one, whatever it is called.

    Raises:
        UserError: No file or folder is named, or one is not there.
    """
    keys = [each for each in arguments if OVERRIDE.match(each) and not Path(each).exists()]
    files = [each for each in arguments if each not in keys]
    if not files:
        raise UserError("nothing to predict on; name files or folders after the run")
    for file in files:
        refuse_absent(Path(file), "file or folder; name what is to be predicted on")
    return files, keys
