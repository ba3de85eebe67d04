"""Recipes to plan studies with."""

from pathlib import Path

import pytest

BASE = """
description: Nothing is trained.
extends: quickstart
data: {labels_per_class: 10}
"""


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the recipes `plain`, `mixed` and `fast`."""
    monkeypatch.chdir(tmp_path)
    Path("plain.yaml").write_text(BASE)
    Path("mixed.yaml").write_text("extends: plain.yaml\naugment: {mixing: {cutmix: 0.75}}\n")
    Path("fast.yaml").write_text("extends: plain.yaml\noptim: {lr: 0.01}\n")
    return tmp_path
