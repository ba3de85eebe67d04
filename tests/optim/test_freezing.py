from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vision_train.errors import UserError
from vision_train.optim import KeepFrozen, freeze


def network() -> nn.Module:
    body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    return nn.ModuleDict({"body": body, "norm": nn.LayerNorm(4), "head": nn.Linear(4, 2)})


def test_a_module_that_is_frozen_as_a_whole_keeps_its_statistics_and_drops_nothing():
    model = network().train()
    frozen = freeze(model, ["body.*"])
    assert frozen == [model["body"]]
    callback = KeepFrozen(frozen)
    model.train()
    callback.on_train_batch_start(SimpleNamespace(), SimpleNamespace(), None, 0)
    assert [name for name, module in model.named_modules() if module.training] == ["", "norm", "head"]
    before = model["body"][1].running_mean.clone()
    images = torch.randn(5, 3)
    assert torch.equal(model["body"](images), model["body"](images))
    assert torch.equal(model["body"][1].running_mean, before)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "norm.weight",
        "norm.bias",
        "head.weight",
        "head.bias",
    }


def test_a_module_that_is_frozen_in_part_trains_on():
    model = network().train()
    assert freeze(model, ["body.0.weight", "head.bias"]) == []
    assert model["body"].training
    assert not model["body"][0].weight.requires_grad
    assert not model["head"].bias.requires_grad


@pytest.mark.parametrize(
    ("glob", "near"), [("body", r"body\.\*"), ("bodi.*", r"body\.\*"), ("xyz", "body, head, norm")]
)
def test_a_glob_that_matches_nothing_is_named_with_the_nearest(glob, near):
    with pytest.raises(UserError, match=rf"model\.freeze: `{glob.replace('*', '.')}`.*{near}"):
        freeze(network(), ["head.*", glob])


def test_something_must_be_left_to_train():
    with pytest.raises(UserError, match=r"model\.freeze.*nothing is trained"):
        freeze(network(), ["*"])
