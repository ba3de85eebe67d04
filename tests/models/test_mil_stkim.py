"""Which instances are hidden in training; acceptance 3 of the specification of networks for bags."""

import pytest
import torch

from models.mil.acmil import AcmilGA
from models.mil.acmil_mha import AcmilMHA
from models.mil.mean_max import MeanMIL
from models.mil.stkim import InstanceMasking, MaskDraw, MaskSampler


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def hidden(masking, scores, seed=0):
    noise = torch.rand(len(scores), masking.top_k, generator=torch.Generator().manual_seed(seed))
    found = masking.hidden(scores, noise)
    return torch.zeros_like(scores, dtype=torch.bool) if found is None else found


class TestHiding:
    @pytest.mark.parametrize("instances", [1, 2, 4, 9, 10, 11, 50])
    @pytest.mark.parametrize("ratio", [0.0, 0.34, 0.6, 1.0])
    def test_item_3_exact_number_is_hidden_within_the_top_k(self, instances, ratio):
        scores = torch.randn(5, instances)
        found = hidden(InstanceMasking(drop_ratio=ratio), scores)
        candidates = min(10, instances)
        assert found.sum(1).tolist() == [min(int(candidates * ratio), instances - 1)] * 5
        weakest = scores.topk(candidates, dim=1).values[:, -1:]
        assert (scores.expand_as(found)[found] >= weakest.expand_as(found)[found]).all()

    def test_item_3_every_candidate_is_hidden_equally_often(self):
        draws, k, ratio = 2000, 10, 0.6
        draw = MaskSampler(InstanceMasking(k, ratio), seed=0).draw(draws, (2,))
        scores = torch.arange(30.0).expand(2, -1)
        found = torch.stack([hide(scores) for hide in draw.per_bag((2,))])  # draws x branches x instances
        assert not found[..., :-k].any()
        counts = found[..., -k:].sum(0).double()
        # Drawn without replacement, counts vary less than a binomial's by (k - m) / (k - 1).
        spread = draws * ratio * (1 - ratio) * k / (k - 1)
        chi_square = ((counts - draws * ratio) ** 2).sum(1) / spread
        assert (chi_square < 27.9).all()  # 0.999 quantile, 9 degrees of freedom
        # Branches draw apart: of 6 that one hides the other hides 3.6 on average.
        both = found.all(dim=1).sum(1).double().mean()
        assert both.item() == pytest.approx(k * ratio**2, abs=0.1)

    @pytest.mark.parametrize("instances", [4, 10, 40])
    @pytest.mark.parametrize("network", [AcmilGA(6, 8, 2, branches=3), AcmilMHA(6, 8, 2, branches=3)])
    def test_item_3_each_branch_hides_among_its_own_highest_scores(self, network, instances):
        for weights in network.parameters():
            torch.nn.init.normal_(weights)  # for branches that look at different instances
        features = torch.randn(2, instances, 6)
        draw = MaskSampler(InstanceMasking(), seed=0).draw(2, network.map_shape)
        found = network.train()(features, hidden=draw).scores.isneginf()
        ranked = network.eval()(features).scores.topk(min(10, instances), dim=-1).indices
        candidates = torch.zeros_like(found).scatter(-1, ranked, True)
        assert found.sum(-1).unique().tolist() == [int(min(10, instances) * 0.6)]
        assert not (found & ~candidates).any()
        assert instances <= 10 or not (candidates[:, :1] == candidates[:, 1:]).all()

    @pytest.mark.parametrize("network", [AcmilGA(6, 8, 2, branches=3), AcmilMHA(6, 8, 2, branches=3)])
    def test_item_3_nothing_is_hidden_in_evaluation_or_without_noise(self, network):
        features = torch.randn(1, 20, 6)
        draw = MaskSampler(InstanceMasking(), seed=0).draw(1, network.map_shape)
        assert network.train()(features, hidden=draw).scores.isneginf().sum(-1).unique().tolist() == [6]
        assert network.train()(features).scores.isfinite().all()
        assert network.eval()(features, hidden=draw).scores.isfinite().all()

    @pytest.mark.parametrize("masking", [InstanceMasking(0, 0.6), InstanceMasking(10, 0.0)])
    def test_item_3_nothing_is_hidden_with_k_or_p_of_zero(self, masking):
        for mode in ("exact", "bernoulli"):
            setting = InstanceMasking(masking.top_k, masking.drop_ratio, mode)
            assert not hidden(setting, torch.randn(3, 40)).any()

    def test_item_3_attention_of_hidden_instances_is_exactly_zero(self):
        network = AcmilGA(6, 8, 2, branches=3)
        output = network(torch.randn(1, 20, 6), hidden=MaskSampler(InstanceMasking(), seed=0).draw(1, (3,)))
        assert (output.attention[output.scores.isneginf()] == 0).all()
        torch.testing.assert_close(output.attention.sum(-1), torch.ones(1, 3))

    def test_item_3_a_seed_means_the_same_draws(self):
        first, again, other = (MaskSampler(InstanceMasking(), seed=seed) for seed in (3, 3, 4))
        ours, theirs = first.draw(2, (5,)), again.draw(2, (5,))
        assert torch.equal(ours.noise, theirs.noise)
        assert not torch.equal(ours.noise, other.draw(2, (5,)).noise)
        assert not torch.equal(ours.noise, first.draw(2, (5,)).noise)
        assert ours.noise.shape == (2, 5, 10)

    def test_draws_leave_the_global_generator_alone(self):
        before = torch.get_rng_state()
        MaskSampler(InstanceMasking(), seed=0).draw(2, (5, 8))
        assert torch.equal(before, torch.get_rng_state())


