"""Small networks and the layouts in which their weights are published."""

import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.vit import build_model

SMALL = {"patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}


@pytest.fixture
def small_vit() -> Callable[..., nn.Module]:
    """Build a small vision transformer, its weights all random so that nothing passes by luck."""

    def build(image_size: int = 16, num_classes: int = 5, **args: Any) -> nn.Module:
        model = build_model("vit", num_classes=num_classes, image_size=image_size, **SMALL | args)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.3)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def published() -> types.ModuleType:
    """The study's functions that give a model's weights the names of official files."""
    script = Path(__file__).parents[2] / "docs" / "studies" / "checkpoint_names.py"
    spec = importlib.util.spec_from_file_location("checkpoint_names", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def yacs(monkeypatch: pytest.MonkeyPatch) -> type:
    """A dict with attributes that pickles as ``yacs.config.CfgNode``, as official files hold it."""
    module = types.ModuleType("yacs.config")
    module.CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    return module.CfgNode
