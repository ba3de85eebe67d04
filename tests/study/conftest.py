"""Recipes to plan studies with."""

from pathlib import Path

import pytest

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
