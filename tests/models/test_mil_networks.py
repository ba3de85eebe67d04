"""What holds for every network for bags; acceptance 2, 4 and 6 of their specification."""

import pytest
import torch

from models.mil.abmil import ABMIL
from models.mil.acmil import AcmilGA
from models.mil.acmil_mha import AcmilMHA
from models.mil.clam import ClamSB
from models.mil.losses import bag_loss, branch_loss, clam_instance_loss, diversity_loss, negative_entropy
from models.mil.mean_max import MaxMIL, MeanMIL
from models.mil.networks import NETWORKS, published_width
from models.mil.stkim import InstanceMasking, MaskDraw
from models.mil.transmil import TransMIL

WIDTH, CLASSES = 6, 3
BUILDERS = {
    "acmil_ga": lambda: AcmilGA(WIDTH, 8, CLASSES, attention_width=4),
    "acmil_mha": lambda: AcmilMHA(WIDTH, 8, CLASSES, branches=3, dropout=0.0),
    "abmil": lambda: ABMIL(WIDTH, 8, CLASSES, attention_width=4),
    "abmil_ungated": lambda: ABMIL(WIDTH, 8, CLASSES, gated=False, attention_width=4),
    "clam_sb": lambda: ClamSB(WIDTH, 8, CLASSES, attention_width=4),
    "transmil": lambda: TransMIL(WIDTH, 16, CLASSES),
    "mean": lambda: MeanMIL(WIDTH, 8, CLASSES),
    "max": lambda: MaxMIL(WIDTH, 8, CLASSES),
}
ATTENDING = [name for name in BUILDERS if name not in ("mean", "max")]
HIDING = [name for name in ATTENDING if name != "transmil"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def build(name):
    """A network whose attention is far from even."""
    network = BUILDERS[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.5 / parameter[0].numel() ** 0.5)
    return network


def total_loss(output, labels):
    loss = bag_loss(output.bag_logits, labels) + branch_loss(output.branch_logits, labels)
    if output.attention is not None:
        loss = loss + diversity_loss(output.attention) + 0.1 * negative_entropy(output.attention)
    return loss if output.instances is None else loss + clam_instance_loss(output.instances, labels)


def without_dropout(network):
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return network


class TestEvaluation:
    @pytest.mark.parametrize("name", [name for name in BUILDERS if name != "transmil"])
    def test_item_2_permuted_instances_permute_the_attention_alone(self, name):
        network, features, order = build(name).eval(), torch.randn(2, 30, WIDTH), torch.randperm(30)
        ours, theirs = network(features), network(features[:, order])
        torch.testing.assert_close(ours.bag_logits, theirs.bag_logits, atol=1e-5, rtol=0)
        if ours.attention is not None:
            torch.testing.assert_close(ours.attention[..., order], theirs.attention, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("name", BUILDERS)
    @pytest.mark.parametrize("gradients", [True, False])
    def test_item_2_two_evaluations_are_identical(self, name, gradients):
        network, features = build(name).eval(), torch.randn(2, 30, WIDTH)
        with torch.set_grad_enabled(gradients):
            first, second = network(features), network(features)
        assert torch.equal(first.bag_logits, second.bag_logits)
        assert first.attention is None or torch.equal(first.attention, second.attention)

    @pytest.mark.parametrize("name", ATTENDING)
    def test_item_2_attention_sums_to_one(self, name):
        features = torch.randn(2, 2500, WIDTH)
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                attention = build(name).eval()(features).attention
            torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]), atol=1e-5, rtol=0)
            assert attention.min() >= 0


class TestSmallBags:
    @pytest.mark.parametrize("name", BUILDERS)
    @pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16 autocast"])
    @pytest.mark.parametrize("instances", [1, 3, 10, 11])
    def test_item_4_small_bags_and_repeated_instances(self, name, precision, instances):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        network = build(name).to(dtype)
        masking = InstanceMasking(drop_ratio=1.0)
        for features in (torch.randn(1, instances, WIDTH), torch.ones(1, instances, WIDTH)):
            draw = MaskDraw(masking, torch.rand(1, *network.map_shape, 10)) if name in HIDING else None
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16 autocast"):
                output = network.train()(features.to(dtype), hidden=draw)
                loss = total_loss(output, torch.tensor([1]))
                with torch.no_grad():
                    assert network.eval()(features.to(dtype)).bag_logits.isfinite().all()
            loss.backward()
            assert output.bag_logits.isfinite().all()
            if draw is not None:
                assert (output.scores.isfinite().sum(-1) == max(1, instances - 10)).all()
            gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
            assert gradients
            assert all(gradient.isfinite().all() for gradient in gradients)

    @pytest.mark.parametrize("name", BUILDERS)
    def test_item_4_empty_bags_are_refused(self, name):
        network, mask = build(name), torch.tensor([[False, True], [True, True]])
        with pytest.raises(ValueError, match="the bags hold no instance; leave empty bags out"):
            network(torch.zeros(1, 0, WIDTH))
        with pytest.raises(ValueError, match="bag 1 of the batch holds nothing but padding"):
            network(torch.zeros(2, 2, WIDTH), mask)

    def test_other_shapes_and_masks_are_refused(self):
        network = build("mean")
        with pytest.raises(ValueError, match=r"\(1, 4, 5\); this network takes bags x instances x 6"):
            network(torch.zeros(1, 4, 5))
        with pytest.raises(ValueError, match="it is boolean, bags x instances"):
            network(torch.zeros(1, 4, WIDTH), torch.zeros(1, 4))
        with pytest.raises(ValueError, match="it is boolean, bags x instances"):
            network(torch.zeros(1, 4, WIDTH), torch.zeros(1, 3, dtype=torch.bool))