class TestBernoulli:
    def test_hides_each_candidate_with_the_given_probability(self):
        scores = torch.arange(30.0).expand(2000, -1)
        found = hidden(InstanceMasking(mode="bernoulli"), scores)
        assert not found[:, :20].any()
        torch.testing.assert_close(found[:, 20:].double().mean(0), torch.full((10,), 0.6).double(), atol=0.04, rtol=0)
        assert found.sum(1).unique().numel() > 5

    @pytest.mark.parametrize("instances", [1, 4, 10])
    def test_one_instance_always_stays(self, instances):
        found = hidden(InstanceMasking(drop_ratio=1.0, mode="bernoulli"), torch.randn(8, instances))
        assert found.sum(1).tolist() == [instances - 1] * 8


class TestLimits:
    def test_counts_are_truncated_as_published(self):
        found = hidden(InstanceMasking(100, 0.57), torch.randn(1, 200))
        assert found.sum() == 56

    @pytest.mark.parametrize(("instances", "candidates"), [(1, 0), (49, 0), (50, 1), (100, 2), (500, 10), (5000, 10)])
    def test_candidates_are_at_most_a_share_of_the_bag(self, instances, candidates):
        assert InstanceMasking(k_max_fraction=0.02).candidates(instances) == candidates

    def test_shares_do_not_suffer_from_rounding(self):
        assert InstanceMasking(100, k_max_fraction=0.29).candidates(100) == 29

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"top_k": -1}, "top_k=-1 must not be negative"),
            ({"drop_ratio": 1.5}, r"drop_ratio=1.5 must lie in \[0, 1\]"),
            ({"mode": "random"}, "mode='random' is unknown"),
            ({"k_max_fraction": 0.0}, r"k_max_fraction=0 must lie in \(0, 1\]"),
        ],
    )
    def test_values_outside_their_range_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            InstanceMasking(**settings)

    def test_noise_of_another_shape_is_refused(self):
        with pytest.raises(ValueError, match="for 10 candidates in 3 rows"):
            InstanceMasking().hidden(torch.randn(3, 40), torch.rand(3, 9))
        with pytest.raises(ValueError, match=r"for attention of shape \(3,\) a bag"):
            MaskDraw(InstanceMasking(), torch.rand(1, 5, 10)).per_bag((3,))

    def test_a_network_without_attention_refuses_draws(self):
        with pytest.raises(ValueError, match="MeanMIL has no attention"):
            MeanMIL(6, 8, 2)(torch.randn(1, 4, 6), hidden=MaskSampler(InstanceMasking(), seed=0).draw(1, (1,)))
