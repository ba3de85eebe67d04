"""Recipe files and command-line overrides, read into layers that know the line of every key."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vision_train.errors import UserError
from vision_train.files import unescape_name
from vision_train.recipe.catalogue import builtin_files, find_extended, nearest_names
from vision_train.recipe.layers import COMMAND_LINE, KeyPath, Layer, Origin, located_error, show
from vision_train.recipe.yaml_text import DEEPEST, UNREADABLE, read_yaml, refuse_depth


def read_file(file: Path) -> Layer:
    """Read one YAML file, without what it extends.

    Raises:
        UserError: The file cannot be read, is not YAML as recipes have it (:func:`read_yaml`), or holds no mapping.
    """
    shown = _shown(file)
    try:
        return _parse(file.read_text(encoding="utf-8"), shown)
    except OSError as error:
        raise UserError(f"{shown}: cannot be read ({error.strerror}); name a recipe file that you may read") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{shown}: is no text in UTF-8 ({error}); name a recipe, a YAML file") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{shown}{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{shown}: not valid YAML: {error}") from error


def read_file_layers(file: Path, trail: tuple[Path, ...] = ()) -> list[Layer]:
    """Read a file and everything it extends, bottom first, the file itself last.

    Args:
        file: The recipe.
        trail: The files whose `extends` led here.

    Raises:
        UserError: A file cannot be read, or `extends` names nothing or leads back to a file of the trail.
    """
    trail = (*trail, file.resolve())
    layer = read_file(file)
    extended, where = layer.pop("extends")
    names = [extended] if isinstance(extended, str) else [] if extended is None else extended
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where.origin}: extends: is {show(extended)}; name one recipe, or a list of them")
    layers: list[Layer] = []
    for name in names:
        found = find_extended(name, beside=file)
        if found is None:
            near = nearest_names(name, {*builtin_files(), *(other.stem for other in file.parent.glob("*.yaml"))})
            raise UserError(f"{where.origin}: extends: no recipe `{name}` beside this file or built in{near}")
        if found.resolve() in trail:
            circle = " -> ".join(_shown(step) for step in (*trail[trail.index(found.resolve()) :], found))
            raise UserError(f"{where.origin}: extends: goes in a circle: {circle}")
        layers += read_file_layers(found, trail)
    for below in layers:
        below.values.pop("name", None)  # a recipe that extends a run's recipe is not that run
    return [*layers, layer]


def override_layer(override: str, place: int) -> Layer:
    """Read one `key.path=value` of the command line; the value is YAML.

    Args:
        override: What was typed.
        place: Its place among the overrides, from 1.

    Raises:
        UserError: There is no `=`, no key before it, or the value is not YAML.
    """
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise UserError(
            f"{COMMAND_LINE}: `{override}` is no override; write key.path=value, such as trainer.max_epochs=10"
        )
    if key.count(".") + key.count("[") > DEEPEST:
        raise UserError(f"{COMMAND_LINE}: {show(key)} names more than {DEEPEST} keys inside one another")
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    origin = Origin(COMMAND_LINE, place)
    try:
        # YAML holds no byte of a path that is no UTF-8, but its escape.
        typed = override.encode("utf-8", "backslashreplace").decode()
        refuse_depth(typed.partition("=")[2])
        values = _with_names(OmegaConf.to_container(OmegaConf.from_dotlist([typed]), resolve=False))
    except OmegaConfBaseException as error:
        raise located_error(error, Layer(origin)) from error
    except UNREADABLE as error:
        shown = show(value).strip("`")
        raise UserError(f"{COMMAND_LINE}: {key}: `{shown}` is not valid YAML; try \"{key}='{shown}'\"") from error
    assert isinstance(values, dict)
    if joined := next(_joined_keys(values), None):
        name, _, rest = joined.partition(":")
        raise UserError(f"{COMMAND_LINE}: {key}: `{joined}` has no value; write a space, `{name}: {rest}`")
    return Layer(origin, values, dict.fromkeys(_mapping_paths(values, ()), origin))


def _joined_keys(value: Any) -> Iterator[str]:
    """Keys such as `depth:2`, which YAML takes for a name without a value."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if inner is None and isinstance(name, str) and ":" in name:
                yield name
            yield from _joined_keys(inner)


def _parse(text: str, source: str) -> Layer:
    """Read the text of a file into a layer of its own; a text that several recipes share is read once."""
    layer = _parsed(text, source)
    return Layer(layer.origin, copy.deepcopy(layer.values), dict(layer.origins))


@cache
def _parsed(text: str, source: str) -> Layer:
    lines, values = read_yaml(text)
    if values is None:
        return Layer(Origin(source))
    if not isinstance(values, dict):
        raise UserError(f"{source}: holds no keys; a recipe is a mapping such as `task: classification`")
    return Layer(Origin(source), _with_names(values), {path: Origin(source, line) for path, line in lines.items()})


def _with_names(value: Any) -> Any:
    """Plain values whose texts have the bytes that :func:`vision_train.files.escape_name` wrote as escapes."""
    if isinstance(value, dict):
        return {key: _with_names(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_names(item) for item in value]
    return unescape_name(value) if isinstance(value, str) else value


def _mapping_paths(values: Mapping[Any, Any], path: KeyPath) -> Iterator[KeyPath]:
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from _mapping_paths(value, (*path, key))


def _shown(file: Path) -> str:
    """Write a path relative to the working directory where it lies inside."""
    absolute = file.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