class TestPadding:
    @pytest.mark.parametrize("name", BUILDERS)
    @pytest.mark.parametrize("where", ["behind", "scattered"])
    def test_item_6_padded_batch_equals_bags_one_by_one(self, name, where):
        sizes, labels = (1, 4, 37, 10), torch.tensor([0, 2, 1, 1])
        features, network = torch.randn(4, 37, WIDTH), without_dropout(build(name))
        mask = torch.arange(37) >= torch.tensor(sizes)[:, None]
        if where == "scattered":
            mask = mask[:, torch.randperm(37)]
        features[mask] = torch.nan
        noise = torch.rand(4, *network.map_shape, 10) if name in HIDING else None

        def draw(bag):
            return None if noise is None else MaskDraw(InstanceMasking(), noise[bag])

        together = network(features, mask, draw(slice(None)))
        loss = total_loss(together, labels)
        gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
        alone = [network(features[bag][~mask[bag]][None], None, draw([bag])) for bag in range(4)]
        each = torch.stack([total_loss(output, labels[[bag]]) for bag, output in enumerate(alone)])
        torch.testing.assert_close(loss, each.mean(), atol=1e-5, rtol=0)
        expected = torch.autograd.grad(each.mean(), list(network.parameters()), allow_unused=True)
        for ours, theirs in zip(gradients, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        for bag, output in enumerate(alone):
            torch.testing.assert_close(together.bag_logits[bag], output.bag_logits[0], atol=1e-5, rtol=0)
            if output.attention is not None:
                torch.testing.assert_close(together.attention[bag][..., ~mask[bag]], output.attention[0])
                assert (together.attention[bag][..., mask[bag]] == 0).all()


class TestPrecision:
    @pytest.mark.parametrize("name", BUILDERS)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_features_of_any_float_type(self, name, dtype):
        network, features = build(name).eval(), torch.randn(1, 20, WIDTH).to(dtype)
        with torch.no_grad():
            output = network(features)
        torch.testing.assert_close(output.bag_logits, network(features.float()).bag_logits, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("name", BUILDERS)
    def test_autocast_gives_float32_gradients_near_those_without(self, name):
        network, features = without_dropout(build(name)), torch.randn(1, 50, WIDTH)
        gradients = []
        for enabled in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                output = network(features)
            loss = bag_loss(output.bag_logits, torch.tensor([1]))
            gradients.append(torch.autograd.grad(loss, [network.get_parameter(FIRST[name])])[0])
        assert gradients[1].dtype == torch.float32
        # bfloat16 has 8 bits; the iterative inverse of TransMIL and a maximum magnify what is lost.
        similarity = torch.cosine_similarity(gradients[0].flatten(), gradients[1].flatten(), dim=0)
        assert similarity > 0.98


FIRST = dict.fromkeys(BUILDERS, "dimreduction.fc1.weight") | {
    "clam_sb": "attention_net.0.weight",
    "transmil": "_fc1.0.weight",
}


class TestClam:
    def test_ends_of_small_bags_keep_apart(self):
        network = build("clam_sb").eval()
        for instances, shown in ((1, 0), (5, 2), (7, 3), (8, 8), (20, 8)):
            valid = network(torch.randn(1, instances, WIDTH)).instances.valid
            assert valid.sum() == shown

    def test_instances_are_the_same_without_gradients(self):
        network, features = build("clam_sb").eval(), torch.randn(1, 30, WIDTH)
        with torch.no_grad():
            streamed = network(features).instances
        for ours, theirs in zip(streamed, network(features).instances, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


class TestTransMIL:
    def test_attention_is_read_off_in_evaluation_alone(self):
        network, features = build("transmil"), torch.randn(1, 12, WIDTH)
        assert network.train()(features).attention is None
        assert network.eval()(features).attention.shape == (1, 1, 12)

    def test_row_is_that_of_the_whole_map(self):
        """Against the map of all tokens, multiplied out from the three factors."""
        attention = build("transmil").layer1.attn
        tokens = torch.randn(21, 16)
        seen = attention._project(tokens)
        scale = seen.query.shape[-1] ** -0.5
        outer = (seen.query @ seen.key_landmarks.mT * scale).softmax(-1)
        inner = (seen.query_landmarks @ seen.key.mT * scale).softmax(-1)
        whole = (outer @ attention._inverse(seen) @ inner).mean(0)[-21:, -21:]
        _, row = attention(tokens, row=3)
        torch.testing.assert_close(row, whole[3], atol=1e-5, rtol=0)


def test_names():
    assert {*NETWORKS} == {name for name in BUILDERS if name != "abmil_ungated"}
    assert [published_width(width) for width in (384, 512, 768, 1024, 1536, 64)] == [128, 256, 384, 512, 768, 32]


def test_width_that_heads_do_not_divide_is_refused():
    for network in (AcmilMHA, TransMIL):
        with pytest.raises(ValueError, match="heads"):
            network(WIDTH, 12, CLASSES)


def test_a_single_branch_has_no_parameter_without_gradient():
    network = AcmilGA(WIDTH, 8, CLASSES, branches=1)
    total_loss(network(torch.randn(1, 9, WIDTH)), torch.tensor([0])).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
