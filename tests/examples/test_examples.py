"""The examples learn something, and import no engine."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST = 80


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "epochs", "better_than"), [("mixpro_in_your_loop", 5, 0.3), ("acmil_in_your_loop", 6, 0.8)]
)
def test_an_example_learns_and_prints_a_line_an_epoch(
    name: str, epochs: int, better_than: float, capsys: pytest.CaptureFixture[str]
):
    losses, score = load(name).main(epochs=epochs)

    assert len(losses) == epochs
    assert losses[-1] < losses[0]
    assert score > better_than, "guessing gives 0.1 (accuracy) or 0.5 (AUROC)"
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == epochs + 1
    assert f"{score:.3f}" in lines[-1]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_short_and_imports_only_the_libraries(file: Path):
    source = file.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LONGEST
    imported = {node.module.split(".")[0] for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"torch", "sklearn", "augment", "models"}


@pytest.mark.slow
def test_nothing_of_the_engine_is_loaded_by_the_libraries_that_the_examples_use():
    modules = {
        node.module
        for file in EXAMPLES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module.startswith(("augment.", "models."))
    }
    code = f"import sys, json\nimport {', '.join(sorted(modules))}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"vision_train", "pytorch_lightning", "omegaconf"}
