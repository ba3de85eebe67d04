"""YAML as recipes have it: plain values, each key once, `1e-3` a number and a date a text, as OmegaConf has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from vision_train.recipe.layers import KeyPath

MOST_NODES, DEEPEST = 10_000, 50
"""Keys, values and list items of a text, and mappings and lists inside one another, what aliases repeat counted too."""
CORE = "tag:yaml.org,2002:"
MERGE = f"{CORE}merge"
PLAIN = {f"{CORE}{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")}
"""Tags of what a recipe holds."""
LEFT_OUT = {f"{CORE}{name}" for name in ("timestamp", "value")}
"""What PyYAML sees in dates and in `=`, which are texts here."""
UNREADABLE = (yaml.YAMLError, ValueError, LookupError, RecursionError)
"""What PyYAML raises: the second and third for `!!int three` and `!!bool maybe`, the last for a thousand brackets."""


def with_exponents(handler: Any) -> Any:
    """Let a loader or a dumper take `1e-3` and `1.5e3` for numbers, as YAML 1.2 does and PyYAML alone does not."""
    number = re.compile(r"^[-+]?[0-9]+(_[0-9]+)*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
    handler.add_implicit_resolver(f"{CORE}float", number, list("-+0123456789"))
    return handler


@with_exponents
class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML without making objects; libyaml's, where PyYAML comes with it, takes a tenth of the time."""


Loader.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in resolvers if tag not in LEFT_OUT]
    for start, resolvers in Loader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str) -> tuple[dict[KeyPath, int], Any]:
    """Read a text as values, and the line of every key and list item; merged keys (`<<`) keep that of their mapping.

    OmegaConf would read the same values; it takes many times as long, because it makes an object of each.

    Raises:
        yaml.YAMLError: It is not YAML, has more than one document, the same key written twice in a mapping, more than
            10,000 values, more than 50 lists and mappings inside one another, or what is no plain value.
    """
    refuse_depth(text)
    loader = Loader(text)
    try:
        tree = loader.get_single_node()
        if tree is None:
            return {}, None
        _refuse_what_is_not_plain(tree)
        lines = dict(_key_lines(tree, ()))  # before merged keys are moved into the tree
        return lines, loader.construct_document(tree)
    except (ValueError, LookupError) as error:
        raise yaml.YAMLError(f"a value does not suit the tag before it, such as `!!int` ({error})") from error
    finally:
        loader.dispose()


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line of every key and list item of a text that is known to be a recipe."""
    tree = yaml.compose(text, Loader=Loader)
    return {} if tree is None else dict(_key_lines(tree, ()))


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


def refuse_depth(text: str) -> None:
    """Refuse brackets by the thousand before the tree is made, which would end the process without a word.

    Raises:
        yaml.YAMLError: There are more than 50 lists and mappings inside one another, or it is not YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _problem(event, f"more than {DEEPEST} lists and mappings inside one another")


def _refuse_what_is_not_plain(tree: yaml.Node) -> None:
    ahead, met = [(tree, 1)], 0
    while ahead:
        (node, depth), met = ahead.pop(), met + 1
        if met > MOST_NODES:
            raise _problem(node, f"more than {MOST_NODES:,} values, counting what aliases (*) repeat; leave some out")
        if depth > DEEPEST:
            raise _problem(node, "an alias (*) stands inside what it repeats, or aliases follow one another too often")
        if node.tag not in PLAIN:
            raise _problem(node, f"{_shown(node)} is no text, number, list or mapping; put quotes around a text")
        if isinstance(node, yaml.SequenceNode):
            ahead += [(item, depth + 1) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            _refuse_keys([key for key, _ in node.value])
            ahead += [(value, depth + 1) for _, value in node.value]
            met += len(node.value)


def _refuse_keys(keys: list[yaml.Node]) -> None:
    named = set()
    for key in keys:
        if key.tag == MERGE:
            continue  # which OmegaConf, too, takes as often as it is written
        if not isinstance(key, yaml.ScalarNode) or key.tag not in PLAIN - {f"{CORE}null"}:
            raise _problem(key, "a key is a name or a number")
        if (key.tag, key.value) in named:
            raise _problem(key, f"found duplicate key {key.value}")
        named.add((key.tag, key.value))


def _shown(node: yaml.Node) -> str:
    tag = str(node.tag)
    return "`<<`" if tag == MERGE else f"!!{tag.removeprefix(CORE)}" if tag.startswith(CORE) else tag


def _problem(at: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)
