"""The code of `docs/export.md` runs on what the commands there write."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vision_train.recipe import load_recipe
from vision_train.run.export.formats import FORMATS
from vision_train.run.export.verb import export_run
from vision_train.run.fit import fit

PAGE = (Path(__file__).parents[3] / "docs" / "export.md").read_text(encoding="utf-8")
QUIET = Console(quiet=True)


def blocks(heading: str) -> list[str]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert found, heading
    return found


@pytest.mark.slow
def test_the_code_for_classifiers_runs_on_what_the_commands_write(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("quickstart", ["trainer.max_epochs=1", "trainer.limit_train_batches=1"])
    run = fit(recipe, run_dir=None, command=[], console=QUIET).path
    for name, out in (("timm", Path("digits")), ("hf", None), ("onnx", None)):
        export_run(run, name, out=out, size=None, console=QUIET)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (30, 20), dtype=np.uint8)).save("photo.png")
    capsys.readouterr()
    for block in (*blocks("The weights of a run"), *blocks("Classifiers, regression and encoders")):
        exec(compile(block, "docs/export.md", "exec"), {})
    said = capsys.readouterr().out.split("\n")
    assert said[0].startswith("timm.create_model('vit_base_patch16_224', num_classes=10, ")
    assert said[1].split()[0] == said[2] == said[3], "three libraries name the same class"


def test_the_page_names_every_format():
    assert {name for name in FORMATS if f"| `{name}` |" in PAGE} == FORMATS.keys()
