"""The word `auto` in the place of a value: the value beneath it stays, and the key is noted in `run.automatic`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vision_train.recipe.layers import KeyPath, Layer, Origin
from vision_train.recipe.run_section import AUTOMATIC

AUTO = "auto"
NOTED = ("run", "automatic")
"""Where a recipe notes which keys are settled on the machine that trains it."""


class AutomaticKeys:
    """Which keys are left to the machine by layers of a recipe, the last one counting."""

    def __init__(self) -> None:
        self._origins: dict[str, Origin] = {}
        self._mistaken = False

    def without_auto(self, layer: Layer) -> Layer:
        """Note the keys for which a layer has `auto`, and return it without them.

        A layer that has another value for such a key takes it back from the machine, and so does one that lists other
        keys in `run.automatic`.
        """
        listed = _inside(layer.values, "run").get("automatic")
        if listed is not None and not (isinstance(listed, list) and {*map(str, listed)} <= {*AUTOMATIC}):
            self._mistaken = True
        elif listed is not None:
            self._origins = {key: layer.origin_of(NOTED) for key in listed}
        for key in AUTOMATIC:
            section, name = key.split(".")
            values = _inside(layer.values, section)
            if name not in values:
                continue
            if values[name] == AUTO:
                self._origins[key] = layer.origin_of((section, name))
                layer = _without(layer, (section, name))
            elif listed is None:
                self._origins.pop(key, None)
        return layer

    def noted(self, origin: Origin) -> Layer:
        """A last layer that has these keys in `run.automatic`, or nothing where that has mistakes which must show.

        Args:
            origin: Of the recipe as a whole.
        """
        if self._mistaken:
            return Layer(origin)
        where: dict[KeyPath, Origin] = dict.fromkeys([NOTED], next(iter(self._origins.values()), origin))
        return Layer(origin, {"run": {"automatic": list(self._origins)}}, where)


def _inside(values: dict[Any, Any], section: str) -> dict[Any, Any]:
    inside = values.get(section)
    return inside if isinstance(inside, dict) else {}


def _without(layer: Layer, path: tuple[str, str]) -> Layer:
    section, name = path
    kept = {key: value for key, value in layer.values[section].items() if key != name}
    origins = {at: origin for at, origin in layer.origins.items() if at[:2] != path}
    return replace(layer, values={**layer.values, section: kept}, origins=origins)
