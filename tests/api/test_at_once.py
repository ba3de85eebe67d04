"""Calls from Python refuse at once what can be refused, and say at once what they do.

What the command line refuses is in tests/cli/test_refused_at_once.py; both ask the same checks.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vision_train
from vision_train import progress
from vision_train.errors import UserError
from vision_train.recipe import load_recipe, write_recipe

HEAVY = ("torch", "pytorch_lightning", "timm", "albumentations")
REFUSED = {
    "fit('classification/vit_small', {'data.root': 'nowhere'})": "data.root .*/nowhere: no such folder",
    "fit('classification/vit_small', {'data.root': '.', 'model.checkpoint': 'no.pth'})": "no.pth: does not exist",
    "fit('quickstart', {'trainer.callbacks': ['gone']})": "no installed package offers gone",
    "fit('quickstart', run_dir='run')": "run: exists and is not empty",
    "Run('run').resume()": "run: is finished",
    "evaluate('run')": "data.root .*/gone: no such folder",
    "evaluate('run', 'tst', {'data.root': '.'})": "tst: is unknown; there are train, val, test",
    "evaluate('run', tta='mirror')": "mirror: is unknown; there are flips, five-crop",
    "evaluate('detector', tta='flips')": "task=detection does not say what its answers on several views are",
    "predict('run', 'nowhere')": "nowhere: no such file or folder",
    "predict('run', '.', overrides={'data.on_bad': 'ignore'})": "data.on_bad: is `ignore`",
    "load('empty')": "empty: has no weights yet",
    "compare(['classification/vit_tiny', 'classification/vit_small'], {'data.root': 'no'})": "data.root .*/no: no",
    "compare(['quickstart', 'classification/vit_small'], jobs=0)": "jobs 0: must be at least 1",
}
PROBE = """
import json, sys, vision_train
said = {}
def heard(line, error):
    said[line] = [str(error), [name for name in %r if name in sys.modules]]
"""
CALL = """
try:
    vision_train.%s
except vision_train.UserError as error:
    heard(%r, error)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what is left of finished runs whose images are gone."""
    monkeypatch.chdir(tmp_path)
    recipes = {
        "run": "classification/vit_small",
        "detector": "relation_detr/resnet50",
        "empty": "classification/vit_small",
    }
    for run, recipe in recipes.items():
        Path(run, "checkpoints").mkdir(parents=True)
        write_recipe(Path(run, "recipe.yaml"), load_recipe(recipe, ["data.root=gone"], runnable=False))
        if run != "empty":
            Path(run, "checkpoints/best.ckpt").touch()
            Path(run, "summary.json").write_text("{}")
    return tmp_path


@pytest.mark.slow
def test_mistakes_are_told_before_anything_heavy_is_imported(place: Path) -> None:
    lines = [PROBE % (HEAVY,), *(CALL % (line, line) for line in REFUSED), "json.dump(said, sys.stdout)"]
    probe = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.keys() == REFUSED.keys()
    for line, (message, heavy) in said.items():
        assert re.search(REFUSED[line], message), (line, message)
        assert heavy == [], line


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize(
    "call",
    [
        "fit('classification/vit_small', {{'data.root': '.'}}, quiet={})",
        "evaluate('run', None, {{'data.root': '.'}}, quiet={})",
        "predict('run', '.', quiet={})",
        "load('run', quiet={})",
        "compare(['quickstart', 'quickstart_digits.yaml'], quiet={})",
    ],
)
def test_a_call_says_what_it_does_before_it_imports_what_is_heavy(place: Path, call: str, quiet: bool) -> None:
    """Its libraries are replaced by ones that cannot be imported: the line is there all the same."""
    Path("quickstart_digits.yaml").write_text("extends: quickstart\noptim: {lr: 1.0e-4}\n")
    Path("broken").mkdir()
    Path("broken/torch.py").write_text("raise SystemExit(7)\n")
    environment = {**os.environ, "PYTHONPATH": f"{place / 'broken'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    code = f"import vision_train; vision_train.{call.format(quiet)}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 7, done.stderr
    assert ("loading PyTorch and Lightning" in done.stdout) is not quiet


def test_what_comes_before_the_first_step_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noting_display: type
) -> None:
    noted = noting_display()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "_display_for", lambda console: noted)

    def stop(*_: object) -> None:
        raise UserError("before the first step")

    monkeypatch.setattr("vision_train.run.fit.create_run", stop)
    with pytest.raises(UserError, match="before the first step"):
        vision_train.fit("quickstart", {"data.labels_per_class": 2, "optim.lr": "auto"})
    assert noted.texts[0] == "fit quickstart: loading PyTorch and Lightning"
    assert {"listing images", "finding a learning rate"} <= {*noted.texts}


@pytest.mark.parametrize("name", ["evaluate", "predict", "load"])
def test_functions_take_what_the_methods_take(name: str) -> None:
    """By name and with types, so that editors and type checkers know them."""
    function, method = getattr(vision_train, name), getattr(vision_train.Run, name)
    of_function, of_method = (inspect.signature(each).parameters for each in (function, method))
    assert [*of_function][1:] == [*of_method][1:]
    for each in [*of_function][1:]:
        assert of_function[each].annotation == of_method[each].annotation
        assert of_function[each].default == of_method[each].default
