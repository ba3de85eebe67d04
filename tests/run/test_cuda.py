"""What only a GPU can show. On a machine with one: ``pytest tests/run/test_cuda.py``."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.recipe import load_recipe
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = ("trainer.accelerator=gpu", "trainer.devices=1", "trainer.max_epochs=2")


@pytest.mark.parametrize(
    "options",
    [
        ("trainer.precision=32-true",),
        ("trainer.precision=16-mixed", "trainer.gradient_clip_val=1.0"),
        ("trainer.precision=bf16-mixed", "trainer.accumulate_grad_batches=2"),
        ("trainer.strategy=ddp",),
        ("model.compile=true",),
    ],
    ids=lambda options: options[0],
)
def test_training_on_a_gpu_agrees_with_evaluating_on_a_cpu(tiny, options):
    directory = fit(load_recipe(tiny, [*CUDA, *options]), run_dir=Path("run"), command=[], console=Console(quiet=True))
    summary = json.loads(directory.summary.read_text())
    on_cpu = evaluate_run(directory.path, "test", ["trainer.accelerator=cpu", "trainer.precision=32-true"])
    assert summary["test/loss"] == pytest.approx(on_cpu["test/loss"], rel=2e-2)
