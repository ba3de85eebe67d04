"""The house rules that a machine can check: who imports whom, what loads late, what is never written."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(file for package in ("vision_train", "augment", "models") for file in (ROOT / package).rglob("*.py"))
SOURCES = {file: file.read_text(encoding="utf-8") for file in FILES}

PACKAGE = ROOT / "vision_train"

# A room imports itself and any room in a later row; `augment` and `models` stand apart from everything.
ROWS = [
    {"api"},
    {"cli"},
    {"study"},
    {"run"},
    {"tasks", "data", "report"},
    {"semi", "checkpoints", "optim"},
    {"ema", "statistics"},
    {"recipe", "artefacts", "metrics_log"},
    {"previews"},
    {"faces"},
    {"augment", "models"},
    {"foundation"},
]
LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}
SHARED_FOLDERS = {"data/toy", "report/templates"}
"""Folders below `tasks`, `data` and `report` that belong to no task and no kind of data."""
OWN_ROOMS = {
    name
    for room in ("tasks", "data", "report")
    for folder in (PACKAGE / room).iterdir()
    if folder.is_dir() and (name := f"{room}/{folder.name}") not in SHARED_FOLDERS and folder.name != "__pycache__"
}
"""Each task and each kind of data is a room of its own beside what all of them share, which it may import."""
LEVEL |= {name: LEVEL[name.partition("/")[0]] for name in OWN_ROOMS}
FACES = {"data.kind", "data.image_section", "data.crop_section", "data.fold_section"}
"""Light modules beside the faces of kinds (`data/<kind>/__init__.py`), the options of tasks and their registry."""
FOUNDATION = {
    "errors",
    "files",
    "wording",
    "shadowing",
    "processes",
    "threads",
    "locks",
    "seeds",
    "progress",
    "control_groups",
    "importing",
}
FOUNDATION |= {"progress_bars"}
FOUNDATION |= {"__version__", "__file__"}
"""What all of vision_train may import: nothing of it knows a recipe, a task or a run."""

HEAVY = {"torch", "torchvision", "pytorch_lightning", "timm", "albumentations", "matplotlib", "sklearn"}
HEAVY |= {"lightning", "torchmetrics", "transformers", "xformers", "scipy", "cv2", "h5py"}
LIGHT_ROOMS = {"api", "cli", "recipe", "faces"}
NOT_IN_LIBRARIES = {"vision_train", "pytorch_lightning", "lightning", "omegaconf", "typer", "rich"}
MAXIMUM_LINES = 350
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "misc", "common", "manager", "managers"}


class Import(NamedTuple):
    line: int
    name: str
    """Dotted name of the module or of the thing taken from it."""
    late: bool
    """Inside a function, or for the type checker alone."""
    for_types: bool
    """For the type checker alone."""


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name: str) -> str | None:
    """Return the room of a dotted name of ours, None for anyone else's.

    The name may be that of a thing in a module. The commands that a kind of data adds count as cli.
    """
    top, *rest = name.split(".")
    if top in ("augment", "models"):
        return top
    if top != "vision_train":
        return None
    if not rest or rest[0] in FOUNDATION:
        return "foundation"
    if rest[0] == "__main__":
        return "cli"
    own = own_room(name)
    if own is None:
        in_the_registry = rest[0] == "tasks" and not _is_module("tasks", *rest[1:2])
        return "faces" if in_the_registry or ".".join(rest[:2]) in FACES else rest[0]
    inside = [*rest[2:3], ""][0]
    if own.startswith("data/") and inside == "verbs":
        return "cli"
    is_face = inside == "options" if own.startswith("tasks/") else not (inside and _is_module(*rest[:3]))
    return "faces" if is_face and not own.startswith("report/") else own


def own_room(name: str) -> str | None:
    """Return the task or kind of data in whose folder a dotted name lies, such as `data/images`."""
    top, *rest = name.split(".")
    return found if top == "vision_train" and (found := "/".join(rest[:2])) in OWN_ROOMS else None


def _is_module(*parts: str) -> bool:
    """Whether dotted parts below `vision_train` name a module or package inside of one, rather than a thing in it."""
    path = PACKAGE.joinpath(*parts)
    return len(parts) > 1 and (path.is_dir() or path.with_suffix(".py").is_file())


def imports(node: ast.AST, late: bool = False, for_types: bool = False) -> Iterator[Import]:
    """Find every import, those in functions and those by `import_module("...")` too."""
    match node:
        case ast.Import():
            yield from (Import(node.lineno, alias.name, late, for_types) for alias in node.names)
        case ast.ImportFrom():
            start = "." * node.level + (node.module or "")
            yield from (Import(node.lineno, f"{start}.{alias.name}", late, for_types) for alias in node.names)
        case ast.Call(args=[ast.Constant(value=str(name)), *_]):
            if ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__"):
                yield Import(node.lineno, name, late, for_types)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            late = True
        case ast.If():
            for_types |= "TYPE_CHECKING" in ast.unparse(node.test)
            late |= for_types
    for child in ast.iter_child_nodes(node):
        yield from imports(child, late, for_types)


def wrong_imports(module: str, source: str) -> list[str]:
    """Say which imports of a module go up, sideways or too early."""
    if room_of(module) not in LEVEL:
        return [f"{module} lies in no room; give it a place in ROWS or FOUNDATION, and in docs/architecture.md"]
    return [
        f"{module}:{each.line}: {each.name} {reason}"
        for each in imports(ast.parse(source))
        if (reason := _objection(module, each) or _stranger(module, each.name))
    ]


def _room_of_importer(module: str) -> str:
    """The room of a module; the package itself is the face of `api`, and open to all for its version and its place."""
    return "api" if module == "vision_train" else str(room_of(module))


def _objection(module: str, imported: Import) -> str | None:
    name, top = imported.name, imported.name.split(".")[0]
    room, target = _room_of_importer(module), room_of(name)
    if top == "":
        return "is relative; an import names its room"
    if room in ("augment", "models") and room != target and (target or top in NOT_IN_LIBRARIES):
        return f"is not for `{room}`, a plain library"
    if top in ("albumentations", "albucore") and module != "augment.pipeline":
        return "is imported by augment/pipeline.py alone"
    if top == "recipes":
        return "is found by its path, never imported"
    if room == "faces":
        light = target == "faces" or top in sys.stdlib_module_names or name.startswith("vision_train.errors.")
        return None if light or imported.for_types else "is more than the standard library, errors and other faces"
    if room in LIGHT_ROOMS and top in HEAVY and not imported.late:
        return "is heavy; import it where it is used"
    if target in (None, room) or room.startswith(f"{target}/"):
        return None
    return f"lies in `{target}`, which is no lower than `{room}`" if LEVEL.get(target, 0) <= LEVEL[room] else None


def _stranger(module: str, name: str) -> str | None:
    """Object to a task or kind of data that is imported from outside; a task names the face of its kind of data."""
    own, other = own_room(module), own_room(name)
    if other in (None, own):
        return None
    if own and not own.startswith("data/") and str(other).startswith("data/") and room_of(name) == "faces":
        return None
    return f"lies in `{other}`, which the registry of tasks alone names"


def unsafe_code(source: str) -> list[str]:
    """Find what would execute a file's content, and handlers that hide any mistake."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"line {node.lineno}: bare except")
        elif isinstance(node, ast.ImportFrom) and node.module in ("pickle", "yaml"):
            found += [f"line {node.lineno}: {node.module}.{a.name}" for a in node.names if a.name in ("load", "loads")]
        elif isinstance(node, ast.Call):
            found += [f"line {node.lineno}: {what}" for what in _unsafe_call(node)]
    return found


