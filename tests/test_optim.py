import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from models.vit import build_model
from vision_train.errors import UserError
from vision_train.optim import ClipEachGradient, build_optimizer, build_schedule, schedule
from vision_train.recipe.optim_section import Optim


def vit() -> nn.Module:
    return build_model("vit", num_classes=3, image_size=8, patch_size=4, embed_dim=12, depth=2, num_heads=2)


def test_warm_up_is_linear_and_ends_at_the_peak():
    options = Optim(lr=1e-2, warmup_lr=1e-3, warmup_epochs=1)
    rates = [options.lr * schedule(step, options=options, total_steps=100, warmup_steps=10) for step in range(11)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[5] == pytest.approx(5.5e-3)
    assert rates[10] == pytest.approx(1e-2)


def test_cosine_reaches_half_way_and_the_floor():
    options = Optim(lr=1e-2, min_lr=2e-3)
    at = {
        step: options.lr * schedule(step, options=options, total_steps=100, warmup_steps=0)
        for step in (0, 50, 100, 500)
    }
    assert at[0] == pytest.approx(1e-2)
    assert at[50] == pytest.approx(6e-3)
    assert at[100] == at[500] == pytest.approx(2e-3)
    quarter = schedule(25, options=options, total_steps=100, warmup_steps=0)
    assert quarter == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)


def test_constant_schedule_stays():
    options = Optim(lr=1e-2, schedule="constant")
    assert schedule(77, options=options, total_steps=100, warmup_steps=5) == 1.0


def test_schedule_is_a_function_of_the_step_alone():
    model, options = vit(), Optim(warmup_epochs=2)
    optimizer = build_optimizer(model, options, effective_batch=1)
    straight = build_schedule(optimizer, options, total_steps=40, steps_per_epoch=4)
    for _ in range(13):
        optimizer.step()
        straight.step()
    resumed = build_schedule(
        build_optimizer(model, options, effective_batch=1), options, total_steps=40, steps_per_epoch=4
    )
    resumed.load_state_dict(straight.state_dict())
    optimizer.step()
    straight.step()
    resumed.step()
    assert resumed.get_last_lr() == straight.get_last_lr()


def test_biases_norms_positions_and_tokens_are_not_decayed():
    model = vit()
    optimizer = build_optimizer(model, Optim(weight_decay=0.3), effective_batch=1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert {"head.weight", "blocks.0.attn.qkv.weight", "patch_embed.proj.weight"} <= decayed
    assert not decayed & {"pos_embed", "cls_token", "head.bias", "blocks.0.norm1.weight"}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.3}


def test_layer_decay_scales_by_distance_from_the_head():
    model = vit()
    optimizer = build_optimizer(model, Optim(lr=1.0, layer_decay=0.5), effective_batch=1)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rate[id(model.head.weight)] == pytest.approx(1.0)
    assert rate[id(model.blocks[0].attn.qkv.weight)] == pytest.approx(0.5 * rate[id(model.blocks[1].attn.qkv.weight)])
    assert rate[id(model.patch_embed.proj.weight)] == pytest.approx(0.5 * rate[id(model.blocks[0].attn.qkv.weight)])
    shape = build_schedule(optimizer, Optim(lr=1.0, layer_decay=0.5), total_steps=10, steps_per_epoch=1)
    assert max(shape.get_last_lr()) == pytest.approx(1.0)


def test_learning_rate_scales_with_the_effective_batch():
    optimizer = build_optimizer(vit(), Optim(lr=1e-3, lr_reference_batch=256), effective_batch=64)
    assert {group["lr"] for group in optimizer.param_groups} == {2.5e-4}


def test_unknown_optimiser_is_named():
    with pytest.raises(UserError, match=r"optim\.name=adamww"):
        build_optimizer(vit(), Optim(name="adamww"), effective_batch=1)


def test_layer_decay_without_layers_is_refused():
    with pytest.raises(UserError, match=r"optim\.layer_decay"):
        build_optimizer(nn.Linear(2, 2), Optim(layer_decay=0.5), effective_batch=1)


def test_betas_reach_the_optimiser():
    optimizer = build_optimizer(vit(), Optim(betas=(0.9, 0.95)), effective_batch=1)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.95)}


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
