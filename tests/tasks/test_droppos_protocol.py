"""The published settings of DropPos, in the recipes that ship and in the optimiser and schedule that they give.

Item 13 of the acceptance list in ``docs/methods/droppos.md``.
"""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from models.vit import build_model
from vision_train.optim import build_optimizer, build_schedule, learning_rate_factor
from vision_train.recipe import load_recipe
from vision_train.recipe.plain import to_plain
from vision_train.run.phase import build_task

MANIFEST = Path(__file__).parents[1] / "golden" / "droppos" / "manifest.json"
OFFICIAL = json.loads(MANIFEST.read_text())["files"]["finetune.safetensors"]
SIZES = pytest.mark.parametrize("size", ["base", "large"])
ENCODERS = {"base": (768, 12, 12), "large": (1024, 24, 16)}
"""Width, depth and heads."""

COMMON = {
    "data.image_size": 224,
    "augment.train.crop_ratio": [3 / 4, 4 / 3],
    "augment.train.horizontal_flip": 0.5,
    "augment.train.color_jitter": 0.0,
    "augment.train.interpolation": "bicubic",
    "augment.eval.crop_share": 0.875,
    "augment.eval.interpolation": "bicubic",
    "augment.mean": [0.485, 0.456, 0.406],
    "augment.std": [0.229, 0.224, 0.225],
    "augment.mixing.maskmix": 0.0,
    "optim.name": "adamw",
    "optim.lr_reference_batch": 256,
    "optim.schedule": "cosine",
    "optim.warmup_lr": 0.0,
    "optim.weight_decay": 0.05,
    "optim.ema": None,
}
PRETRAINING = COMMON | {
    "task": "pretraining",
    "augment.train.crop_scale": [0.2, 1.0],
    "augment.train.rand_augment": None,
    "augment.train.erasing": 0.0,
    "augment.mixing.mixup": 0.0,
    "augment.mixing.cutmix": 0.0,
    "model.args": {},
    "method.masking": {"mask_ratio": 0.75, "position_mask_ratio": 0.75, "context_ratio": 1.0},
    "method.dropped_position": "learned",
    "method.decoder": {"width": 512, "depth": 2, "heads": 16},
    "method.smoothing": {"sigma": 1.0, "decay": True, "compat": None},
    "method.affinity": {"tokens": "full", "temperature": 0.1, "every": 1},
    "method.position_weight": None,
    "optim.lr": 1.5e-4,
    "optim.min_lr": 0.0,
    "optim.betas": [0.9, 0.95],
    "optim.layer_decay": None,
    "optim.clip_each_norm": 5.0,
    "trainer": {"max_epochs": 800},
}
FINETUNING = COMMON | {
    "task": "classification",
    "augment.train.crop_scale": [0.08, 1.0],
    "augment.train.rand_augment": "rand-m9-mstd0.5-inc1",
    "augment.train.erasing": 0.25,
    "augment.mixing.mixup": 0.5,
    "augment.mixing.cutmix": 0.5,
    "augment.mixing.mixup_alpha": 0.8,
    "augment.mixing.cutmix_alpha": 1.0,
    "augment.mixing.labels": "area",
    "model.positions": "sincos",
    "model.head_std": 2e-5,
    "model.args": {"global_pool": "avg", "drop_path_rate": 0.1},
    "method.label_smoothing": 0.1,
    "optim.lr": 1e-3,
    "optim.warmup_epochs": 5,
    "optim.betas": [0.9, 0.999],
    "optim.layer_decay": 0.75,
    "optim.clip_each_norm": None,
}
OF_SIZE = {
    "droppos/vit_base": {"data.batch_size": 64, "optim.warmup_epochs": 10},
    "droppos/vit_large": {"data.batch_size": 128, "optim.warmup_epochs": 40},
    "droppos/finetune_vit_base": {"data.batch_size": 32, "trainer": {"max_epochs": 100}},
    "droppos/finetune_vit_large": {"data.batch_size": 64, "trainer": {"max_epochs": 50}},
}
PROCESSES = {
    "droppos/vit_base": 64,
    "droppos/vit_large": 32,
    "droppos/finetune_vit_base": 32,
    "droppos/finetune_vit_large": 16,
}
"""On how many of them, with one such batch each, the published figures were trained."""
EPOCH = 100
"""Optimiser steps; the official schedule moves with every step too, by fractions of an epoch."""


def shipped(name):
    return load_recipe(name, runnable=False)


def value_of(plain, key):
    for part in key.split("."):
        plain = plain[part]
    return plain


def published_batch(name):
    return PROCESSES[name] * shipped(name).data.batch_size


def network_of(name):
    with torch.device("meta"):
        return build_task(shipped(name), ["a", "b"] if "finetune" in name else []).network


