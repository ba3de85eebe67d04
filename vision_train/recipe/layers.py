"""Recipe files and overrides laid over one another, each value remembering where it was written."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vision_train.errors import UserError

if TYPE_CHECKING:
    from omegaconf.errors import OmegaConfBaseException

COMMAND_LINE = "command line"
"""The source of an override."""

KeyPath = tuple[str | int, ...]
"""Keys from the top of a recipe down to a value; a number is the position in a list."""


def join_keys(path: KeyPath) -> str:
    """Write a path as the command line does: `augment.train.crop_scale[0]`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


@dataclass(frozen=True)
class Origin:
    """Where a value was written."""

    source: str
    """A file, or ``COMMAND_LINE``."""
    line: int | None = None
    """Line of the file or place among the overrides, from 1; None for the source as a whole."""

    def __str__(self) -> str:
        return self.source if self.line is None or self.source == COMMAND_LINE else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Mistake:
    """One thing wrong with a recipe."""

    path: KeyPath
    origin: Origin | None
    """None for what was never written."""
    message: str

    def __str__(self) -> str:
        text = f"{join_keys(self.path)}: {self.message}"
        return text if self.origin is None else f"{self.origin}: {text}"


@dataclass
class Layer:
    """Plain values, such as those of one file or one override, and where each was written."""

    origin: Origin
    """Where the layer as a whole comes from."""
    values: dict[Any, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)

    def origin_of(self, path: KeyPath) -> Origin:
        """Return where a value was written; for one that was not, where the nearest mapping around it was."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return self.origin

    def pop(self, key: str) -> tuple[Any, Layer]:
        """Take a key away; return its value, and what is below it as a layer."""
        value = self.values.pop(key, None)
        inside = {path[1:]: origin for path, origin in self.origins.items() if path[0] == key}
        self.origins = {path: origin for path, origin in self.origins.items() if path[0] != key}
        origin = inside.pop((), self.origin)
        return value, Layer(origin, value if isinstance(value, dict) else {}, inside)


class LayeredValues:
    """Layers merged from the bottom up: mappings merge, everything else replaces.

    A mapping and a single value never replace one another silently: each such meeting becomes a mistake, and the
    mapping stays, so that what is wrong inside it is found too. Null may replace anything and be replaced by anything.
    """

    def __init__(self, origin: Origin) -> None:
        self.merged = Layer(origin)
        self.mistakes: list[Mistake] = []

    def add(self, layer: Layer) -> None:
        """Lay one more layer on top."""
        # Not OmegaConf.merge: it lets a mapping and a single value replace one another without a word.
        replaced: set[KeyPath] = set()
        values = self._merge(self.merged.values, layer, layer.values, (), replaced)
        kept = {path: origin for path, origin in self.merged.origins.items() if not _below_any(path, replaced)}
        self.merged = Layer(self.merged.origin, values, kept | layer.origins)

    def resolve(self) -> dict[Any, Any]:
        """Return the plain values with every `${...}` replaced by what it stands for.

        Raises:
            UserError: An interpolation is circular or names no key.
        """
        if not _interpolates(self.merged.values):
            return copy.deepcopy(self.merged.values)  # many times as fast, and nearly every recipe
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            values = OmegaConf.to_container(OmegaConf.create(self.merged.values), resolve=True)
        except OmegaConfBaseException as error:
            raise located_error(error, self.merged) from error
        return values  # type: ignore[return-value]

    def _merge(
        self, below: Mapping[Any, Any], layer: Layer, above: Mapping[Any, Any], path: KeyPath, replaced: set[KeyPath]
    ) -> dict[Any, Any]:
        """Return ``above`` laid on ``below``, noting conflicts and adding the paths of replaced values."""
        merged = dict(below)
        for key, new in above.items():
            old, here = below.get(key), (*path, key)
            if isinstance(old, dict) and isinstance(new, dict):
                merged[key] = self._merge(old, layer, new, here, replaced)
            elif isinstance(old, dict) and old and new is not None:
                where = self.merged.origin_of(here)
                self._note(layer, here, f"is {show(new)}, but a mapping in {where}; set keys inside it, or null")
            else:
                if isinstance(new, dict) and old is not None:
                    where = self.merged.origin_of(here)
                    self._note(layer, here, f"is a mapping, but {show(old)} in {where}")
                merged[key] = new
                replaced.add(here)
        return merged

    def _note(self, layer: Layer, path: KeyPath, message: str) -> None:
        self.mistakes.append(Mistake(path, layer.origin_of(path), message))


def located_error(error: OmegaConfBaseException, layer: Layer) -> UserError:
    """Return OmegaConf's complaint about a value as one line that says where the value was written."""
    key = "" if error.full_key is None else str(error.full_key)
    parts = key.replace("[", ".").replace("]", "").split(".")
    origin = layer.origin_of(tuple(int(part) if part.isdecimal() else part for part in parts))
    return UserError(f"{origin}: {key}: {str(error).partition(chr(10))[0]}")


def show(value: object) -> str:
    """Write a value for a message: as YAML would, cut to a readable length."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    # Python refuses to write an integer of thousands of digits, and none is short that is.
    long = isinstance(value, int) and value.bit_length() > 1_000
    text = f"`{value}`" if isinstance(value, str) else hex(value) if long else str(value)  # type: ignore[arg-type]
    return text if len(text) <= 60 else f"{text[:57]}..."


def _interpolates(value: Any) -> bool:
    """Whether a value, or one inside of it, refers to another one, or escapes what would be such a reference."""
    if isinstance(value, Mapping):
        return any(map(_interpolates, value.values()))
    if isinstance(value, list):
        return any(map(_interpolates, value))
    return isinstance(value, str) and "${" in value


def _below_any(path: KeyPath, tops: set[KeyPath]) -> bool:
    return any(path[:length] in tops for length in range(1, len(path)))
