"""Relation-DETR against what the official code computed (``tests/golden/relation_detr``)."""

import pytest
import torch
from torch.testing import assert_close

from models.detr.boxes import embed_boxes, logit
from models.detr.criterion import Criterion, count_boxes, detection_losses
from models.detr.decoder import Predictions
from models.detr.deformable import MultiScaleDeformableAttention
from models.detr.denoising import DenoisingGenerator, Noise, Target, blocked_pairs
from models.detr.matching import MatchingCosts, match
from models.detr.positions import embed_positions, propose_boxes, token_centres
from models.detr.postprocess import likeliest_boxes
from models.detr.relation import PositionRelation

LAYERS = {"main": "", "aux0": "_0", "aux1": "_1", "enc": "_enc"}


def near(found, expected, within=0.0, relative=0.0):
    assert_close(found, expected, atol=within, rtol=relative)


class TestRelation:
    @pytest.fixture
    def relation(self, golden):
        tensors, _ = golden("a_position_relation")
        relation = PositionRelation(heads=4)
        relation.pos_proj[0].load_state_dict({"weight": tensors["weight"], "bias": tensors["bias"]})
        return relation

    def test_equals_the_official_one_with_its_gradients(self, golden, relation):
        tensors, values = golden("a_position_relation")
        found = relation(tensors["src_boxes"], tensors["tgt_boxes"])
        near(found, tensors["relation"], values["suggested_atol"])
        near(found.double(), tensors["relation_f64"], 2e-4)
        found.backward(tensors["upstream_grad"])
        near(relation.pos_proj[0].weight.grad, tensors["grad_weight"], 1e-3)
        near(relation.pos_proj[0].bias.grad, tensors["grad_bias"], 1e-5)

    def test_without_gradient_it_is_the_same(self, golden, relation):
        tensors, _ = golden("a_position_relation")
        with torch.no_grad():
            found = relation(tensors["src_boxes"], tensors["src_boxes"])
        near(found, tensors["relation_self"], 2e-4)

    def test_boxes_are_embedded_as_for_queries(self, golden):
        tensors, _ = golden("a_position_relation")
        near(embed_boxes(tensors["query_sine_in"], 16), tensors["query_sine_out"], 1e-6)


class TestDeformableAttention:
    def test_begins_as_the_official_one(self, golden):
        tensors, _ = golden("b_ms_deform_attn")
        state = MultiScaleDeformableAttention(32, 4, 3).state_dict()
        for name in ("sampling_offsets", "attention_weights"):
            for kind in ("weight", "bias"):
                near(state[f"{name}.{kind}"], tensors[f"init.{name}.{kind}"], 1e-6)

    @pytest.mark.parametrize("at_once", [2**21, 1], ids=["whole", "a query at a time"])
    @pytest.mark.parametrize("case", ["ref2", "ref4"])
    def test_equals_the_official_one_with_its_gradients(self, golden, monkeypatch, case, at_once):
        monkeypatch.setattr("models.detr.deformable._SAMPLES_AT_ONCE", at_once)
        monkeypatch.setattr("models.detr.deformable._SAMPLES_AFFORDABLE", at_once)
        tensors, _ = golden("b_ms_deform_attn")
        attention = MultiScaleDeformableAttention(32, 4, 3)
        attention.load_state_dict({key[6:]: each for key, each in tensors.items() if key.startswith("state.")})
        query, value, references = (
            tensors[f"{case}.{name}"].clone().requires_grad_() for name in ("query", "value", "reference_points")
        )
        shapes = [tuple(shape) for shape in tensors["spatial_shapes"].tolist()]
        found = attention(query, references, attention.project(value, shapes, tensors["key_padding_mask"]))
        near(found, tensors[f"{case}.output"], 1e-5)
        found.backward(tensors[f"{case}.upstream_grad"])
        for each, name in ((query, "query"), (value, "value")):
            near(each.grad, tensors[f"{case}.grad_{name}"], 1e-5)
        # Up to 193, where float32 counts in steps of 1.5e-5; the fixture itself is 5e-5 from what float64 gives.
        near(references.grad, tensors[f"{case}.grad_reference_points"], 1e-5, 1e-6)
        near(attention.sampling_offsets.weight.grad, tensors[f"{case}.grad_sampling_offsets_weight"], 1e-5)


