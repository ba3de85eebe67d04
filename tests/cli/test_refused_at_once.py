"""What can be refused is refused before anything heavy is imported; and what is not says at once what it does."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vision_train.recipe import load_recipe, write_recipe

HEAVY = ("torch", "pytorch_lightning", "timm", "albumentations", "h5py", "cv2")
REFUSED = {
    "fit vit.yaml data.root=nowhere": "data.root .*/nowhere: no such folder; say where the images are",
    "fit vit.yaml data.root=. data.labels=no.csv": "data.labels .*/no.csv: no such file .* data.labels",
    "fit vit.yaml data.root=. model.checkpoint=no.pth": "model.checkpoint .*/no.pth: does not exist",
    "fit semi.yaml data.root=. data.unlabelled=nopool": "data.unlabelled .*/nopool: no such .*`rest` or `labelled`",
    "fit vit.yaml data.root=nowhere --dry-run": "data.root .*/nowhere: no such folder",
    "fit vit.yaml data.root=. optim.lrr=1": "optim.lrr: unknown key",
    "fit vit.yaml data.root=. run.pretrain=wrong.yaml": "optim.lrr: unknown key",
    "fit vit.yaml data.root=. --run-dir run": "run: exists and is not empty",
    "fit --resume nowhere": "nowhere: no such run directory",
    "fit --resume run": "run: is finished",
    "preview vit.yaml data.root=nowhere": "data.root .*/nowhere: no such folder",
    "compare vit.yaml vit.yaml data.root=.": "are the same recipe",
    "compare vit.yaml other.yaml data.root=nowhere": "data.root .*/nowhere: no such folder",
    "compare vit.yaml other.yaml data.root=. --jobs 0": "--jobs 0: must be at least 1",
    "compare vit.yaml other.yaml data.root=. --out begun": r"(?s)another study; .*\n  --folds: were 2, are not given$",
    "compare vit.yaml other.yaml data.root=. --out run": "run: holds .* and is no study; .*--out",
    "evaluate nowhere": "nowhere: no such run directory",
    "evaluate run": "data.root .*/gone: no such folder",
    "evaluate run data.root=. --split tst": "--split tst: is unknown; there are train, val, test",
    "evaluate run data.rot=.": "data.rot: unknown key; did you mean data.root",
    "predict nowhere .": "nowhere: no such run directory",
    "predict run nowhere": "nowhere: no such file or folder",
    "predict run . --out vit.txt": "--out vit.txt: ends in neither",
    "predict run . --out there.csv": "--out there.csv: exists; .*--force",
    "predict run . --images .": "--images: is for pictures",
    "predict run . data.on_bad=ignore": "data.on_bad: is `ignore`",
    "export nowhere": "nowhere: no such run directory",
    "export run --format caffe": "--format caffe: is unknown; there are onnx, torch-export",
    "export run --out vit.pt": "--out vit.pt: does not end in .onnx",
    "export run --out there.onnx": "there.onnx: is there already; .*--force",
    "export run --size 0 224": "--size 0 224: must be at least 1 pixel",
    "export transmil": "--format onnx: cannot hold .*task=bags, model.name=transmil, .*--format safetensors",
    "export dense --format torch-export": "--format torch-export: cannot hold .*task=dense_detection, .*start from",
    "export transmil --format timm": "--format timm: cannot hold .*task=bags.* none of timm's",
    "export run --push digits/of/me": "--push digits/of/me: is no name of a repository",
    "inspect no.pth": "no.pth: does not exist",
    "inspect run --features no.png": "--features no.png: no such image",
    "data embed nowhere bags --checkpoint no.pth": "nowhere: no such image",
    "data embed . bags --checkpoint no.pth": "no.pth: no such file or run directory; .*--checkpoint",
    "data check nowhere": "nowhere: no such folder of a data set or file of annotations",
    "data check . --images nowhere": "nowhere: no such folder; .*--images",
    "data correlation nowhere": "nowhere: no such file of annotations",
    "data repack nowhere out": "nowhere: no such file or folder of features",
    "data oracle nowhere": "nowhere: no such run directory",
    "data oracle run": "run: gave no boxes to a pool",
}
PROBE = """
import json, sys, time
from typer.testing import CliRunner
from vision_train.cli import app
said = {}
for line in json.load(sys.stdin):
    began = time.monotonic()
    result = CliRunner().invoke(app, line.split())
    heavy = [name for name in %r if name in sys.modules]
    said[line] = [result.exit_code, result.stderr, result.stdout, heavy, repr(result.exception)]
print(json.dumps(said))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with recipes and what is left of a finished run whose images are gone."""
    monkeypatch.chdir(tmp_path)
    Path("vit.yaml").write_text("extends: classification/vit_small\n")
    Path("other.yaml").write_text("extends: classification/vit_small\noptim: {lr: 1e-5}\n")
    Path("semi.yaml").write_text("extends: semi/classification\n")
    Path("wrong.yaml").write_text("extends: classification/vit_small\noptim: {lrr: 1}\n")
    _leave_run("run", "vit.yaml", "data.root=gone")
    _leave_run("transmil", "acmil/slides_transmil", "data.root=gone", "data.labels=gone.csv", "data.splits=gone.csv")
    _leave_run("dense", "actress/referring_visual")
    Path("begun").mkdir()
    begun = {"arms": ["vit", "other"], "seeds": 1, "folds": 2, "grid": None, "test_images": ["of the first fold"]}
    Path("begun/study.json").write_text(json.dumps(begun))
    Path("there.csv").touch()
    Path("there.onnx").touch()
    return tmp_path


def _leave_run(name: str, recipe: str, *overrides: str) -> None:
    Path(name, "checkpoints").mkdir(parents=True)
    Path(name, "checkpoints/best.ckpt").touch()
    Path(name, "summary.json").write_text("{}")
    write_recipe(Path(name, "recipe.yaml"), load_recipe(recipe, overrides))


@pytest.mark.slow
def test_mistakes_are_told_before_anything_heavy_is_imported(place: Path) -> None:
    probe = [sys.executable, "-c", PROBE % (HEAVY,)]
    done = subprocess.run(probe, input=json.dumps([*REFUSED]), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for line, (code, stderr, stdout, heavy, exception) in json.loads(done.stdout).items():
        assert code == 2, (line, stderr, exception)
        assert stderr.startswith("Error: "), line
        assert re.search(REFUSED[line], stderr), (line, stderr)
        assert stdout == "", line
        assert heavy == [], line


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb", ["fit vit.yaml data.root=empty", "evaluate run data.root=empty", "predict run empty", "export run"]
)
def test_a_verb_says_what_it_does_before_it_imports_what_is_heavy(place: Path, verb: str) -> None:
    """Its libraries are replaced by ones that cannot be imported: the line is there all the same."""
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/torch.py").write_text("raise SystemExit(7)\n")
    environment = {**os.environ, "PYTHONPATH": f"{place / 'broken'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-m", "vision_train", *verb.split()],
        env={**environment, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 7, done.stderr
    assert f"{verb.split()[0]} " in done.stdout + done.stderr
    assert "loading PyTorch and Lightning" in done.stdout + done.stderr
