"""What must hold of Relation-DETR whatever its weights: the acceptance list of its specification."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import softplus
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import box_iou, generalized_box_iou

from models.detr.boxes import generalized_iou, to_corners
from models.detr.criterion import Criterion, count_boxes, detection_losses, outside_ignored
from models.detr.decoder import Predictions
from models.detr.denoising import DenoisingGenerator, Target
from models.detr.matching import MatchingCosts, match
from models.detr.network import RelationDetr
from models.detr.transformer import TransformerSizes
from tests.models.detr.conftest import random_boxes, random_targets


class TestNetwork:
    IMAGES = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    WHOLE = torch.zeros(2, 96, 128, dtype=torch.bool)

    def test_item_4_hybrid_queries_know_no_relation(self, make_network):
        network = make_network()
        targets = random_targets([3, 2])
        losses = Criterion()(network.learn(self.IMAGES, self.WHOLE, targets), targets)
        sum(value for name, value in losses.items() if name.endswith("_hybrid")).backward()
        assert network.transformer.decoder.position_relation_embedding.pos_proj[0].weight.grad is None

    def test_item_6_spoilt_targets_do_not_leak(self, make_network):
        network, targets = make_network(), random_targets([3, 2])
        with torch.no_grad():
            first, second = (
                network.learn(self.IMAGES, self.WHOLE, targets, generator=torch.Generator().manual_seed(seed)).found
                for seed in (0, 1)
            )
            alone = network(self.IMAGES, self.WHOLE)
        assert torch.equal(first.queries.logits, second.queries.logits)
        assert_close(first.queries.logits, alone.queries.logits, atol=1e-5, rtol=0)
        assert_close(first.queries.boxes, alone.queries.boxes, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("hide_empty", [True, False])
    def test_item_7_denoising_of_an_image_knows_nothing_of_others(self, make_network, hide_empty):
        """Its denoising losses add nothing to those of the others, and do not change with their counts.

        The number of groups follows the fullest image, so that a target and its negatives stand in one group here. The
        official code shows and punishes empty slots: there the losses change.
        """
        network = make_network(hide_empty=hide_empty)
        criterion = Criterion(hide_empty=hide_empty)
        network.denoising_generator.count = 1  # one group, whatever the counts
        network.denoising_generator.label_noise = network.denoising_generator.box_noise = 0.0
        (one,), sums = random_targets([2]), []
        for others in (2, 4, 9):
            targets = [one, *random_targets([others], seed=7)]
            trained = network.learn(self.IMAGES, self.WHOLE, targets)
            mine = trained._replace(
                denoising=Predictions(*(each[:, :1] for each in trained.denoising)),
                spoilt=trained.spoilt._replace(
                    content=trained.spoilt.content[:1], boxes=trained.spoilt.boxes[:1], filled=trained.spoilt.filled[:1]
                ),
            )
            losses = criterion._denoising(mine, [one], [2])
            sums.append(torch.stack([*losses.values()]).sum())
        unchanged = all(torch.allclose(each, sums[0], rtol=1e-5, atol=0) for each in sums)
        assert unchanged == hide_empty

    def test_item_10_an_image_without_targets_beside_another(self, make_network):
        network = make_network()
        targets = random_targets([3, 0])
        losses = Criterion()(network.learn(self.IMAGES, self.WHOLE, targets), targets)
        assert all(value.isfinite() for value in losses.values())
        sum(losses.values()).backward()

    def test_item_11_one_class(self, make_network):
        network, targets = make_network(1), random_targets([3, 2], classes=1)
        sum(Criterion()(network.learn(self.IMAGES, self.WHOLE, targets), targets).values()).backward()

    def test_item_11_a_label_beyond_the_classes_is_refused(self, make_network):
        network, (target,) = make_network(), random_targets([3])
        with pytest.raises(ValueError, match="label 5, but there are 5 classes"):
            network.learn(self.IMAGES[:1], self.WHOLE[:1], [Target(target.boxes, torch.tensor([0, 1, 5]))])

    def test_item_12_fewer_tokens_than_queries(self, make_network):
        network, targets = make_network(), random_targets([3, 2])
        images, padding = self.IMAGES[:, :, :32, :32], self.WHOLE[:, :32, :32]
        trained = network.learn(images, padding, targets)
        tokens = 4 * 4 + 2 * 2 + 1
        assert trained.found.queries.logits.shape[2] == min(20, tokens)
        assert network(images[:, :, :16, :16], padding[:, :16, :16]).queries.logits.shape[2] == 2 * 2 + 1 + 1
        sum(Criterion()(trained, targets).values()).backward()

    def test_item_12_heads_begin_rare_alike_and_at_their_references(self, make_network):
        transformer = make_network().transformer
        decoder = transformer.decoder
        heads = [*decoder.class_head, transformer.encoder_class_head, transformer.hybrid_class_head]
        assert all(torch.equal(head.bias, torch.full((5,), -math.log(99))) for head in heads)
        for head in (*decoder.bbox_head, transformer.encoder_bbox_head, transformer.hybrid_bbox_head):
            assert not head.layers[-1].weight.any()
            assert not head.layers[-1].bias.any()
        attentions = (
            [layer.cross_attn for layer in decoder.layers],
            [layer.self_attn for layer in transformer.encoder.layers],
        )
        for first, *others in (decoder.class_head, decoder.bbox_head, *attentions):
            for other in others:
                assert all(map(torch.equal, first.parameters(), other.parameters()))
        first, second, *_ = decoder.layers
        assert not torch.equal(first.linear1.weight, second.linear1.weight)
        assert not torch.equal(*(layer.linear1.weight for layer in transformer.encoder.layers))
        assert not torch.equal(first.self_attn.in_proj_weight, second.self_attn.in_proj_weight)

    def test_boxes_of_zero_size_and_at_the_border_give_finite_losses_and_gradients(self, make_network):
        network = make_network()
        odd = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0.5], [0.5, 0.5, 1, 1], [0.2, 0.2, 1e-9, 0.3]])
        targets = [Target(odd, torch.zeros(5, dtype=torch.long)), Target(odd[:1], torch.zeros(1, dtype=torch.long))]
        losses = Criterion()(network.learn(self.IMAGES, self.WHOLE, targets), targets)
        assert all(value.isfinite() for value in losses.values())
        sum(losses.values()).backward()
        assert all(each.grad.isfinite().all() for each in network.parameters() if each.grad is not None)

    @pytest.mark.parametrize("size", [(32, 32), (32, 3200)])
    def test_small_images_and_panoramas(self, make_network, size):
        network, targets = make_network(), random_targets([3])
        images, padding = torch.randn(1, 3, *size), torch.zeros(1, *size, dtype=torch.bool)
        sum(Criterion()(network.learn(images, padding, targets), targets).values()).backward()
        assert network(images, padding).queries.boxes.isfinite().all()

    def test_without_relation_hybrid_and_fusion_it_is_dino(self, make_network):
        network = make_network()
        sizes = replace(self._sizes(), hybrid_queries=0, relation=False, memory_fusion=False)
        dino = RelationDetr(network.backbone, (8, 12), 5, sizes, DenoisingGenerator(5, 32, 10))
        names = dino.state_dict().keys()
        assert not any(part in name for name in names for part in ("hybrid", "memory_fusion", "position_relation"))
        targets = random_targets([3, 2])
        losses = Criterion(class_loss="focal")(dino.learn(self.IMAGES, self.WHOLE, targets), targets)
        assert not any(name.endswith("_hybrid") for name in losses)
        sum(losses.values()).backward()
        assert all(parameter.grad is not None for parameter in dino.parameters())

    @staticmethod
    def _sizes():
        return TransformerSizes(32, 4, 64, 2, 3, 3, 20, 10)


class TestMatching:
    @pytest.mark.parametrize("tied", [False, True])
    @pytest.mark.parametrize(("queries", "count"), [(12, 5), (5, 12)])
    def test_item_8_the_total_cost_is_the_least(self, tied, queries, count):
        costs = torch.rand(1, 1, queries, count, generator=torch.Generator().manual_seed(0))
        if tied:
            costs = (costs * 3).round()
        (pairs,) = match([costs], [count], [1])
        best = costs[0, 0].numpy()[linear_sum_assignment(costs[0, 0].numpy())].sum()
        assert costs[0, 0, pairs.query, pairs.target].sum().item() == pytest.approx(best, abs=1e-5)

    def test_item_8_a_row_of_nan_is_matched_last(self):
        costs = torch.rand(1, 1, 6, 3, generator=torch.Generator().manual_seed(0))
        costs[0, 0, 2] = float("nan")
        (pairs,) = match([costs], [3], [1])
        assert len(pairs.query) == 3
        assert 2 not in pairs.query

    def test_item_9_the_order_of_queries_targets_and_images_does_not_matter(self):
        generator = torch.Generator().manual_seed(0)
        predictions = Predictions(torch.randn(1, 2, 12, 5, generator=generator), random_boxes(1, 2, 12))
        targets = random_targets([3, 2])
        whole = self._losses(predictions, targets)
        order = torch.randperm(12, generator=generator)
        shuffled = Predictions(predictions.logits[:, :, order].flip(1), predictions.boxes[:, :, order].flip(1))
        again = [Target(target.boxes.flip(0), target.labels.flip(0)) for target in reversed(targets)]
        for one, other in zip(whole, self._losses(shuffled, again), strict=True):
            assert_close(one, other, atol=1e-6, rtol=1e-6)

    def test_item_9_an_image_without_targets_adds_to_the_background_alone(self):
        generator = torch.Generator().manual_seed(0)
        predictions = Predictions(torch.randn(1, 3, 12, 5, generator=generator), random_boxes(1, 3, 12))
        targets = random_targets([3, 2])
        first = Predictions(predictions.logits[:, :2], predictions.boxes[:, :2])
        before, after = self._losses(first, targets), self._losses(predictions, [*targets, *random_targets([0])])
        assert_close(after.distance, before.distance, atol=1e-6, rtol=0)
        assert_close(after.giou, before.giou, atol=1e-6, rtol=0)
        background = 0.75 * predictions.logits[:, 2].sigmoid() ** 2 * softplus(predictions.logits[:, 2])
        assert_close(after.label - before.label, background.sum((1, 2)) / 5, atol=1e-4, rtol=1e-5)

    @staticmethod
    def _losses(predictions, targets):
        (pairs,) = match([MatchingCosts()(predictions, targets)], [len(each.labels) for each in targets], [1])
        return detection_losses(predictions, targets, pairs, count_boxes(targets))

    def test_costs_of_many_targets_are_computed_in_parts(self, monkeypatch):
        predictions = Predictions(torch.randn(2, 1, 30, 5), random_boxes(2, 1, 30))
        targets = random_targets([40])
        whole = MatchingCosts()(predictions, targets)
        monkeypatch.setattr("models.detr.matching._PAIRS_AT_ONCE", 1000)
        assert torch.equal(MatchingCosts()(predictions, targets), whole)


def test_what_is_found_in_an_ignored_region_is_no_mistake():
    here, there = torch.tensor([0.2, 0.2, 0.1, 0.1]), torch.tensor([0.8, 0.8, 0.1, 0.1])
    logits = torch.tensor([[[[3.0], [3.0], [-3.0]]]])
    predictions = Predictions(logits, torch.stack((here, there, there))[None, None])
    (plain,) = (Target(here[None], torch.tensor([0])),)
    region = Target(plain.boxes, plain.labels, torch.tensor([[0.8, 0.8, 0.3, 0.3]]))
    (pairs,) = match([MatchingCosts()(predictions, [plain])], [1], [1])
    losses = [
        detection_losses(
            predictions, [each], pairs, count_boxes([each]), "focal", outside_ignored(predictions.boxes, [each])
        ).label.item()
        for each in (plain, region)
    ]
    alone = Predictions(logits[:, :, :1], predictions.boxes[:, :, :1])
    expected = detection_losses(alone, [plain], pairs, count_boxes([plain]), "focal").label.item()
    assert losses[0] > 1
    assert losses[1] == pytest.approx(expected)


def test_generalized_iou_is_that_of_torchvision():
    first, second = to_corners(random_boxes(9)), to_corners(random_boxes(7, seed=1))
    iou, giou = generalized_iou(first[:, None], second)
    assert_close(iou, box_iou(first, second), atol=1e-6, rtol=0)
    assert_close(giou, generalized_box_iou(first, second), atol=1e-6, rtol=0)


def test_boxes_without_an_area_have_finite_overlaps():
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    iou, giou = generalized_iou(point, point)
    assert iou.item() == 0
    assert np.isfinite(giou.item())


class Largest(TorchDispatchMode):
    """Watches the largest tensor that anything returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, list | tuple) else [result]:
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.numel())
        return result


