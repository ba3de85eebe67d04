"""Which networks for bags can be exported as a program that takes any number of instances."""

import torch

from models.mil.networks import NETWORKS
from vision_train.tasks.bags.options import NOT_TRACED
from vision_train.tasks.bags.program import INSTANCES, BagProgram

FEATURES = torch.rand(50, 8)


def takes_any_number(name: str) -> bool:
    program = BagProgram(NETWORKS[name](in_features=FEATURES.shape[1], width=16, classes=2))
    free = dict.fromkeys(INSTANCES, torch.export.Dim.AUTO)
    return bool(torch.export.export(program, (FEATURES,), dynamic_shapes=(free,)).range_constraints)


def test_networks_that_are_refused_are_those_whose_number_of_instances_would_be_fixed():
    assert {name for name in NETWORKS if not takes_any_number(name)} == {*NOT_TRACED}
