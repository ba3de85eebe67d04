"""Small networks and the layouts in which their weights are published."""

from collections.abc import Callable
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