class TestMatchingAndLosses:
    @pytest.fixture
    def made(self, golden):
        tensors, values = golden("c_matcher_criterion")
        sets = Predictions(
            torch.stack([tensors[f"{name}.pred_logits"] for name in LAYERS]),
            torch.stack([tensors[f"{name}.pred_boxes"] for name in LAYERS]),
        )
        targets = [Target(tensors[f"target{n}.boxes"], tensors[f"target{n}.labels"]) for n in range(3)]
        return tensors, values, sets, targets

    def test_costs_and_pairs_of_all_layers(self, made):
        tensors, _, sets, targets = made
        costs = MatchingCosts()(sets, targets)
        counts = [len(target.labels) for target in targets]
        (pairs,) = match([costs], counts, [1])
        for layer, name in enumerate(LAYERS):
            for image, count in enumerate(counts):
                near(costs[layer, image, :, :count], tensors[f"{name}.cost{image}"], 1e-5)
                chosen = (pairs.layer == layer) & (pairs.image == image)
                assert torch.equal(torch.stack((pairs.query, pairs.target))[:, chosen], tensors[f"{name}.index{image}"])

    def test_repeated_targets(self, made):
        tensors, values, sets, targets = made
        main, counts = Predictions(sets.logits[:1], sets.boxes[:1]), [len(target.labels) for target in targets]
        (pairs,) = match([MatchingCosts()(main, targets)], counts, [3])
        for image, count in enumerate(counts):
            queries, numbers = tensors[f"repeat3.index{image}"]
            chosen = pairs.image == image
            assert torch.equal(pairs.query[chosen], queries)
            assert torch.equal(pairs.target[chosen], numbers % max(count, 1))
        self._agree(detection_losses(main, targets, pairs, count_boxes(targets, 3)), values["vfl_one_to_many_k3"])

    @pytest.mark.parametrize("kind", ["vfl", "focal"])
    def test_losses_and_gradients(self, made, kind):
        tensors, values, sets, targets = made
        sets = Predictions(*(each.clone().requires_grad_() for each in sets))
        (pairs,) = match([MatchingCosts()(sets, targets)], [3, 0, 2], [1])
        losses = detection_losses(sets, targets, pairs, count_boxes(targets), kind)
        for layer, suffix in enumerate(LAYERS.values()):
            for name, each in zip(("class", "bbox", "giou"), losses, strict=True):
                near(each[layer].item(), values[f"{kind}_unweighted"][f"loss_{name}{suffix}"], 1e-5, 1e-5)
        (losses.label[0] + 5 * losses.distance[0] + 2 * losses.giou[0]).backward()
        near(sets.logits.grad[0], tensors[f"{kind}.grad_logits"], 1e-5)
        near(sets.boxes.grad[0], tensors[f"{kind}.grad_boxes"], 1e-4)

    def test_nothing_to_find(self, made):
        _, values, sets, _ = made
        main, empty = Predictions(sets.logits[:1], sets.boxes[:1]), Target(torch.zeros(0, 4), torch.zeros(0).long())
        (pairs,) = match([MatchingCosts()(main, [empty] * 3)], [0, 0, 0], [1])
        self._agree(detection_losses(main, [empty] * 3, pairs, count_boxes([empty] * 3)), values["vfl_all_empty"])

    def test_more_targets_than_queries(self, made):
        tensors, values, sets, _ = made
        main = Predictions(sets.logits[:1], sets.boxes[:1])
        targets = [Target(tensors[f"many{n}.boxes"], tensors[f"many{n}.labels"]) for n in range(3)]
        (pairs,) = match([MatchingCosts()(main, targets)], [16] * 3, [1])
        found = detection_losses(main, targets, pairs, count_boxes(targets))
        self._agree(found, values["vfl_more_targets_than_queries"])

    def test_likeliest_boxes(self, made):
        tensors, _, sets, _ = made
        found = likeliest_boxes(sets.logits[0], sets.boxes[0], tensors["post.target_sizes_hw"], 15)
        for image in range(3):
            near(found.scores[image], tensors[f"post{image}.scores"], 1e-6)
            assert torch.equal(found.labels[image], tensors[f"post{image}.labels"])
            near(found.boxes[image], tensors[f"post{image}.boxes"], 1e-3)

    @staticmethod
    def _agree(losses, expected):
        for name, each in zip(("class", "bbox", "giou"), losses, strict=True):
            near(each.item(), expected[f"loss_{name}"], 1e-6, 1e-5)