def _unsafe_call(call: ast.Call) -> Iterator[str]:
    function = ast.unparse(call.func)
    if function in ("eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "yaml.load_all", "yaml.unsafe_load"):
        yield function
    for argument in call.keywords:
        if ast.unparse(argument) in ("weights_only=False", "allow_pickle=True", "shell=True"):
            yield ast.unparse(argument)


# Each of the following looks at all files at once: a test for each of hundreds of files takes longer than its check.


def test_imports_go_down():
    assert [wrong for file in FILES for wrong in wrong_imports(module_name(file), SOURCES[file])] == []


def test_nothing_unsafe():
    assert [f"{module_name(file)}: {found}" for file in FILES for found in unsafe_code(SOURCES[file])] == []


def test_sizes():
    lines = {module_name(file): len(source.splitlines()) for file, source in SOURCES.items()}
    assert {name: count for name, count in lines.items() if count > MAXIMUM_LINES} == {}


def test_names():
    words = {file: {word for part in module_name(file).split(".") for word in part.split("_")} for file in FILES}
    assert [module_name(file) for file in FILES if words[file] & VAGUE_NAMES] == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("models.vit", "import vision_train.files"),
        ("models.vit", "from augment import mixing"),
        ("augment.mixing", "from models.attention import attention"),
        ("augment.mixing", "def f():\n    import pytorch_lightning"),
        ("augment.mixing", "import albumentations as A"),
        ("vision_train.data.images.build", "from vision_train.tasks.classification.task import build"),
        ("vision_train.data.images.build", "def f():\n    from vision_train.tasks import classification"),
        ("vision_train.data.images.build", "from vision_train.data.bags.build import build"),
        ("vision_train.data.images.build", "from vision_train.data.bags import BAGS"),
        ("vision_train.data.images", "from vision_train.data.pool import POOL"),
        ("vision_train.data.images", "from vision_train.data.decode import decode"),
        ("vision_train.data.module", "from vision_train.data.images.build import build"),
        ("vision_train.data.module", "from vision_train.data.images import IMAGES"),
        ("vision_train.data.kind", "from vision_train.recipe import Recipe"),
        ("vision_train.tasks.classification.task", "from vision_train.data import module"),
        ("vision_train.tasks.classification.task", "from vision_train.data.images.build import build"),
        ("vision_train.tasks.classification.task", "from vision_train.tasks.pretraining.scores import Scores"),
        ("vision_train.tasks.classification.options", "from vision_train.tasks.pretraining.options import Method"),
        ("vision_train.tasks.base", "from vision_train.tasks.classification.options import Method"),
        ("vision_train.tasks.classification.task", "from .options import Method"),
        ("vision_train.tasks.classification.options", "import numpy"),
        ("vision_train.tasks.classification.options", "from vision_train.files import read_json"),
        ("vision_train.report.page", "from vision_train import run"),
        ("vision_train.report.page", "def f():\n    from vision_train.report import bags"),
        ("vision_train.run.preview", "def f():\n    from vision_train.report.images import predictions"),
        ("vision_train.report.bags.pictures", "from vision_train.report.images.predictions import WIDTH"),
        ("vision_train.report.bags.pictures", "from vision_train.data.decode import decode"),
        ("vision_train.recipe.load", "from vision_train.optim import build_optimizer"),
        ("vision_train.recipe.load", "import torch"),
        ("vision_train.recipe.load", "import recipes"),
        ("vision_train.cli.fit", "import torch.nn as nn"),
        ("vision_train.cli.fit", "try:\n    from sklearn import datasets\nexcept ImportError:\n    pass"),
        ("vision_train.data.bags.verbs", "import torch"),
        ("vision_train.data.bags.build", "from vision_train.data.bags.verbs import add_verbs"),
        ("vision_train.run.fit", "from vision_train.data.bags import verbs"),
        ("vision_train.cli.data", "from vision_train.data.bags.verbs import add_verbs"),
        ("vision_train.run.fit", "from vision_train.tasks.bags.task import build"),
        ("vision_train.run.fit", "from vision_train.tasks.bags.options import Method"),
        ("vision_train.checkpoints", "import importlib\nimportlib.import_module('vision_train.run')"),
        ("vision_train.files", "from vision_train.recipe import load_recipe"),
    ],
)
def test_planted_import_is_found(module: str, line: str):
    assert len(wrong_imports(module, line)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("models.vit", "import torch\nfrom models.attention import attention"),
        ("augment.pipeline", "import albumentations"),
        ("vision_train.cli.fit", "def fit():\n    import torch\n    from vision_train import study"),
        ("vision_train.cli.fit", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("vision_train.report.bags.pictures", "from vision_train.report.page import render_page"),
        ("vision_train.data.bags.verbs", "import typer\nfrom vision_train.cli.console import plain_console"),
        ("vision_train.data.bags.verbs", "def embed():\n    from vision_train.run.encoder import load_encoder"),
        ("vision_train.run.phase", "from vision_train.tasks import base\nfrom vision_train.data.module import Stream"),
        ("vision_train.recipe.load", "from vision_train.tasks import task_packages\nimport omegaconf"),
        ("vision_train.data.images.build", "from vision_train.data.sources import read_samples"),
        ("vision_train.data.sources", "from vision_train.data.toy.digits import digits_samples"),
        (
            "vision_train.data.kind",
            "if typing.TYPE_CHECKING:\n    import vision_train.recipe",
        ),
        ("vision_train.tasks.classification.task", "from vision_train.tasks.base import Task"),
        ("vision_train.tasks.classification.task", "from vision_train.tasks.classification.options import Method"),
        ("vision_train.tasks.classification.options", "from vision_train.data.images import IMAGES"),
        ("vision_train.tasks.classification.options", "import dataclasses\nfrom vision_train.errors import UserError"),
    ],
)
def test_rightful_import_passes(module: str, line: str):
    assert wrong_imports(module, line) == []


