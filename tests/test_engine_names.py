"""The engine names no task and no kind of data: it asks the registry, a task or a kind."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from vision_train.tasks import OWN, kinds_of_data

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vision_train"
TASKS = {PACKAGE / "tasks" / package.rpartition(".")[2] for package in OWN.values()}
KINDS = {PACKAGE / "data" / kind.implementation.split(".")[2] for kind in kinds_of_data()}
REPORTS = {file.parent for file in (PACKAGE / "report").glob("*/__init__.py")}
OUTSIDE = TASKS | KINDS | REPORTS
"""The folders that are about one task or kind of data."""
ENGINE = sorted(
    file
    for file in PACKAGE.rglob("*")
    if file.is_file() and "__pycache__" not in file.parts and not OUTSIDE & {*file.parents}
)
REGISTERED = {*OWN, *(folder.name for folder in KINDS)}
WORDS = {"bag", "bags", "slide", "slides", "droppos"}
"""Words of single tasks and kinds of data."""


def named(source: str) -> list[str]:
    """Find the lines that say one of the words, alone or as part of an identifier."""
    found = []
    for number, line in enumerate(source.splitlines(), start=1):
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", line) + re.findall(r"[A-Za-z]+", line)
        if WORDS & {word.lower() for word in words}:
            found.append(f"line {number}: {line.strip()}")
    return found


def compared(tree: ast.AST, task_classes: set[str]) -> Iterator[str]:
    """Find comparisons with a registered name, and questions whether something is of the class of one task."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=comparators):
                texts = [text for operand in [left, *comparators] for text in _texts(operand)]
            case ast.MatchValue(value=value):
                texts = [*_texts(value)]
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, classes]):
                names = {each.id for each in ast.walk(classes) if isinstance(each, ast.Name)}
                names |= {each.attr for each in ast.walk(classes) if isinstance(each, ast.Attribute)}
                yield from (f"line {node.lineno}: {name}" for name in sorted(names & task_classes))
                continue
            case _:
                continue
        yield from (f"line {node.lineno}: {text!r}" for text in texts if text in REGISTERED)


def _texts(operand: ast.expr) -> Iterator[str]:
    match operand:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            for item in items:
                yield from _texts(item)


@cache
def classes_of_tasks() -> set[str]:
    """Names of all classes that a folder of a task defines."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for folder in TASKS for file in folder.rglob("*.py")]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def without_the_registry(file: Path) -> str:
    """Read a file; the lines of the registry, one for each task, are left out."""
    lines = file.read_text(encoding="utf-8").splitlines()
    if file == PACKAGE / "tasks" / "__init__.py":
        for node in ast.parse("\n".join(lines)).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OWN":
                assert isinstance(node.value, ast.Dict)
                lines[node.lineno : node.lineno + len(node.value.keys)] = [""] * len(node.value.keys)
    return "\n".join(lines)


def test_no_line_names_a_task_or_a_kind_of_data():
    found = {str(file.relative_to(PACKAGE)): named(without_the_registry(file)) for file in ENGINE}
    assert {file: lines for file, lines in found.items() if lines} == {}


def test_no_code_compares_a_registered_name():
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in ENGINE if file.suffix == ".py"}
    found = {str(file.relative_to(PACKAGE)): [*compared(tree, classes_of_tasks())] for file, tree in trees.items()}
    assert {file: comparisons for file, comparisons in found.items() if comparisons} == {}


def test_the_folders_are_those_of_the_registry():
    assert all(folder.is_dir() for folder in OUTSIDE)
    assert {PACKAGE / "run" / "fit.py", PACKAGE / "tasks" / "base.py", PACKAGE / "data" / "kind.py"} <= {*ENGINE}
    assert not without_the_registry(PACKAGE / "tasks" / "__init__.py").count("vision_train.tasks.bags")


@pytest.mark.parametrize(
    "line",
    [
        "x = bag_size",
        "class BagDataset: ...",
        "BAGS = 3",
        "# A slide.",
        "def all_slides(): ...",
        "f'DropPos'",
        "droppos_x",
    ],
)
def test_planted_word_is_found(line: str):
    assert len(named(line)) == 1


def test_lookalikes_of_the_words_pass():
    assert named("baggage = garbage + Slider(landslide)  # positions that are dropped") == []


@pytest.mark.parametrize(
    "line",
    [
        "recipe.task == 'pretraining'",
        "'bags' != kind",
        "task in ('classification', 'other')",
        "match task:\n    case 'pretraining':\n        pass",
        "isinstance(task, Classification)",
        "isinstance(task, (str, module.Classification))",
    ],
)
def test_planted_comparison_is_found(line: str):
    assert len([*compared(ast.parse(line), {"Classification"})]) == 1


def test_lookalikes_of_comparisons_pass():
    line = "was['images'] != now['images'] or isinstance(task, Task) or x == 'other' or build('classification')"
    assert [*compared(ast.parse(line), {"Classification"})] == []