@pytest.mark.parametrize("case", range(4))
def test_denoising_queries(golden, case):
    tensors, values = golden("d_denoising")
    here = {key.removeprefix(f"case{case}."): each for key, each in tensors.items() if key.startswith(f"case{case}.")}
    generator = DenoisingGenerator(5, 32, 10)
    generator.label_encoder.weight.data = here["label_embedding"]
    counts = values[f"case{case}.counts"]
    targets = [Target(here[f"target{n}.boxes"], here[f"target{n}.labels"]) for n in range(len(counts))]
    noise = Noise(*(here[f"noise.{name}"] for name in ("label_flip_u", "label_new", "box_sign01", "box_u")))
    found = generator(targets, noise)
    assert (found.groups, 2 * found.per_group) == (values[f"case{case}.groups"], values[f"case{case}.group_size"])
    near(found.content, here["label_queries"])
    near(found.boxes, here["box_queries_logit"].sigmoid(), 1e-6)
    assert torch.equal(blocked_pairs(found, 6)[0, 0], here["attn_mask"])


class TestPlaces:
    def test_positions(self, golden):
        tensors, _ = golden("f_misc")
        near(embed_positions(tensors["pos.mask"], 32), tensors["pos.sine"], 1e-5)

    def test_logit(self, golden):
        tensors, _ = golden("f_misc")
        near(logit(tensors["inverse_sigmoid.in"]), tensors["inverse_sigmoid.out"], 1e-6)

    def test_tokens_and_proposals(self, golden):
        tensors, _ = golden("f_misc")
        shapes, ratios = (
            [tuple(shape) for shape in tensors["grid.spatial_shapes"].tolist()],
            tensors["grid.valid_ratios"],
        )
        centres = token_centres(shapes, ratios)
        near(centres[:, :, None] * ratios[:, None], tensors["grid.reference_points"], 1e-6)
        near(propose_boxes(centres, shapes), tensors["grid.proposals"], 1e-6)


class TestWholeNetwork:
    def test_item_14_names_are_the_official_ones(self, official):
        names = {key[6:] for key in official.tensors if key.startswith("state.")}
        assert set(official.network.state_dict()) == names

    def test_evaluation(self, official):
        with torch.no_grad():
            found = official.network(official.images, official.padding)
        near(found.queries.logits, official.tensors["eval.logits"], 1e-4)
        near(found.queries.boxes, official.tensors["eval.boxes"], 1e-4)
        boxes = likeliest_boxes(found.queries.logits[-1], found.queries.boxes[-1], official.sizes, 30)
        for image in range(2):
            near(boxes.scores[image], official.tensors[f"eval.post{image}.scores"], 1e-4)
            assert torch.equal(boxes.labels[image], official.tensors[f"eval.post{image}.labels"])
            near(boxes.boxes[image], official.tensors[f"eval.post{image}.boxes"], 1e-2)

    def test_training(self, official):
        network, tensors, values = official.network, official.tensors, official.values
        trained = network.learn(official.images, official.padding, official.targets, official.noise)
        logits = torch.cat((trained.denoising.logits, trained.found.queries.logits), dim=2)
        near(logits, tensors["train.logits"], 1e-4)
        near(torch.cat((trained.denoising.boxes, trained.found.queries.boxes), dim=2), tensors["train.boxes"], 1e-4)
        near(trained.hybrid.queries.logits, tensors["train.hybrid_logits"], 1e-4)
        near(trained.hybrid.queries.boxes, tensors["train.hybrid_boxes"], 1e-4)
        assert torch.equal(blocked_pairs(trained.spoilt, 20)[0, 0], tensors["train.attn_mask"])
        losses = Criterion(repeats=3, hide_empty=False)(trained, official.targets)
        assert losses.keys() == values["train_losses_weighted"].keys()
        for name, expected in values["train_losses_weighted"].items():
            near(losses[name].item(), expected, 0, 1e-4)
        sum(losses.values()).backward()
        for key, expected in tensors.items():
            if key.startswith("train.grad."):
                found = network.get_parameter(key.removeprefix("train.grad.")).grad
                near(found, expected, 1e-3 * expected.abs().max().item())
        assert [name for name, each in network.named_parameters() if each.grad is None] == values["params_without_grad"]

    def test_item_10_nothing_in_the_whole_batch(self, official):
        empty = [Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))] * 2
        trained = official.network.learn(official.images, official.padding, empty)
        losses = Criterion(repeats=3, hide_empty=False)(trained, empty)
        for name, expected in official.values["train_losses_all_empty_targets"].items():
            near(losses[name].item(), expected, 1e-6, 1e-4)
        sum(losses.values()).backward()
