"""Recipes to plan studies with."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.study.made_up_runs import study_of, with_pretraining
from vision_train.study import conduct as room
from vision_train.study import writing

BASE = """
description: Whole, so that no change of a shipped recipe moves what is expected of it.
task: classification
data: {source: digits, image_size: 16, batch_size: 64, workers: 0, labels_per_class: 10}
model: {name: vit, args: {patch_size: 4, embed_dim: 96, depth: 4, num_heads: 3}}
augment:
  mean: [0.5, 0.5, 0.5]
  std: [0.5, 0.5, 0.5]
  mixing: {maskmix: 0.0, mixup: 0.0, cutmix: 0.0, mask_patch: null, labels: area}
optim: {name: adamw, lr: 2.0e-3, warmup_epochs: 5, schedule: cosine, weight_decay: 0.05}
trainer: {max_epochs: 40, accelerator: cpu}
"""


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the recipes `plain`, `mixed` and `fast`."""
    monkeypatch.chdir(tmp_path)
    Path("plain.yaml").write_text(BASE)
    Path("mixed.yaml").write_text("extends: plain.yaml\naugment: {mixing: {cutmix: 0.75}}\n")
    Path("fast.yaml").write_text("extends: plain.yaml\noptim: {lr: 0.01}\n")
    return tmp_path


@pytest.fixture
def conduct(recipes, monkeypatch):
    """Conduct a study of made-up runs; returns what was said. Plots, which take longest, are drawn where asked."""

    def call(
        train, *arguments, seeds=3, grid=None, jobs=1, pretraining=(), folds=None, change=None, drawn=False, **elsewhere
    ):
        study = with_pretraining(study_of(*arguments, seeds=seeds, grid=grid, folds=folds), *pretraining)
        study = change(study) if change else study
        if not drawn:
            monkeypatch.setattr(writing, "draw_plot", lambda study, result: b"a plot")
        monkeypatch.setattr(room, "resolve_arms", lambda plan: study.resolved)
        console = Console(file=io.StringIO(), width=1000)
        options = {"jobs": jobs, "console": console, "train": train}
        command = "vision-train compare ..."
        try:
            if elsewhere.pop("emitted", False):
                call.lines = room.emit(study.plan, Path("study"), command=command, console=console)
            else:
                room.conduct(study.plan, Path("study"), command=command, **options, **elsewhere)
        finally:
            call.said = console.file.getvalue()
        return call.said

    return call
