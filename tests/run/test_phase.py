"""What a phase plans and what it keeps when it is killed at the worst moment.

Items are those of the specification of learning from unlabelled images.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.data.toy.folder import make_image_folder
from vision_train.ema import AverageWeights
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run import checkpointing
from vision_train.run.dry_run import dry_run
from vision_train.run.fit import fit, resume
from vision_train.run.phase import averaging, prepare, scan
from vision_train.run.steps import TrainingSteps, count_steps
from vision_train.run.trainer import build_trainer
from vision_train.tasks.classification.task import ClassificationTask


@pytest.mark.parametrize(("limit", "steps"), [("1", 1), ("2", 2), ("1.0", 3), ("0.5", 1), ("null", 3)])
def test_steps_are_planned_within_the_limits_as_lightning_reads_them(tiny, limit, steps):
    recipe = load_recipe(tiny, [f"trainer.limit_train_batches={limit}"])
    counted = count_steps(recipe, prepare(scan(recipe)).data, build_trainer(recipe, []))
    assert (counted.per_epoch, counted.total) == (steps, 4 * steps)


@pytest.mark.parametrize("total", [50, 720, 6_930, 1_000_000])
def test_item_3_the_teacher_of_a_run_forgets_half_in_a_tenth_of_its_steps(total):
    steps = TrainingSteps(1, 1, 1, 1, total, 1, total, 1)
    (average,) = averaging(load_recipe("semi/digits"), steps)
    assert isinstance(average, AverageWeights)
    assert abs(math.log(0.5, average.decay) - min(693, total / 10)) < 1


def test_a_run_killed_while_it_saves_its_best_epoch_resumes(tiny, monkeypatch, quiet):
    """With nothing learned, no later epoch would write `best.ckpt` again."""

    def killed(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    recipe = load_recipe(tiny, ["optim.lr=1e-9", "trainer.max_epochs=2"])
    with monkeypatch.context() as patch:
        patch.setattr(checkpointing, "link_or_copy", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, run_dir=Path("cut"), command=[], console=quiet)
    directory = resume(Path("cut"), console=quiet)
    assert json.loads(directory.summary.read_text())["train/best_epoch"] == 0


def test_a_run_is_not_resumed_on_other_classes(tiny, tmp_path, monkeypatch, quiet):
    images = tmp_path / "images"
    make_image_folder(images, classes=3, per_class=12, size=(20, 20))
    options = ["data.source=images", f"data.root={images}", "data.labels_per_class=null", "data.batch_size=8"]

    def stopped(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpointing, "link_or_copy", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(load_recipe(tiny, options), run_dir=Path("cut"), command=[], console=quiet)
    (images / "class_0").rename(images / "zebra")  # sorted last, it would take another label
    with pytest.raises(UserError, match="`zebra` is not one of the run's classes"):
        resume(Path("cut"), console=quiet)


@pytest.mark.parametrize("override", ["trainer.val_check_interval=10", "trainer.check_val_every_n_epoch=2"])
def test_a_dry_run_validates_whenever_the_recipe_does(tiny, monkeypatch, override):
    """Shortened to a few steps, the recipe's own interval would never come, or be refused by Lightning."""
    scored = []
    original = ClassificationTask.validation_step
    monkeypatch.setattr(ClassificationTask, "validation_step", lambda *given: scored.append(1) or original(*given))
    assert "steps" in dry_run(load_recipe(tiny, ["data.labels_per_class=80", override]))
    assert len(scored) == 2


def test_a_compiler_that_is_not_there_is_one_message(tiny, monkeypatch):
    def compile_badly(self):
        def backend(graph, inputs):
            raise ModuleNotFoundError("No module named 'setuptools'")

        compile_network(self, backend=backend)

    compile_network = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", compile_badly)
    with pytest.raises(UserError, match=r"model\.compile=true: .*setuptools"):
        fit(load_recipe(tiny, ["model.compile=true"]), run_dir=None, command=[], console=Console(quiet=True))
