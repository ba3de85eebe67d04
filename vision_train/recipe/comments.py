"""Comments of recipe files, and a resolved recipe with those of the values that it took from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from vision_train.recipe.layers import KeyPath, LayeredValues
from vision_train.recipe.yaml_text import key_lines

_COMMENT = re.compile(r"(?:^|(?<=\s))#.*")
LEFT_OUT = ("extends", "name", "smoke")
"""Keys of a file that a resolved recipe does not show."""


@dataclass
class Comments:
    """What stands with one key of a file."""

    above: list[str] = field(default_factory=list)
    """Lines before it, each with its ``#``."""
    beside: str = ""
    """What follows on its line, with its ``#``."""


def comments_of(text: str) -> tuple[list[str], dict[KeyPath, Comments]]:
    """Comments of a file: its head, and those that stand with a key.

    The head is what stands above the first key, and above keys that a resolved recipe does not show.

    Args:
        text: YAML that has been read before without a mistake.
    """
    paths = _first_on_its_line(text)
    first = min(paths, default=1)
    head: list[str] = []
    waiting: list[str] = []
    found: dict[KeyPath, Comments] = {}
    said = dict(_comments(text))
    for line in range(1, text.count("\n") + 2):
        path, comment = paths.get(line), said.get(line)
        if path is None:
            waiting += [comment] if comment else []
            continue
        if line == first or path[0] in LEFT_OUT:
            head += waiting if line == first or len(path) == 1 else []
        elif waiting:
            found.setdefault(path, Comments()).above += waiting
        waiting = []
        if comment and path[0] not in LEFT_OUT:
            found.setdefault(path, Comments()).beside = comment
    return head, found


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each comment: what follows a ``#`` between the tokens of the file."""
    end = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        start = token.start_mark.index
        gap, line = text[end:start], text.count("\n", 0, end) + 1
        for number, part in enumerate(gap.split("\n")):
            if comment := _COMMENT.search(part):
                yield line + number, comment[0].rstrip()
        end = max(end, token.end_mark.index)


def commented(resolved: str, layered: LayeredValues, sources: Sequence[str]) -> str:
    """A resolved recipe with the comments that stand with its values in the files that they come from.

    Args:
        resolved: The recipe as YAML.
        layered: The files laid over one another, which know where each value was written.
        sources: The files, bottom first; the head of the last one becomes that of the result.
    """
    read = {source: comments_of(Path(source).read_text(encoding="utf-8")) for source in sources}
    comments = {source: found for source, (_, found) in read.items()}
    head = read[sources[-1]][0]
    return with_comments(resolved, head, lambda path: _standing_with(path, layered, comments))


def with_comments(text: str, head: Sequence[str], stands_with: Callable[[KeyPath], Comments]) -> str:
    """YAML without comments, with those that stand with its keys.

    Args:
        text: A mapping, whose values are as PyYAML writes them.
        head: Lines to begin with, each with its ``#``.
        stands_with: The comments of a key.
    """
    paths = _first_on_its_line(text)
    lines = [*head]
    for number, line in enumerate(text.splitlines(), start=1):
        stands = stands_with(paths[number]) if number in paths else Comments()
        indent = line[: len(line) - len(line.lstrip())]
        continued = number + 1 not in paths  # a comment would end a value that goes on
        above = [*stands.above, stands.beside] if continued and stands.beside else stands.above
        lines += [f"{indent}{comment}" for comment in above]
        lines.append(line if continued or not stands.beside else f"{line}  {stands.beside}")
    return "\n".join([*lines, ""])


def _first_on_its_line(text: str) -> dict[int, KeyPath]:
    """Line -> the key that begins it, which holds the others on it."""
    paths: dict[int, KeyPath] = {}
    for path, line in key_lines(text).items():
        paths.setdefault(line, path)
    return paths


def _standing_with(path: KeyPath, layered: LayeredValues, comments: Mapping[str, dict[KeyPath, Comments]]) -> Comments:
    """The comments of a key in the file that wrote its value last, of a mapping in any; none for a default."""
    origin = layered.merged.origins.get(path)
    if origin is None:
        return Comments()
    holds_others = any(other[:-1] == path for other in layered.merged.origins)
    for source in reversed([*comments]):
        if path in comments[source] and (holds_others or source == origin.source):
            return comments[source][path]
    return Comments()
