"""The recipes of RefCOCO train the parts of a network as the released code does."""

import json
import re
from pathlib import Path

import pytest
import torch

from models.grounding.names import OF_VLTVG
from vision_train.optim import build_optimizer, choose_trained, freeze
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


def trained(recipe) -> set[str]:
    """Names of the parameters that a recipe trains."""
    with torch.device("meta"):
        network = build_task(recipe, []).network
        freeze(network, recipe.model.freeze)
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_vltvg_trains_what_its_official_network_trains():
    listed = json.loads((Path(__file__).parents[2] / "golden" / "vltvg" / "r50_names.json").read_text())
    fixed, every = (
        {OF_VLTVG.ours(name.replace("backbone.0.body.", "backbone.")) for name in listed[key]}
        for key in ("parameters_without_gradient", "shapes")
    )
    named = every - fixed
    recipe = load_recipe("studies/actress/refcoco_vltvg", ["model.args.bins=null"], runnable=False)
    found = trained(recipe)
    assert found <= named
    # What is left has no gradient: statistics and affine of norms in the ResNet, and tables of offsets.
    assert all(re.search(r"\.(bn\d|downsample\.1)\.|\.pos_[xy]$", name) for name in named - found)


def test_the_first_epochs_of_vltvg_leave_the_branches_as_they_are():
    recipe = load_recipe("studies/actress/refcoco_vltvg", runnable=False)
    with torch.device("meta"):
        network = build_task(recipe, []).network
    frozen = choose_trained(network, recipe.model, heads=(), adaptable=list)
    first = trained(recipe) - frozen.at_first
    assert {name.partition(".")[0] for name in first} == {
        "text_proj",
        "verification",
        "reasoning",
        "box_head",
        "bin_head",
    }
    assert {name.partition(".")[0] for name in frozen.at_first} == {"visual", "text"}
    assert frozen.modules_at_first == [network.visual, network.text]
    # What is frozen for good is not released.
    assert not any(name.startswith(("visual.backbone.conv1.", "visual.backbone.layer1.")) for name in frozen.at_first)
    assert recipe.model.freeze_first is not None
    assert (recipe.model.freeze_first.epochs, recipe.trainer["max_epochs"], recipe.optim.milestones) == (10, 90, [60])