def test_module_without_a_room_is_refused():
    assert "no room" in wrong_imports("vision_train.novelty", "")[0]


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, map_location='cpu', weights_only = False)",
        "try:\n    pass\nexcept:\n    pass",
        "pickle.load(file)",
        "from pickle import loads",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "eval('1')",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_planted_danger_is_found(line: str):
    assert len(unsafe_code(line)) == 1


def test_lookalikes_of_danger_pass():
    assert unsafe_code("model.eval()\nyaml.safe_load(text)\ntorch.load(path, weights_only=True)") == []


PROBE = """
import json, os, random, sys, threading
before = dict(os.environ), random.getstate()
for name in sys.argv[1:]:
    __import__(name)
changed = before != (dict(os.environ), random.getstate()) or threading.active_count() > 1
print(json.dumps({"modules": [*{name.split(".")[0] for name in sys.modules}], "changed": changed}))
"""
LOOKS = [name for name in map(module_name, FILES) if name.endswith(".look")]
LIGHT = [name for name in map(module_name, FILES) if room_of(name) in LIGHT_ROOMS and "__main__" not in name]


@pytest.mark.parametrize(
    "modules",
    [["vision_train"], ["augment"], ["models"], LIGHT, LOOKS],
    ids=["vision_train", "augment", "models", "light rooms", "what `new` looks with"],
)
def test_import_has_no_side_effects(modules: list[str], tmp_path: Path):
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *modules], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, "importing prints"
    seen = json.loads(done.stdout)
    assert not HEAVY & set(seen["modules"])
    assert not seen["changed"], "importing changes the environment, the random state or starts a thread"
    assert list(tmp_path.iterdir()) == []
