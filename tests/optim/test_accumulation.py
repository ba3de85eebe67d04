"""A step counts for the batches it holds: the update of a batch equals that of its parts accumulated."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from rich.console import Console

from vision_train.optim import WholeWindows
from vision_train.recipe import load_recipe
from vision_train.run.dry_run import dry_run
from vision_train.run.fit import fit

RECIPE = """
extends: quickstart
data: {labels_per_class: 6, workers: 0}
augment: {mixing: {maskmix: 0, mixup: 0, cutmix: 0, labels: area}}
model: {args: {embed_dim: 24, depth: 1, num_heads: 2}}
optim: {name: sgd, lr: 0.1, weight_decay: 0, schedule: constant, warmup_epochs: 0}
trainer: {max_epochs: 1, limit_val_batches: 1, limit_test_batches: 1}
"""


@pytest.fixture
def update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Weights and average after an epoch over 60 images, given the batch size and the batches of a window."""
    monkeypatch.chdir(tmp_path)
    Path("sixty.yaml").write_text(RECIPE)

    def train(batch: int, accumulated: int, *overrides: str) -> dict[str, torch.Tensor]:
        keys = [f"data.batch_size={batch}", f"trainer.accumulate_grad_batches={accumulated}", *overrides]
        directory = fit(load_recipe("sixty.yaml", keys), run_dir=None, command=[], console=Console(quiet=True))
        checkpoint = torch.load(directory.path / "checkpoints" / "last.ckpt", weights_only=True)
        return {**checkpoint["state_dict"], **checkpoint.get("averaged", {})}

    return train


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize(
    ("overrides", "tolerance"),
    [
        ([], 1e-6),
        (["trainer.gradient_clip_val=0.1", "optim.clip_each_norm=0.05", "optim.ema.decay=0.9"], 1e-6),
        (["trainer.precision=bf16-mixed"], 2e-3),
        (["method.class_weights=balanced", "method.label_smoothing=0.1"], 1e-6),
    ],
    ids=["plain", "clipped and averaged", "bf16", "weighted"],
)
@pytest.mark.parametrize("accumulated", [3, 7])
def test_a_whole_batch_and_the_same_batch_accumulated_agree(update, overrides, tolerance, accumulated):
    """Three batches of 20 images in a window of three, and in one of seven, which the epoch does not fill."""
    assert_close(update(20, accumulated, *overrides), update(60, 1, *overrides), tolerance)


class Line(LightningModule):
    """A single weight whose gradient in a batch is the batch's number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.weight * batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.mark.parametrize(("accumulated", "moved"), [(2, -(1.5 + 3)), (3, -2), (7, -2)])
def test_every_window_moves_by_its_mean_gradient(accumulated: int, moved: float):
    line = Line()
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, accumulate_grad_batches=accumulated, callbacks=[WholeWindows()], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(line, torch.utils.data.DataLoader(torch.tensor([1.0, 2.0, 3.0]), batch_size=None))
    assert line.weight.item() == pytest.approx(2 * moved), "in each of two epochs"


def test_a_dry_run_states_the_images_of_a_step_that_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sixty.yaml").write_text(RECIPE)
    said = dry_run(load_recipe("sixty.yaml", ["data.batch_size=60", "trainer.accumulate_grad_batches=4"]))
    assert "60 images a step" in said
    assert "trainer.accumulate_grad_batches=4" in said
    said = dry_run(load_recipe("sixty.yaml", ["data.batch_size=20", "trainer.accumulate_grad_batches=2"]))
    assert "40 images a step" in said
    assert "20 in the last step of an epoch" in said
