"""Globs in a recipe that select tensors of the network by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from vision_train.errors import UserError
from vision_train.recipe.catalogue import nearest_names


def matching(glob: str, names: Collection[str], key: str) -> list[str]:
    """Return the names that a glob matches, in their order; `*` matches dots too.

    Args:
        glob: Such as `encoder.*` or `*.bias`; upper and lower case differ.
        names: Names of tensors of the network.
        key: The recipe's key that holds the glob, for the message.

    Raises:
        UserError: The glob matches nothing.
    """
    found = [name for name in names if fnmatchcase(name, glob)]
    if found:
        return found
    modules = {f"{name[:place]}.*" for name in names for place, letter in enumerate(name) if letter == "."}
    hint = f"; did you mean {glob}.*?" if f"{glob}.*" in modules else nearest_names(glob, [*sorted(modules), *names])
    if not hint:
        tops = sorted({name.partition(".")[0] for name in names})
        hint = f"; names begin with {', '.join(tops[:8])}{', ...' if len(tops) > 8 else ''}"
    raise UserError(f"{key}: `{glob}` matches no tensor of the network{hint}")


def all_matching(globs: Iterable[str], names: Collection[str], key: str) -> list[str]:
    """Return the names that any of the globs matches, in their order.

    Raises:
        UserError: A glob matches nothing.
    """
    found = {name for glob in globs for name in matching(glob, names, key)}
    return [name for name in names if name in found]
