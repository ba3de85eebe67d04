"""Texts of ``predict --text``: which runs take them, found without loading anything heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

from vision_train.errors import UserError
from vision_train.recipe import load_recipe, write_recipe
from vision_train.run.texts import check_texts


def run_of(name: str, place: Path) -> Path:
    place.mkdir()
    write_recipe(place / "recipe.yaml", load_recipe(name))
    return place


def test_a_run_of_a_task_without_texts_refuses_them_by_name(tmp_path):
    run = run_of("quickstart", tmp_path / "run")
    check_texts(run, [])
    with pytest.raises(UserError, match=r"--text: .*run is a run of classification.*leave it out"):
        check_texts(run, ["the red cup"])


def test_an_empty_text_is_refused(tmp_path):
    run = run_of("studies/actress/referring_supervised", tmp_path / "run")
    check_texts(run, ["the red cup"])
    with pytest.raises(UserError, match="--text: is empty"):
        check_texts(run, ["the red cup", "  "])


def test_the_refusal_comes_before_anything_heavy_is_imported(tmp_path):
    run = run_of("quickstart", tmp_path / "run")
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from vision_train.cli.predict import predict\n"
        "from vision_train.errors import UserError\n"
        "try:\n"
        f"    predict(Path({str(run)!r}), ['x.png'], text=['cup'])\n"
        "except UserError:\n"
        "    print('torch' in sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
