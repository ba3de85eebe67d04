"""What is decayed, how fast parts of a detector learn, and that parameters of equal settings share a group."""

import torch

from vision_train.optim import build_optimizer
from vision_train.recipe import load_recipe
from vision_train.tasks.detection.task import build


def test_a_detector_has_a_group_for_each_rate_and_decay_and_no_more():
    recipe = load_recipe("relation_detr/shapes", ["optim.lr_factors={'*sampling_offsets*': 0.1, 'backbone.*': 0.1}"])
    network = build(recipe, ["circle"]).network
    groups = build_optimizer(network, recipe.optim, effective_batch=8).param_groups
    settings = [(group["lr"], group["weight_decay"]) for group in groups]
    assert len(groups) == len({*settings}) == 4
    held = {id(each): rate for group, (rate, _) in zip(groups, settings, strict=True) for each in group["params"]}
    assert len(held) == len([*network.parameters()])
    slow = {name for name, each in network.named_parameters() if held[id(each)] < recipe.optim.lr}
    assert slow == {
        name for name, _ in network.named_parameters() if "sampling_offsets" in name or name.startswith("backbone.")
    }


def test_no_norm_or_bias_is_decayed_and_offsets_learn_more_slowly():
    """Norms of the neck and of the memory fusion, which the official code decays since their names do not say so."""
    recipe = load_recipe("relation_detr/shapes", smoke=True)
    network = build(recipe, ["a", "b"]).network
    groups = build_optimizer(network, recipe.optim, effective_batch=1).param_groups
    group_of = {id(parameter): group for group in groups for parameter in group["params"]}
    norms = (torch.nn.GroupNorm, torch.nn.LayerNorm)
    spared = {id(each) for module in network.modules() if isinstance(module, norms) for each in module.parameters()}
    fusion = network.transformer.encoder.memory_fusion
    assert {id(network.neck.convs[0][1].weight), id(fusion[-1].weight)} <= spared
    for name, parameter in network.named_parameters():
        group = group_of[id(parameter)]
        assert (group["weight_decay"] == 0) == (id(parameter) in spared or name.endswith("bias")), name
        factor = 0.1 if "sampling_offsets" in name else 1.0
        assert group["lr"] == recipe.optim.lr * factor, name
    assert len(groups) <= 4, "groups of the same settings are one"