def groups(network, optimizer):
    """Learning rate and weight decay of every parameter that is optimised."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def rates(network, recipe, batch):
    """The learning rate of the fastest group at a fractional epoch."""
    optimizer = build_optimizer(network, recipe.optim, effective_batch=batch)
    total = recipe.trainer["max_epochs"] * EPOCH
    schedule = build_schedule(optimizer, recipe.optim, total_steps=total, steps_per_epoch=EPOCH)
    factor, peak = schedule.lr_lambdas[0], max(schedule.base_lrs)
    return lambda epoch: peak * factor(round(epoch * EPOCH))


@pytest.mark.parametrize("name", OF_SIZE)
def test_item_13_recipes_hold_every_published_value(name):
    plain = to_plain(shipped(name))
    expected = (FINETUNING if "finetune" in name else PRETRAINING) | OF_SIZE[name]
    assert {key: value_of(plain, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "batch", "rate"),
    [
        ("droppos/vit_base", 4096, 2.4e-3),
        ("droppos/vit_large", 4096, 2.4e-3),
        ("droppos/finetune_vit_base", 1024, 4e-3),
        ("droppos/finetune_vit_large", 1024, 4e-3),
    ],
)
def test_item_13_recipes_reach_the_published_rate_at_the_published_batch(name, batch, rate):
    optim, effective = shipped(name).optim, published_batch(name)
    assert effective == batch
    assert optim.lr * learning_rate_factor(optim, effective) == pytest.approx(rate, rel=1e-12)


@SIZES
@pytest.mark.parametrize("kind", ["", "finetune_"])
def test_item_13_encoders_are_the_published_ones(kind, size):
    network = network_of(f"droppos/{kind}vit_{size}")
    encoder = network if kind else network.encoder
    width, depth, heads = ENCODERS[size]
    assert (encoder.embed_dim, len(encoder.blocks), encoder.patch_embed.patch_size) == (width, depth, (16, 16))
    assert encoder.pos_embed.shape == (1, 197, width)
    assert not encoder.pos_embed.requires_grad
    assert {block.attn.num_heads for block in encoder.blocks} == {heads}
    assert {m.eps for m in network.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}
    assert not any(module.p for module in network.modules() if isinstance(module, nn.Dropout))
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in encoder.blocks]
    last = 0.1 if kind else 0.0
    assert rates == pytest.approx([last * index / (depth - 1) for index in range(depth)])


def test_item_13_pre_training_has_the_published_number_of_parameters():
    network = network_of("droppos/vit_base")
    sizes = {
        part: sum(p.numel() for p in network.get_submodule(part).parameters() if p.requires_grad)
        for part in ("encoder", "decoder")
    }
    assert sizes["encoder"] / 1e6 == pytest.approx(85.6, abs=0.1)
    assert sizes["decoder"] / 1e6 == pytest.approx(6.8, abs=0.1)


def test_item_13_layer_decay_table_is_the_official_one():
    table, recipe = OFFICIAL["layer_decay_groups"], shipped("droppos/finetune_vit_base")
    assert (recipe.optim.layer_decay, recipe.optim.weight_decay) == (table["layer_decay"], table["weight_decay"])
    shape = {"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "global_pool": "avg"}
    network = build_model("vit", num_classes=7, image_size=64, **shape)
    network.pos_embed.requires_grad_(False)
    found = groups(network, build_optimizer(network, recipe.optim, effective_batch=1024))
    expected = {name: (4e-3 * row["lr_scale"], row["weight_decay"]) for name, row in table["params"].items()}
    assert found.keys() == expected.keys()
    for name, (rate, decay) in expected.items():
        assert found[name] == (pytest.approx(rate, abs=1e-9), decay), name


@SIZES
def test_item_13_fine_tuning_decays_by_layer_at_full_size(size):
    """0.75 ** (depth + 1 - id), with id 0 for what comes before the blocks and depth + 1 for what comes behind."""
    name, depth = f"droppos/finetune_vit_{size}", ENCODERS[size][1]
    network, optim = network_of(name), shipped(name).optim
    found = groups(network, build_optimizer(network, optim, effective_batch=1024))
    assert found.keys() == {n for n, p in network.named_parameters() if p.requires_grad}
    for parameter, (rate, decay) in found.items():
        first, _, rest = parameter.partition(".")
        identity = {"blocks": 1 + int(rest.split(".")[0])} if first == "blocks" else {"fc_norm": depth + 1}
        identity |= {"head": depth + 1, "cls_token": 0, "patch_embed": 0}
        assert rate == pytest.approx(4e-3 * 0.75 ** (depth + 1 - identity[first]), abs=1e-9), parameter
        spared = network.get_parameter(parameter).ndim <= 1 or parameter == "cls_token"
        assert decay == (0 if spared else 0.05), parameter


@pytest.mark.parametrize("name", ["droppos/vit_base", "droppos/vit_base_pixels", "droppos/vit_large"])
def test_item_13_pre_training_decays_tokens_and_spares_biases_and_norms(name):
    network, optim = network_of(name), shipped(name).optim
    optimizer = build_optimizer(network, optim, effective_batch=4096)
    found = groups(network, optimizer)
    assert found.keys() == {n for n, p in network.named_parameters() if p.requires_grad}
    assert [rate for rate, _ in found.values()] == pytest.approx([2.4e-3] * len(found), abs=1e-9)
    for parameter, (_, decay) in found.items():
        assert decay == (0 if network.get_parameter(parameter).ndim <= 1 else 0.05), parameter
    tokens = {"encoder.cls_token", "mask_pos_token", *(["pixel_decoder.mask_token"] if "pixels" in name else [])}
    assert {found[token][1] for token in tokens} == {0.05}
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.95)}


@pytest.mark.parametrize(
    ("name", "samples"),
    [("droppos/vit_base", "lr_schedule_pretrain"), ("droppos/finetune_vit_base", "lr_schedule_finetune")],
)
def test_item_13_learning_rates_are_the_official_ones_at_every_sample(name, samples):
    official, recipe = OFFICIAL[samples], shipped(name)
    assert (recipe.trainer["max_epochs"], recipe.optim.warmup_epochs) == (official["epochs"], official["warmup_epochs"])
    rate = rates(network_of(name), recipe, published_batch(name))
    for epoch, expected in official["samples"]:
        assert rate(epoch) == pytest.approx(expected, abs=1e-9), epoch
    end = recipe.optim.min_lr * learning_rate_factor(recipe.optim, published_batch(name))
    assert rate(official["epochs"]) == pytest.approx(end, abs=1e-12)
    assert end == pytest.approx(official["min_lr"], abs=1e-12)
