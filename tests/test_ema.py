import pytest
import torch
from torch import nn

from vision_train.ema import MovingAverage


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_update_is_the_recurrence_with_a_growing_decay():
    model = network()
    average = MovingAverage(model, decay=0.9)
    expected = model[0].weight.detach().clone()
    for step in range(12):
        with torch.no_grad():
            model[0].weight.add_(1.0)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model[0].weight.detach()
        average.update(model)
    torch.testing.assert_close(average.weights["0.weight"], expected)
    assert average.updates == 12


def test_names_are_those_of_the_network_and_counters_are_copied():
    model = network()
    average = MovingAverage(model, decay=0.5)
    model(torch.randn(4, 3))
    average.update(model)
    assert average.weights.keys() == model.state_dict().keys()
    assert average.weights["1.num_batches_tracked"].item() == 1


def test_the_network_carries_the_average_inside_the_block_only():
    model = network()
    average = MovingAverage(model, decay=0.5)
    start = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)
    parameter = model[0].weight
    with average.applied_to(model):
        assert torch.equal(model[0].weight, start)
    assert torch.equal(model[0].weight, start + 1)
    assert model[0].weight is parameter
    assert torch.equal(average.weights["0.weight"], start)


def test_own_weights_come_back_when_the_block_fails():
    model = network()
    average = MovingAverage(model, decay=0.5)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    own = model[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match="inside"), average.applied_to(model):
        raise RuntimeError("inside")
    assert torch.equal(model[0].weight, own)
