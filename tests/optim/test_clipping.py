from types import SimpleNamespace

import torch
from torch import nn

from vision_train.optim import ClipEachGradient


def test_every_gradient_is_clipped_by_itself():
    """A tensor with a long gradient is shortened to the norm; others, and those without any, stay as they are."""
    network = nn.ModuleDict({name: nn.Linear(4, 3) for name in ("long", "short", "unused")})
    scales = {"long": 100.0, "short": 0.01}
    sum((scales[name] * network[name](torch.randn(5, 4))).square().sum() for name in scales).backward()
    before = {
        name: parameter.grad.clone() for name, parameter in network.named_parameters() if parameter.grad is not None
    }
    ClipEachGradient(2.0).on_before_optimizer_step(SimpleNamespace(), network, SimpleNamespace())
    for name, gradient in before.items():
        clipped = network.get_parameter(name).grad
        torch.testing.assert_close(clipped, gradient * min(1.0, 2.0 / gradient.norm().item()))
        assert torch.equal(clipped, gradient) == name.startswith("short")
    assert network["unused"].weight.grad is None
