"""The recipes of RefCOCO train the parts of a network as the released code does."""

import pytest
import torch

from vision_train.optim import build_optimizer, freeze
from vision_train.recipe import load_recipe
from vision_train.run.phase import build_task

RECIPES = ("studies/actress/refcoco_supervised", "studies/actress/refcoco_vltvg")


@pytest.mark.parametrize("name", RECIPES)
def test_rates_decay_and_frozen_layers_are_those_of_the_release(name: str):
    recipe = load_recipe(name, runnable=False)
    with torch.device("meta"):
        network = build_task(recipe, []).network
        assert isinstance(recipe.model.freeze, list)
        freeze(network, recipe.model.freeze)
        optimizer = build_optimizer(network, recipe.optim, effective_batch=64)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    rates = {names[id(each)]: group["lr"] for group in optimizer.param_groups for each in group["params"]}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {1e-4}
    learnt_before = {name for name, rate in rates.items() if rate == pytest.approx(1e-5)}
    assert learnt_before == {name for name in rates if name.startswith(("visual.", "text."))}
    assert {rate for name, rate in rates.items() if name not in learnt_before} == {1e-4}
    backbone = {name.split(".")[2] for name in rates if name.startswith("visual.backbone.")}
    assert backbone == {"layer2", "layer3", "layer4"}
    assert recipe.data.batch_size * recipe.trainer["accumulate_grad_batches"] == 64
    assert (recipe.trainer["max_epochs"], recipe.optim.milestones) == (90, [60])