def test_a_step_with_1500_objects_holds_nothing_of_the_size_of_all_pairs(make_network):
    """Neither pairs of denoising queries, of which there would be 3,000, nor the corners of all pairs to be matched."""
    network = make_network()
    network.denoising_generator.most_queries = 200
    network.transformer.tgt_embed = torch.nn.Embedding(400, 32)
    images, padding = torch.randn(1, 3, 256, 256), torch.zeros(1, 256, 256, dtype=torch.bool)
    targets = random_targets([1500])
    with Largest() as watched:
        trained = network.learn(images, padding, targets)
        losses = Criterion()(trained, targets)
        torch.stack([*losses.values()]).sum().backward()
    queries, layers, heads = 400 + 200, 4, 4
    assert watched.numbers <= max(2**22, layers * 400 * 1500, heads * queries**2)
    assert watched.numbers < layers * 400 * 1500 * 4 < heads * (400 + 3000) ** 2
    assert all(value.isfinite() for value in losses.values())


def test_denoising_has_no_more_queries_than_asked():
    generator = DenoisingGenerator(5, 8, count=100, most_queries=200)
    queries = generator(random_targets([1500, 3]))
    assert queries.content.shape[1] == 200
    assert queries.filled[1].sum() == 2 * 3


@pytest.mark.parametrize(("most", "expected"), [(2, 2), (20, 18), (200, 198), (1000, 198), (None, 198)])
def test_denoising_of_few_targets_has_no_more_queries_than_asked_either(most, expected):
    queries = DenoisingGenerator(5, 8, count=100, most_queries=most)(random_targets([3]))
    assert queries.content.shape[1] == expected
