"""Every block of code in the documentation is of a known language, and holds what it says.

- `bash`, and blocks without a language: each `vision-train` command is read by the parser of the command line. Its
  recipe is resolved and checked with its keys; a recipe that a block of the same page shows is that one. What is the
  reader's stays unchecked: files, folders, runs; of YAML files that no block shows, only the keys are checked.
  A command above a line that begins with `Error` has to be refused.
- `yaml`: a recipe that is checked as such, one of other programs is read.
- `python`: compiled; its imports are made, and calls of what it imports take the arguments that they are given.
- Blocks that a comment names (`<!-- file: NAME -->`, `<!-- verbs -->`) are run whole by tests/e2e/test_added_task.py.
"""

import ast
import builtins
import importlib
import inspect
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from vision_train.cli import app
from vision_train.cli.arguments import OVERRIDE
from vision_train.errors import UserError
from vision_train.recipe import builtin_recipes, explain, load_recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- *(?P<mark>file: \S+|verbs) *-->\n)?^ *```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^ *```$", re.M | re.S
)
COMMAND = re.compile(r"^(?:\$ |[A-Z_]+=\S+ )*(?P<command>vision-train .*)$")
USAGE_ERROR: Any = typer.BadParameter.__base__
"""What the parser of the command line raises."""
RECIPE_VERBS = {"fit", "compare", "preview"}
"""Verbs whose first argument is a recipe."""


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str
    mark: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = BLOCK.finditer(text)
    return [
        Block(page, text.count("\n", 0, each.start()) + 1, each["language"], each["text"], each["mark"] or "")
        for each in found
    ]


def of_language(*languages: str) -> list[Any]:
    chosen = [block for page in PAGES for block in blocks(page) if block.language in languages and not block.mark]
    return [pytest.param(block, id=block.place) for block in chosen]


class Command(NamedTuple):
    words: list[str]
    refused: bool
    """Whether the page shows that it is refused."""


def commands(text: str) -> Iterator[Command]:
    """The commands of a block: lines that begin with `vision-train`; where some begin with `$`, those alone."""
    lines = text.replace("\\\n", " ").splitlines()
    typed = any(line.startswith("$ ") for line in lines)
    for number, line in enumerate(lines):
        if (found := COMMAND.match(line.strip())) and line.startswith("$ ") >= typed:
            following = lines[number + 1] if number + 1 < len(lines) else ""
            words = shlex.split(found["command"], comments=True)[1:]
            own = words[: words.index(">")] if ">" in words else words  # what follows is the shell's
            yield Command(own, following.startswith("Error"))


