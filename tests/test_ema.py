from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vision_train.ema import AverageWeights, MovingAverage


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


def test_the_network_carries_the_average_until_it_is_restored():
    model = network()
    average = MovingAverage(model, decay=0.5)
    start = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)
    parameter = model[0].weight
    average.apply_to(model)
    assert torch.equal(model[0].weight, start)
    average.restore(model)
    assert torch.equal(model[0].weight, start + 1)
    assert model[0].weight is parameter
    assert torch.equal(average.weights["0.weight"], start)


def test_tied_weights_come_back_and_are_averaged_once():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, shared)
    average = MovingAverage(model, decay=0.5)
    start = shared.weight.detach().clone()
    with torch.no_grad():
        shared.weight.add_(1.0)
    average.apply_to(model)
    average.restore(model)
    assert torch.equal(shared.weight, start + 1)
    average.update(model)
    for name in ("0.weight", "1.weight"):
        torch.testing.assert_close(average.weights[name], 0.1 * start + 0.9 * (start + 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_updates_of_sixteen_bit_weights_are_not_lost(dtype):
    model = nn.Linear(4, 4).to(dtype)
    average = MovingAverage(model, decay=0.999)
    average.updates = 10**6  # warm
    start = average.weights["weight"].clone()
    with torch.no_grad():
        model.weight.mul_(1.5)
    for _ in range(500):
        average.update(model)
    share = (average.weights["weight"] - start).sum() / (model.weight - start).sum()
    assert share.item() == pytest.approx(1 - 0.999**500, abs=1e-3)


def test_a_resumed_run_does_not_count_the_step_it_resumes_from():
    """Batches that only accumulate follow the resumption; an update there would differ from the uninterrupted run."""
    task = SimpleNamespace(network=network())
    callback, trainer = AverageWeights(0.9), SimpleNamespace(global_step=0)
    callback.on_load_checkpoint(trainer, task, {"averaged": MovingAverage(task.network, 0.9).weights})
    callback.load_state_dict({"updates": 7})
    callback.on_fit_start(trainer, task)
    trainer.global_step = 7  # Lightning restores its loops after on_fit_start
    callback.on_train_start(trainer, task)
    callback.on_train_batch_end(trainer, task)
    assert callback.average.updates == 7
    trainer.global_step = 8
    callback.on_train_batch_end(trainer, task)
    assert callback.average.updates == 8


def test_own_weights_come_back_when_validation_fails():
    task = SimpleNamespace(network=network())
    callback, trainer = AverageWeights(0.9), SimpleNamespace(global_step=0)
    callback.on_fit_start(trainer, task)
    with torch.no_grad():
        task.network[0].weight.add_(1.0)
    own = task.network[0].weight.detach().clone()
    callback.on_validation_start(trainer, task)
    assert not torch.equal(task.network[0].weight, own)
    callback.on_exception(trainer, task, RuntimeError())
    assert torch.equal(task.network[0].weight, own)
