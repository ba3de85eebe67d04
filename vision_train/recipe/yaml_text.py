"""YAML as recipes have it: plain values, each key once, `1e-3` a number and a date a text, as OmegaConf has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from vision_train.recipe.layers import KeyPath

MOST_NODES = 10_000
"""Keys, values and list items of a text, with those that aliases repeat; one that is made to fill memory has more."""
PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge")}
"""Tags of what a recipe holds."""
UNREADABLE = (yaml.YAMLError, ValueError, LookupError, RecursionError)
"""What PyYAML raises: the second and third for `!!int three` and `!!bool maybe`, the last for a thousand brackets."""


def with_exponents(handler: Any) -> Any:
    """Let a loader or a dumper take `1e-3` and `1.5e3` for numbers, as YAML 1.2 does and PyYAML alone does not."""
    number = re.compile(r"^[-+]?[0-9]+(_[0-9]+)*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
    handler.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return handler


@with_exponents
class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML without making objects; libyaml's, where PyYAML comes with it, takes a tenth of the time."""


Loader.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for start, resolvers in Loader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str) -> tuple[dict[KeyPath, int], Any]:
    """Read a text as values, and the line of every key and list item; merged keys (`<<`) keep that of their mapping.

    OmegaConf would read the same values; it takes many times as long, because it makes an object of each.

    Raises:
        yaml.YAMLError: It is not YAML, has more than one document, a key twice, or what is no plain value.
    """
    loader = Loader(text)
    try:
        tree = loader.get_single_node()
        if tree is None:
            return {}, None
        _refuse_what_is_not_plain(tree)
        lines = dict(_key_lines(tree, ()))  # before merged keys are moved into the tree
        return lines, loader.construct_document(tree)
    except yaml.YAMLError:
        raise
    except UNREADABLE as error:
        raise yaml.YAMLError(f"a value does not suit its tag, or is nested too deeply ({error})") from error
    finally:
        loader.dispose()


def _key_lines(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if isinstance(node, yaml.MappingNode):
        children = [(key.value, key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(index, item, item) for index, item in enumerate(node.value)]
    else:
        return
    for key, marked, value in children:
        yield (*path, key), marked.start_mark.line + 1
        yield from _key_lines(value, (*path, key))


def _refuse_what_is_not_plain(tree: yaml.Node) -> None:
    ahead, met = [tree], 0
    while ahead:
        node, met = ahead.pop(), met + 1
        if met > MOST_NODES:
            raise _problem(tree, f"more than {MOST_NODES:,} keys and values, those that aliases (*) repeat among them")
        if node.tag not in PLAIN:
            raise _problem(node, f"{node.tag.removeprefix('tag:yaml.org,2002:')} is no text, number, list or mapping")
        if isinstance(node, yaml.SequenceNode):
            ahead += node.value
        elif isinstance(node, yaml.MappingNode):
            _refuse_keys([key for key, _ in node.value])
            ahead += [each for pair in node.value for each in pair]


def _refuse_keys(keys: list[yaml.Node]) -> None:
    named = set()
    for key in keys:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:null":
            raise _problem(key, "a key is a name or a number")
        if (key.tag, key.value) in named:
            raise _problem(key, f"found duplicate key {key.value}")
        named.add((key.tag, key.value))


def _problem(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
