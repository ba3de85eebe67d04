"""Losses of networks for bags; acceptance 5 of their specification."""

import math

import pytest
import torch
from torch.nn import functional

from models.mil.acmil import AcmilGA
from models.mil.bags import InstanceLogits
from models.mil.losses import bag_loss, branch_loss, clam_instance_loss, diversity_loss, negative_entropy
from models.mil.stkim import InstanceMasking, MaskSampler


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def pair_loop(attention):
    """As published: every pair of branches, one cosine after the other."""
    branches = attention.shape[1]
    pairs = [(i, j) for i in range(branches) for j in range(i + 1, branches)]
    similar = [functional.cosine_similarity(attention[:, i], attention[:, j], dim=-1).mean() for i, j in pairs]
    return sum(similar) / len(pairs)


class TestDiversity:
    @pytest.mark.parametrize("shape", [(1, 5, 100), (3, 2, 7), (2, 3, 8, 40), (1, 5, 1)])
    def test_item_5_gram_form_equals_the_pair_loop_with_its_gradient(self, shape):
        scores = torch.randn(shape, requires_grad=True)
        ours, theirs = diversity_loss(scores.softmax(-1)), pair_loop(scores.softmax(-1))
        assert 0 <= ours.item() <= 1 + 1e-6
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
        gradients = [torch.autograd.grad(loss, scores)[0] for loss in (ours, theirs)]
        torch.testing.assert_close(*gradients, atol=1e-6, rtol=0)

    def test_item_5_identical_rows_give_one(self):
        network = AcmilGA(6, 8, 2, branches=4)
        with torch.no_grad():
            for parameter in network.attention.attention_weights.parameters():
                parameter.copy_(parameter[:1].expand_as(parameter))
        assert diversity_loss(network(torch.randn(1, 30, 6)).attention).item() == pytest.approx(1, abs=1e-6)

    def test_item_5_disjoint_attention_gives_zero(self):
        assert diversity_loss(torch.eye(3)[None]).item() == 0

    def test_item_5_hidden_instances_take_part_as_zeros(self):
        network = AcmilGA(6, 8, 2, branches=4)
        draw = MaskSampler(InstanceMasking(), seed=0).draw(1, (4,))
        attention = network(torch.randn(1, 30, 6), hidden=draw).attention
        torch.testing.assert_close(diversity_loss(attention), pair_loop(attention), atol=1e-6, rtol=0)

    def test_item_5_a_single_branch_gives_zero(self):
        output = AcmilGA(6, 8, 2, branches=1)(torch.randn(2, 9, 6))
        assert diversity_loss(output.attention).item() == 0
        assert branch_loss(output.branch_logits, torch.tensor([0, 1])).item() == 0

    def test_padding_and_autocast_change_nothing(self):
        attention = torch.randn(1, 5, 50).softmax(-1)
        padded = functional.pad(attention, (0, 13))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(diversity_loss(padded), pair_loop(attention), atol=1e-6, rtol=0)


class TestCrossEntropies:
    def test_every_branch_meets_the_label_of_its_own_bag(self):
        logits, labels = torch.randn(3, 5, 4), torch.tensor([2, 0, 3])
        expected = [
            functional.cross_entropy(logits[bag, None, t], labels[bag, None]) for bag in range(3) for t in range(5)
        ]
        torch.testing.assert_close(branch_loss(logits, labels), torch.stack(expected).mean())

    def test_half_precision_logits_are_summed_in_float32(self):
        assert bag_loss(torch.randn(2, 3).bfloat16(), torch.tensor([0, 1])).dtype == torch.float32


class TestNegativeEntropy:
    def test_equals_the_published_form(self):
        scores = torch.randn(2, 1, 40, requires_grad=True)
        ours = negative_entropy(scores.softmax(-1))
        theirs = (scores.softmax(-1) * scores.log_softmax(-1)).sum(-1).mean()
        torch.testing.assert_close(ours, theirs)
        gradients = [torch.autograd.grad(loss, scores)[0] for loss in (ours, theirs)]
        torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)

    def test_lies_between_uniform_and_a_single_instance(self):
        assert negative_entropy(torch.full((1, 1, 8), 1 / 8)).item() == pytest.approx(-math.log(8))
        assert negative_entropy(torch.eye(1, 8)[None]).item() == 0

    def test_zeros_give_finite_gradients(self):
        scores = torch.tensor([[[1.0, 2.0, -math.inf, -200.0]]], requires_grad=True)
        negative_entropy(scores.softmax(-1)).backward()
        assert scores.grad.isfinite().all()


class TestClamInstances:
    def logits(self, classes, bags=2, shown=4):
        valid = torch.arange(shown) < torch.tensor([[shown], [2]])
        return InstanceLogits(torch.randn(bags, classes, shown, 2), torch.randn(bags, classes, shown, 2), valid)

    def test_two_classes_use_the_own_class_alone(self):
        logits, labels = self.logits(2), torch.tensor([1, 0])
        counts, expected = (4, 2), []
        for bag, label in enumerate(labels):
            ends = [end[bag, label, : counts[bag]] for end in (logits.attended, logits.unattended)]
            targets = torch.tensor([1] * counts[bag] + [0] * counts[bag])
            expected.append(functional.cross_entropy(torch.cat(ends), targets))
        torch.testing.assert_close(clam_instance_loss(logits, labels), torch.stack(expected).mean())

    def test_more_classes_count_the_attended_as_of_no_other(self):
        logits, labels = self.logits(3), torch.tensor([1, 0])
        total = torch.zeros(())
        for bag, count in enumerate((4, 2)):
            for label in range(3):
                attended, unattended = logits.attended[bag, label, :count], logits.unattended[bag, label, :count]
                if label == labels[bag]:
                    targets = torch.tensor([1] * count + [0] * count)
                    total += functional.cross_entropy(torch.cat([attended, unattended]), targets)
                else:
                    total += functional.cross_entropy(attended, torch.zeros(count, dtype=torch.long))
        torch.testing.assert_close(clam_instance_loss(logits, labels), total / 6)

    def test_bags_too_small_to_show_any_add_nothing(self):
        logits = self.logits(2)._replace(valid=torch.zeros(2, 4, dtype=torch.bool))
        assert clam_instance_loss(logits, torch.tensor([0, 1])).item() == 0
