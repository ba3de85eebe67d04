"""Attention pooling: its gradient, its parts, and its memory (acceptance 7 of the specification)."""

import itertools

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from models.mil import instances
from models.mil.abmil import ABMIL
from models.mil.acmil import AcmilGA
from models.mil.acmil_mha import AcmilMHA
from models.mil.instances import PoolingWeights
from models.mil.losses import bag_loss, branch_loss, diversity_loss
from models.mil.pooling import attention_pool

MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def weights(scoring, dtype=torch.float64, in_features=5, width=6, attention=4, rows=3):
    shapes = {"embedding": (width, in_features), "score": (rows, attention), "score_bias": (rows,)}
    if scoring == "linear":
        shapes["score"] = (rows, width)
    else:
        shapes |= {"value": (attention, width), "value_bias": (attention,)}
    if scoring == "gated":
        shapes |= {"gate": (attention, width), "gate_bias": (attention,)}
    return PoolingWeights(
        **{name: torch.randn(shape, dtype=dtype, requires_grad=True) for name, shape in shapes.items()}
    )


def plainly(bag, given, hide=None):
    """The same, step by step, left to autograd."""
    embedded = (bag @ given.embedding.T).relu()
    evidence = embedded
    if given.value is not None:
        evidence = (embedded @ given.value.T + given.value_bias).tanh()
    if given.gate is not None:
        evidence = evidence * (embedded @ given.gate.T + given.gate_bias).sigmoid()
    scores = (evidence @ given.score.T + given.score_bias).T
    if hide is not None:
        scores = scores.masked_fill(hide(scores), float("-inf"))
    attention = scores.softmax(dim=1)
    return attention @ embedded, attention, scores


def hide_some(scores):
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.topk(3, dim=1).indices[:, ::2], True)


@pytest.mark.parametrize("scoring", ["gated", "plain", "linear"])
@pytest.mark.parametrize("hide", [None, hide_some])
@pytest.mark.parametrize("part", [4, 100])
class TestGradient:
    def test_equals_that_of_the_plain_steps(self, scoring, hide, part, monkeypatch):
        monkeypatch.setattr(instances, "_PART", part)
        given, bag = weights(scoring), torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
        inputs = [bag, *(weight for weight in given if weight is not None)]
        random = [torch.randn(3, 6, dtype=torch.float64), torch.randn(3, 11, dtype=torch.float64)]
        ours, theirs = attention_pool(bag, given, hide), plainly(bag, given, hide)
        for found, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(found, expected)
        for used in ((0, 1), (0,), (1,)):
            sums = [sum((random[i] * outputs[i]).sum() for i in used) for outputs in (ours, theirs)]
            gradients = [torch.autograd.grad(total, inputs, retain_graph=True) for total in sums]
            for found, expected in zip(*gradients, strict=True):
                torch.testing.assert_close(found, expected)


class TestParts:
    @pytest.mark.parametrize("scoring", ["gated", "linear"])
    def test_running_softmax_equals_the_whole(self, scoring, monkeypatch):
        monkeypatch.setattr(instances, "_PART", 4)
        given = weights(scoring)
        # Ever higher scores, so that every part puts right the sum before it.
        bag = torch.randn(19, 5, dtype=torch.float64) * torch.arange(1, 20)[:, None]
        with torch.no_grad():
            streamed = attention_pool(bag, given)
        for found, expected in zip(streamed, plainly(bag, given), strict=True):
            torch.testing.assert_close(found, expected, check_dtype=False, atol=1e-12, rtol=1e-9)

    def test_features_need_no_gradient(self):
        given = weights("gated")
        attention_pool(torch.randn(7, 5, dtype=torch.float64), given).features.sum().backward()
        assert all(weight.grad is not None for weight in given if weight is not None)

    def test_tanh_by_sigmoid_keeps_float32_accuracy(self):
        rows, weight, bias = torch.randn(500, 8), torch.randn(4, 8), torch.randn(4)
        exact = (rows.double() @ weight.T.double() + bias).tanh()
        torch.testing.assert_close(instances._tanh_linear(rows, weight, bias).double(), exact, atol=1e-6, rtol=0)


class PeakMemory(TorchDispatchMode):
    """The most bytes at once in tensors that were made under it."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        given = {tensor.untyped_storage().data_ptr() for tensor in args if isinstance(tensor, torch.Tensor)}
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in given:
                storage = tensor.untyped_storage()
                self.alive[storage.data_ptr()] = (StorageWeakRef(storage), storage.nbytes())
        self.alive = {at: entry for at, entry in self.alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result


class TestMemory:
    @pytest.mark.parametrize("build", [AcmilGA, AcmilMHA])
    def test_item_7_training_grows_in_proportion(self, build):
        network, label, peaks = build(64, 32, 2), torch.tensor([1]), []
        for count in (10_000, 20_000):
            features = torch.randn(1, count, 64)
            with PeakMemory() as memory:
                output = network(features)
                loss = bag_loss(output.bag_logits, label) + branch_loss(output.branch_logits, label)
                (loss + diversity_loss(output.attention)).backward()
            peaks.append(memory.peak)
        assert peaks[0] > 10_000 * 32 * 4
        assert peaks[1] <= 2.2 * peaks[0]

    def test_item_7_inference_takes_little_beyond_the_features(self):
        network = AcmilGA(512, 64, 2, attention_width=32).eval()
        features = torch.randn(1000, 512).half().repeat(200, 1)[None]
        with torch.no_grad(), PeakMemory() as memory:
            streamed = network(features)
        assert memory.peak < 300 * MEGABYTE
        direct = network(features)
        torch.testing.assert_close(streamed.bag_logits, direct.bag_logits, atol=1e-4, rtol=0)
        torch.testing.assert_close(streamed.attention, direct.attention, atol=1e-4, rtol=0)

    def test_item_7_inference_grows_by_scores_and_attention_alone(self):
        network, peaks = AcmilGA(64, 32, 2).eval(), []
        for count in (10_000, 20_000):
            features = torch.randn(1, count, 64)
            with torch.no_grad(), PeakMemory() as memory:
                network(features)
            peaks.append(memory.peak)
        # Scores in parts and whole, attention, and the attention of the batch: 4 maps of 5 branches.
        assert peaks[1] - peaks[0] <= 4 * 5 * 4 * 10_000 * 1.05


def test_parts_of_maps_and_bags_agree():
    bag = torch.zeros(2500, 3)
    for part, mapped in itertools.zip_longest(instances.split_bag(bag), instances.split_map(bag.T)):
        assert len(part) == mapped.shape[1]


def test_even_attention_to_many_instances_does_not_overflow_half_precision():
    network = ABMIL(4, 4, 2).half().eval()
    with torch.no_grad():
        network.attention.attention_weights.weight.zero_()  # every score the same
        network.dimreduction.fc1.weight.copy_(torch.eye(4))
        bag = torch.full((1, 4096, 4), 80.0, dtype=torch.float16)  # 1,024 of them add up to more than 65,504
        output = network(bag)
    assert output.bag_feature is not None
    torch.testing.assert_close(output.bag_feature, torch.full((1, 4), 80.0, dtype=torch.float16))
