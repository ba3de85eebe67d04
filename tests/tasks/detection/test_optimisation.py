"""What is decayed and how fast parts of a detector learn."""

import torch

from vision_train.optim.optimizer import build_optimizer
from vision_train.recipe import load_recipe
from vision_train.tasks.detection.task import build


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
