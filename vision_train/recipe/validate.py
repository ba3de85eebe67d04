"""Plain values -> a typed Recipe, and every mistake in them at once."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING
from typing import Any, Literal, get_args, get_origin, is_typeddict

from vision_train.recipe.keys import section_keys
from vision_train.recipe.kinds import describe, field_kinds, section_kinds, union_members
from vision_train.recipe.layers import KeyPath, Mistake, Origin, join_keys, show
from vision_train.recipe.recipe import Recipe
from vision_train.recipe.run_section import AUTOMATIC
from vision_train.recipe.trainer_keys import OWNED, REFUSED_STRATEGIES, TrainerKeys, ends_by_steps, trainer_problems

MOST_KEYS_LISTED = 18
"""A longer section (`trainer`) is not listed in a message; `recipes --explain` lists it."""

_WRONG: Any = object()
"""Stands for a value of the wrong type, already reported."""


class _UnreadError(Exception):
    """A check across sections asked for one that has mistakes of its own."""


class _Unread:
    """Stands for a section with mistakes: nothing can be said of what it would hold."""

    def __getattr__(self, name: str) -> Any:
        raise _UnreadError(name)

    def __eq__(self, other: object) -> bool:
        raise _UnreadError

    __hash__ = None  # type: ignore[assignment]


class Validator:
    """Walks the sections beside the values of one recipe and collects what does not fit.

    Args:
        origin_of: Where the value at a path was written.
        runnable: Also report what only the user can give and has not given yet, such as `data.root`.
    """

    def __init__(self, origin_of: Callable[[KeyPath], Origin], *, runnable: bool) -> None:
        self.mistakes: list[Mistake] = []
        self._origin_of = origin_of
        self._runnable = runnable
        self._task: str | None = None

    def recipe(self, values: Mapping[Any, Any]) -> Recipe:
        """Check a whole recipe.

        Checks across sections end where they ask for a section with mistakes: its defaults are not what the user wrote.
        The result is of use only if ``mistakes`` is empty.
        """
        task = values.get("task")
        self._task = task if isinstance(task, str) else None
        kinds = section_kinds(self._task)
        self._report_unknown(values, kinds, ())
        read: dict[str, Any] = {
            field.name: self._field(field, kinds[field.name], values, ()) for field in dataclasses.fields(Recipe)
        }
        plain: dict[str, Any] = {"name": "recipe", "task": "", "seed": 0}
        recipe = Recipe(**{key: plain.get(key, _Unread()) if value is _WRONG else value for key, value in read.items()})
        with suppress(_UnreadError):
            self._report((), recipe.problems())
        if hasattr(type(recipe.method), "misplaced"):
            with suppress(_UnreadError):
                self._report((), recipe.method.misplaced(recipe))
        if self._runnable:
            with suppress(_UnreadError):
                self.mistakes += [Mistake((*key.split("."),), None, message) for key, message in recipe.unset()]
        return recipe

    def report(self, path: KeyPath, message: str) -> None:
        """Add one mistake."""
        self.mistakes.append(Mistake(path, self._origin_of(path), message))

    def _report(self, path: KeyPath, problems: Iterable[tuple[str, str]]) -> None:
        for key, message in problems:
            self.report((*path, *key.split(".")) if key else path, message)

    def _value(self, kind: Any, value: Any, path: KeyPath) -> Any:
        """Return the value as its annotation wants it, or report why it cannot be and return ``_WRONG``."""
        members = union_members(kind)
        if value is None and type(None) in members:
            return None
        members = tuple(member for member in members if member is not type(None))
        if len(members) > 1:
            return self._one_of(members, kind, value, path)
        inner = members[0]
        if dataclasses.is_dataclass(inner):
            return self._section(inner, kind, value, path)
        if inner is TrainerKeys:
            return self._trainer(value, path)
        origin = get_origin(inner)
        if origin is Literal:
            return self._literal(inner, kind, value, path)
        if origin in (tuple, list) and isinstance(value, list):
            return self._sequence(inner, kind, value, path)
        if origin is dict and isinstance(value, dict):
            return self._mapping(inner, value, path)
        return self._scalar(inner, kind, value, path)

    def _section(self, section: Any, kind: Any, value: Any, path: KeyPath) -> Any:
        """Check a dataclass; null, as in a section whose keys are all commented out, is the section's defaults."""
        values = {} if value is None else value
        if not isinstance(values, dict):
            return self._wrong(kind, value, path)
        kinds = field_kinds(section)
        self._report_unknown(values, kinds, path)
        typed = {
            field.name: self._field(field, kinds[field.name], values, path) for field in dataclasses.fields(section)
        }
        if any(value is _WRONG for value in typed.values()):
            return _WRONG
        checked = section(**typed)
        if hasattr(checked, "problems"):
            self._report(path, checked.problems())
        if self._runnable and hasattr(checked, "unset"):
            # Of no place: the nearest mapping that was written may stand in a file that is not the user's.
            self.mistakes += [Mistake((*path, key), None, message) for key, message in checked.unset()]
        return checked

    def _field(self, field: dataclasses.Field, kind: Any, values: Mapping[Any, Any], path: KeyPath) -> Any:
        here = (*path, field.name)
        if field.name in values:
            return self._value(kind, values[field.name], here)
        if field.default is not MISSING:
            return field.default
        if dataclasses.is_dataclass(kind) or is_typeddict(kind):
            return self._value(kind, {}, here)  # it may hold keys that are required
        if field.default_factory is not MISSING:
            return field.default_factory()
        if kind is not Any:  # sections of a task that does not exist
            self.report(here, f"is missing; expected {describe(kind)}")
        return _WRONG

    def _trainer(self, value: Any, path: KeyPath) -> Any:
        values = {} if value is None else value
        if not isinstance(values, dict):
            return self._wrong(TrainerKeys, value, path)
        kinds = field_kinds(TrainerKeys)
        self._report_unknown(values, kinds, path)
        typed = {
            key: self._trainer_value(kind, values[key], (*path, key)) for key, kind in kinds.items() if key in values
        }
        if values.get("max_epochs") is None and not ends_by_steps(values):
            self.report((*path, "max_epochs"), "is missing; expected a whole number, such as trainer.max_epochs=100")
        right = {key: value for key, value in typed.items() if value is not _WRONG}
        self._report(path, trainer_problems(right))
        return right

    def _trainer_value(self, kind: Any, value: Any, path: KeyPath) -> Any:
        if path[-1] == "strategy" and isinstance(value, str) and value in REFUSED_STRATEGIES:
            self.report(path, f"is {show(value)}; {REFUSED_STRATEGIES[value]}; expected {describe(kind)}")
            return _WRONG
        return self._value(kind, value, path)

    def _one_of(self, members: Sequence[Any], kind: Any, value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict) and len(mappings := [each for each in members if get_origin(each) is dict]) == 1:
            return self._value(mappings[0], value, path)  # so that a mistake in it is named by its key
        for member in members:
            attempt = Validator(self._origin_of, runnable=self._runnable)
            typed = attempt._value(member, value, path)
            if not attempt.mistakes:
                return typed
        return self._wrong(kind, value, path)

    def _literal(self, literal: Any, kind: Any, value: Any, path: KeyPath) -> Any:
        choices = get_args(literal)
        if any(value == choice and type(value) is type(choice) for choice in choices):
            return value
        near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self.report(path, f"is {show(value)}; expected {describe(kind)}{hint}")
        return _WRONG

    def _sequence(self, sequence: Any, kind: Any, value: list[Any], path: KeyPath) -> Any:
        arguments = get_args(sequence)
        is_tuple = get_origin(sequence) is tuple
        if is_tuple and len(value) != len(arguments):
            return self._wrong(kind, value, path)
        kinds = arguments if is_tuple else arguments * len(value)
        typed = [
            self._value(item_kind, item, (*path, index))
            for index, (item_kind, item) in enumerate(zip(kinds, value, strict=True))
        ]
        if any(item is _WRONG for item in typed):
            return _WRONG
        return tuple(typed) if is_tuple else typed

    def _mapping(self, mapping: Any, value: Mapping[Any, Any], path: KeyPath) -> Any:
        inner = get_args(mapping)[1]
        for key in value:
            if not isinstance(key, str):
                self.report((*path, str(key)), "is no text; put the key in quotes")
        typed = {key: self._value(inner, item, (*path, key)) for key, item in value.items()}
        return _WRONG if any(item is _WRONG for item in typed.values()) else typed

    def _scalar(self, scalar: Any, kind: Any, value: Any, path: KeyPath) -> Any:
        if scalar is Any:
            return value
        if scalar is float and type(value) in (int, float):
            if math.isfinite(value):
                return float(value)
            self.report(path, f"is {value}; expected a finite number")
            return _WRONG
        if scalar in (bool, int, str) and type(value) is scalar:
            return value
        return self._wrong(kind, value, path)

    def _wrong(self, kind: Any, value: Any, path: KeyPath) -> Any:
        or_auto = " or auto" if join_keys(path) in AUTOMATIC else ""
        hint = "; put it in quotes" if str in union_members(kind) and value is not None else ""
        self.report(path, f"is {show(value)}; expected {describe(kind)}{or_auto}{hint}")
        return _WRONG

    def _report_unknown(self, values: Mapping[Any, Any], known: Mapping[str, Any], path: KeyPath) -> None:
        for key in (key for key in values if key not in known):
            if path == ("trainer",) and key in OWNED:
                message = f"is not for a recipe to set: {OWNED[key]}"
            else:
                message = f"unknown key{self._nearest(str(key), known, path)}"
            self.report((*path, str(key)), message)

    def _nearest(self, key: str, known: Mapping[str, Any], path: KeyPath) -> str:
        """Suggest a key of the same section, or one of this name in another; else say what the section takes."""
        near = [(*path, name) for name in difflib.get_close_matches(key, known, n=1, cutoff=0.65)]
        near = near or [found.path for found in section_keys(self._task) if found.path[-1] == key]
        words = key.replace("_", " ").lower()  # what a key means may have the name that somebody knows
        near = near or [found.path for found in section_keys(self._task) if found.text.lower().startswith(words)][:3]
        if near:
            return f"; did you mean {' or '.join(map(join_keys, near))}?"
        return f"; there are {', '.join(known)}" if len(known) <= MOST_KEYS_LISTED else ""
