from pathlib import Path

import pytest
from rich.console import Console

from vision_train.data.toy.digits import make_digits
from vision_train.recipe import load_recipe
from vision_train.run.dry_run import dry_run
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit


@pytest.fixture
def finished(tiny) -> Path:
    return fit(load_recipe(tiny, ["trainer.max_epochs=2"]), run_dir=None, command=[], console=Console(quiet=True)).path


@pytest.mark.parametrize("folder", ["digits", "digits/test"], ids=["divided into splits", "class folders alone"])
def test_other_images_are_measured_whole(finished, folder):
    make_digits(Path("digits"))
    own = evaluate_run(finished, "test")
    other = evaluate_run(finished, "test", ["data.source=images", f"data.root={folder}"])
    assert other["test/samples"] == own["test/samples"] == 300
    # The same scans in the same classes, by way of files.
    assert other["test/loss"] == pytest.approx(own["test/loss"], rel=1e-4)


def test_a_dry_run_covers_every_phase_and_writes_nothing(tiny):
    Path("first.yaml").write_text(f"extends: {tiny}\ntrainer: {{max_epochs: 7}}\n")
    before = sorted(Path.cwd().rglob("*"))
    text = dry_run(load_recipe(tiny, ["run.pretrain=first.yaml"]))
    assert "phase pretrain" in text
    assert "phase fit" in text
    assert "21 in all" in text  # seven epochs of three steps
    assert sorted(Path.cwd().rglob("*")) == before