def parsed(words: list[str]) -> tuple[str, list[str]]:
    """Verb and arguments of a command, without its options, once the real parser has read it."""
    command: Any = typer.main.get_command(app)
    context, rest, verb = None, words, "vision-train"
    while True:
        context = command.make_context(verb, list(rest), parent=context)
        if not hasattr(command, "resolve_command"):
            break
        rest = [*context._protected_args, *context.args]
        verb, command, rest = command.resolve_command(context, rest)
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    values = [context.params[each.name] for each in arguments]
    flat = [str(item) for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    return verb, [item for item in flat if item not in ("None", "")]


def write_files(block: Block) -> None:
    """Write the YAML files that a page shows, which their first line names, as they are where the block stands."""
    shown: dict[str, str] = {}
    for each in blocks(block.page):
        if each.language == "yaml" and (named := re.match(r"# (\S+\.ya?ml)\b", each.text)):
            if each.line <= block.line:
                shown[named[1]] = each.text
            else:
                shown.setdefault(named[1], each.text)
    for name, text in shown.items():
        Path(name).write_text(text)


@cache
def known_keys() -> dict[str, str]:
    return {key.name: key.kind for key in explain()}


def check_key(key: str) -> None:
    """Refuse a key that no recipe can hold."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        kind = known_keys().get(".".join(parts[:length]))
        if kind is not None:
            inside = length < len(parts)
            assert not inside or "mapping" in kind or kind in ("", "anything"), f"{key}: unknown key"
            assert not inside or length > 1 or kind, f"{key}: unknown key"
            return
    raise AssertionError(f"{key}: unknown key")


def check(words: list[str]) -> None:
    """Refuse a command that the command line refuses, as far as that can be known without the reader's files."""
    verb, arguments = parsed(words)
    overrides = [each for each in arguments if OVERRIDE.match(each)]
    named = [each for each in arguments if each not in overrides]
    for override in overrides:
        check_key(override.partition("=")[0].strip())
    recipes = named if verb == "compare" else named[:1] if verb in RECIPE_VERBS else []
    recipes += [each for each in named if verb == "recipes" and each in builtin_recipes()]
    for recipe in recipes:
        if recipe in builtin_recipes() or Path(recipe).is_file():
            load_recipe(recipe, overrides, runnable=False)
        else:
            assert recipe.endswith((".yaml", ".yml")), f"{recipe}: no built-in recipe, and no YAML file of the reader's"


def objection(words: list[str]) -> str | None:
    """Why a command is refused; None where it is not."""
    try:
        check(words)
    except (AssertionError, UserError, USAGE_ERROR) as error:
        return str(error)
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_are_of_known_languages(page: Path):
    assert page.read_text(encoding="utf-8").count("\n```") % 2 == 0
    known = {"", "bash", "console", "python", "yaml", "toml", "text", "json", "ini", "dockerfile"}
    assert {block.language for block in blocks(page)} <= known


@pytest.mark.parametrize("block", of_language("", "bash", "console"))
def test_commands_are_those_of_the_command_line(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_files(block)
    if block.language == "bash":
        read = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
        assert read.returncode == 0, read.stderr
    for command in commands(block.text):
        said = objection(command.words)
        shown = f"{block.place}: vision-train {shlex.join(command.words)}"
        assert command.refused or said is None, f"{shown}: {said}"
        assert not command.refused or said is not None, f"{shown}: the page shows an error, and it is not refused"


@pytest.mark.parametrize("block", of_language("yaml"))
def test_recipes_are_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_files(block)
    content = [each for each in yaml.safe_load_all(block.text) if each is not None]
    sections = {key.partition(".")[0] for key in known_keys()}
    if (
        len(content) != 1
        or not isinstance(content[0], dict)
        or len(content[0].keys() & sections) * 2 <= len(content[0])
    ):
        return  # of another program
    fragment = not {"extends", "task"} & content[0].keys()
    Path("shown.yaml").write_text("extends: quickstart\n" * fragment + block.text)
    assert load_recipe("shown.yaml", runnable=False).task


@pytest.mark.parametrize("block", of_language("toml"))
def test_toml_can_be_read(block: Block):
    assert tomllib.loads(block.text)


@pytest.mark.slow  # it imports what they import
@pytest.mark.parametrize("block", of_language("python"))
def test_python_imports_what_there_is_and_calls_it_rightly(block: Block):
    tree = ast.parse(block.text)
    compile(tree, block.place, "exec")
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = importlib.import_module(alias.name)
                names[alias.asname or alias.name.partition(".")[0]] = (
                    module if alias.asname else importlib.import_module(alias.name.partition(".")[0])
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for alias in node.names:
                names[alias.asname or alias.name] = getattr(module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (called := resolved(node.func, names)) is not None:
            check_call(node, called, block)


def resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """What a name or an attribute of an imported thing is; None for what only runs tell."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := resolved(node.value, names)) is not None:
        assert hasattr(owner, node.attr), f"{ast.unparse(node)}: there is no {node.attr}"
        return getattr(owner, node.attr)
    return None


def check_call(node: ast.Call, called: Any, block: Block) -> None:
    open_ended = any(isinstance(each, ast.Starred) for each in node.args) or any(not each.arg for each in node.keywords)
    if open_ended or not callable(called) or called in vars(builtins).values():
        return
    try:
        signature = inspect.signature(called)
    except ValueError:
        return  # written in C
    try:
        signature.bind(*node.args, **{str(each.arg): None for each in node.keywords})
    except TypeError as error:
        raise AssertionError(f"{block.place}: {ast.unparse(node)}: {error}") from error


@pytest.mark.parametrize(
    "line",
    [
        "vision-train fitt quickstart",
        "vision-train fit quickstart --dryrun",
        "vision-train fit quikstart",
        "vision-train fit quickstart optim.lrr=1",
        "vision-train fit quickstart optim.lr=fast",
        "vision-train fit mine.yaml optim.lrr=1",
        "vision-train evaluate runs/quickstart/0 data.rot=photos",
        "vision-train data chek photos",
    ],
)
def test_a_wrong_command_is_found(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (command,) = commands(line)
    assert objection(command.words)


@pytest.mark.parametrize(
    "line",
    [
        "vision-train fit quickstart optim.lr=1e-4 model.args.depth=3",
        "$ vision-train fit mine.yaml 'optim.lr_factors.head=2'   # twice as fast",
        "vision-train compare quickstart mine.yaml --seeds 3",
        "vision-train data make digits photos",
        "vision-train recipes --explain optim.lr",
    ],
)
def test_a_right_command_passes(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (command,) = commands(line)
    check(command.words)
