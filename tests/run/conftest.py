"""A recipe small enough to train whole in a second or two."""

from pathlib import Path

import pytest
from rich.console import Console

TINY = """
description: A tiny ViT on digits, with everything random that a run can hold.
extends: quickstart
seed: 3
data: {batch_size: 32, labels_per_class: 10}
augment: {train: {color_jitter: 0.2}}
model: {args: {embed_dim: 24, depth: 2, num_heads: 2, drop_path_rate: 0.1, proj_drop_rate: 0.1}}
optim: {warmup_epochs: 1, ema: {decay: 0.9}}
trainer: {max_epochs: 4, log_every_n_steps: 1}
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Path of the tiny recipe; the working directory is a fresh one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VISION_TRAIN_RUN_DIRECTORY", raising=False)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture
def quiet() -> Console:
    return Console(quiet=True)
