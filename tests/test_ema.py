from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vision_train.ema import AverageWeights, MovingAverage
from vision_train.recipe.optim_section import AverageWeights as Options


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


def test_the_average_answers_while_the_network_it_follows_trains():
    """A teacher's forward changes nothing of the student: neither weights, mode and statistics nor its gradients."""
    model = network().train()
    average, start = MovingAverage(model, decay=0.5), model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)
    images, before = torch.randn(4, 3), {name: value.clone() for name, value in model.state_dict().items()}
    taught = model[0](images)
    answer = average.train()(images)
    taught.square().sum().backward()
    assert not answer.requires_grad
    assert torch.equal(answer, average(images))  # batch statistics neither used nor changed
    assert model.training
    assert not any(module.training for module in average.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(average.weights["0.weight"], start)
    assert model[0].weight.grad is not None


def test_without_warm_up_the_first_update_has_the_full_decay():
    model = network()
    average, start = MovingAverage(model, decay=0.9, warmup=False), model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)
    average.update(model)
    torch.testing.assert_close(average.weights["0.weight"], start + 0.1)


def test_a_half_life_halves_the_weight_of_the_start():
    model = network()
    options = Options(half_life=20)
    average, start = MovingAverage(model, options.share_kept, warmup=False), model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)
    for _ in range(20):
        average.update(model)
    torch.testing.assert_close(average.weights["0.weight"], start + 0.5)
    assert Options().share_kept == 0.999


def test_buffers_that_checkpoints_leave_out_are_copied():
    model = network()
    model.register_buffer("scale", torch.ones(2), persistent=False)
    average = MovingAverage(model, decay=0.5)
    model.scale.fill_(3.0)
    average.update(model)
    assert torch.equal(average.network.scale, model.scale)
    assert "scale" not in average.weights


def test_tied_weights_come_back_and_are_averaged_once():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, shared)
    average = MovingAverage(model, decay=0.5)
    start = shared.weight.detach().clone()
    with torch.no_grad():
        shared.weight.add_(1.0)
    average.update(model)
    assert average.network[0] is average.network[1]
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
    assert average.weights["weight"].dtype == torch.float32
    assert torch.equal(average.network.weight, average.weights["weight"].to(dtype))
    restored = MovingAverage(model, decay=0.999)
    restored.restore(average.weights, average.updates)
    model.weight.data.mul_(2.0)
    for each in (average, restored):
        each.update(model)
    assert torch.equal(restored.weights["weight"], average.weights["weight"])
    assert torch.equal(restored.network.weight, average.network.weight)


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


@pytest.mark.parametrize("fails", [False, True])
def test_validation_sees_the_average_and_training_its_own_network(fails):
    task = SimpleNamespace(network=network())
    callback, trainer, trained = AverageWeights(0.9), SimpleNamespace(global_step=0), task.network
    callback.on_fit_start(trainer, task)
    own = trained[0].weight.detach().clone()
    callback.on_validation_start(trainer, task)
    assert task.network is callback.average.network
    if fails:
        callback.on_exception(trainer, task, RuntimeError())
    callback.on_validation_end(trainer, task)
    assert task.network is trained
    assert torch.equal(trained[0].weight, own)
