"""Parameters of a detector whose settings are equal share a group."""

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
