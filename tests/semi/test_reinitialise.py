"""Selective re-initialisation of a small network whose parts are named as in TransVG.

Items are those of the specification of grounding.
"""

import pytest
import torch
from torch import nn

from vision_train.errors import UserError
from vision_train.semi.reinitialise import chosen_actions, fresh_weights, reinitialise

KEY = "semi.reinitialise"
NEW_PARTS = ("reg_token.*", "vl_pos_embed.*", "visu_proj.*", "text_proj.*", "vl_transformer.*")
PAPER_LIKE = dict.fromkeys(("bbox_embed.*", *NEW_PARTS), "fresh")
BY_PROTOTYPES = dict.fromkeys(NEW_PARTS, "shrink_perturb")
"""Heads stay."""


class Grounding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visumodel = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.textmodel = nn.Embedding(7, 4)
        self.visu_proj = nn.Linear(4, 4)
        self.text_proj = nn.Linear(4, 4)
        self.text_proj.weight = self.visu_proj.weight  # tied
        self.reg_token = nn.Embedding(1, 4)
        self.vl_pos_embed = nn.Embedding(5, 4)
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0)
        self.vl_transformer = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.bbox_embed = nn.Linear(4, 4)

    def forward(self, images: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        seen = self.visu_proj(self.visumodel(images).flatten(2).permute(2, 0, 1))
        read = self.text_proj(self.textmodel(words)).transpose(0, 1)
        tokens = torch.cat([self.reg_token.weight.expand(1, len(images), -1), read, seen])
        return self.bbox_embed(self.vl_transformer(tokens + self.vl_pos_embed.weight[:, None])[0])


def trained() -> tuple[Grounding, torch.optim.Optimizer, dict[str, dict[str, torch.Tensor]]]:
    """A network after some steps, its optimiser, and what it was before and in between."""
    network = Grounding()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05)
    sources = {}
    for name in ("pretrained", "burn_in", "now"):
        sources[name] = copy_of(network)
        for _ in range(2):
            optimizer.zero_grad()
            network(torch.randn(3, 3, 1, 2), torch.randint(7, (3, 2))).square().sum().backward()
            optimizer.step()
    return network, optimizer, {**sources, "fresh": fresh_weights(Grounding, 11)}


def copy_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(network: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("rules", [PAPER_LIKE, BY_PROTOTYPES], ids=["paper_like", "by prototypes"])
def test_item_9_exactly_the_matched_parameters_change_and_the_report_lists_each_once(rules):
    network, optimizer, sources = trained()
    before = copy_of(network)
    tops = {glob.removesuffix(".*") for glob in rules}
    matched = {name for name in before if name.partition(".")[0] in tops}
    report = reinitialise(network, rules, sources, KEY, optimizer=optimizer)
    assert changed(network, before) == matched
    names = [each.name for each in report]
    assert names == [name for name in before if name in matched - {"text_proj.weight"}]  # tied: once
    for each in report:
        assert each.elements == before[each.name].numel()
        assert each.norm_before == pytest.approx(before[each.name].norm().item())
        assert each.norm_after == pytest.approx(network.state_dict()[each.name].norm().item())
        assert each.action == next(iter(rules.values()))


def test_item_9_the_optimiser_forgets_the_changed_parameters_and_keeps_the_others_to_the_bit():
    network, optimizer, sources = trained()
    names = {parameter: name for name, parameter in network.named_parameters()}
    before = {names[parameter]: state["exp_avg"].clone() for parameter, state in optimizer.state.items()}
    reinitialise(network, {"vl_transformer.layers.1.*": "fresh"}, sources, KEY, optimizer=optimizer)
    after = {names[parameter]: state["exp_avg"] for parameter, state in optimizer.state.items()}
    assert before.keys() - after.keys() == {name for name in before if name.startswith("vl_transformer.layers.1.")}
    assert len(after) > 10
    assert all(torch.equal(average, before[name]) for name, average in after.items())
    network(torch.randn(3, 3, 1, 2), torch.randint(7, (3, 2))).sum().backward()
    optimizer.step()  # what was forgotten starts anew


@pytest.mark.parametrize("action", ["pretrained", "burn_in", "fresh"])
def test_item_9_an_earlier_value_is_restored_to_the_bit_with_its_statistics(action):
    network, _, sources = trained()
    reinitialise(network, {"*": action}, sources, KEY)
    assert changed(network, sources[action]) == set()
    assert not torch.equal(sources[action]["visumodel.1.running_mean"], sources["now"]["visumodel.1.running_mean"])


def test_shrink_and_perturb_follows_its_equation_and_leaves_statistics():
    network, _, sources = trained()
    before = copy_of(network)
    reinitialise(network, {"*": "shrink_perturb"}, sources, KEY, shrink=0.6, perturb=0.2)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.data, 0.6 * before[name] + 0.2 * sources["fresh"][name])
    assert not {name for name in changed(network, before) if "running" in name or "num_batches" in name}


def test_shrink_and_perturb_defaults_are_one_half_and_one_tenth():
    network, _, sources = trained()
    before = network.bbox_embed.weight.detach().clone()
    reinitialise(network, {"bbox_embed.weight": "shrink_perturb"}, sources, KEY)
    torch.testing.assert_close(network.bbox_embed.weight.data, before / 2 + sources["fresh"]["bbox_embed.weight"] / 10)


def test_item_9_the_same_seed_gives_the_same_values_and_leaves_the_random_numbers_alone():
    state = torch.get_rng_state()
    first, again, other = (fresh_weights(Grounding, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["bbox_embed.weight"], other["bbox_embed.weight"])
    torch.manual_seed(5)
    assert torch.equal(Grounding().state_dict()["bbox_embed.weight"], first["bbox_embed.weight"])


def test_no_rules_change_nothing():
    network, optimizer, sources = trained()
    before = copy_of(network)
    assert reinitialise(network, {}, sources, KEY, optimizer=optimizer) == []
    assert changed(network, before) == set()
    assert len(optimizer.state) == len(list(network.parameters()))


def test_the_first_rule_that_matches_decides():
    rules = {"*bias": "keep", "bbox_embed.*": "burn_in", "*": "fresh"}
    actions = chosen_actions(Grounding(), rules, KEY)
    assert not [name for name in actions if name.endswith("bias")]
    assert actions["bbox_embed.weight"] == "burn_in"
    assert actions["visu_proj.weight"] == "fresh"


def test_tied_parameters_are_one_whichever_of_their_names_is_matched():
    network, _, sources = trained()
    before = copy_of(network)
    report = reinitialise(network, {"text_proj.weight": "fresh"}, sources, KEY)
    assert changed(network, before) == {"visu_proj.weight", "text_proj.weight"}
    assert [each.name for each in report] == ["visu_proj.weight"]
    assert network.text_proj.weight is network.visu_proj.weight


def test_frozen_parameters_stay_whatever_the_rules():
    network, _, sources = trained()
    network.vl_pos_embed.requires_grad_(False)
    before = copy_of(network)
    reinitialise(network, {"*": "fresh"}, sources, KEY)
    assert "vl_pos_embed.weight" not in changed(network, before)
    assert "visumodel.0.weight" in changed(network, before)


def test_statistics_of_frozen_modules_stay_with_their_parameters():
    network, _, sources = trained()
    network.visumodel.requires_grad_(False)
    network.whitening = nn.BatchNorm1d(4, affine=False)  # has no parameter that training could fit to new statistics
    network.whitening.running_mean.fill_(3.0)
    sources["fresh"].update({f"whitening.{name}": value for name, value in nn.BatchNorm1d(4).state_dict().items()})
    before = copy_of(network)
    reinitialise(network, {"*": "fresh"}, sources, KEY)
    assert not {name for name in changed(network, before) if name.startswith(("visumodel", "whitening"))}


def test_weights_that_are_no_copy_are_refused_since_they_change_with_the_network():
    network, _, sources = trained()
    with pytest.raises(ValueError, match=r"pretrained.*copy"):
        reinitialise(network, {"*": "pretrained"}, {**sources, "pretrained": network.state_dict()}, KEY)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"bbox_embd.*": "fresh"}, r"semi\.reinitialise: `bbox_embd\.\*` matches no tensor.*bbox_embed\.\*"),
        ({"vl_*": "fresh", "vl_pos_embed.*": "keep"}, r"semi\.reinitialise: `vl_pos_embed\.\*`.*earlier"),
        ({"textmodel.*": "fresh"}, r"semi\.reinitialise: `textmodel\.\*`.*model\.freeze"),
        ({"*.running_*": "shrink_perturb"}, r"semi\.reinitialise: `\*\.running_\*`.*no weights"),
    ],
)
def test_a_rule_that_does_nothing_is_refused_and_nothing_is_changed(rules, message):
    network, _, sources = trained()
    network.textmodel.requires_grad_(False)
    before = copy_of(network)
    with pytest.raises(UserError, match=message):
        reinitialise(network, {"bbox_embed.weight": "fresh", **rules}, sources, KEY)
    assert changed(network, before) == set()


@pytest.mark.parametrize("action", ["fresh", "pretrained", "burn_in", "shrink_perturb"])
def test_a_missing_source_is_named_and_nothing_is_changed(action):
    network, optimizer, sources = trained()
    before, source = copy_of(network), "fresh" if action == "shrink_perturb" else action
    rules = {"bbox_embed.*": "burn_in" if source == "fresh" else "fresh", "reg_token.*": action}
    partial = {**sources[source], "reg_token.weight": torch.ones(2, 4)}
    with pytest.raises(
        ValueError, match=rf"reg_token\.weight: the `{source}` weights that `{action}` needs have.*2, 4"
    ):
        reinitialise(network, rules, {**sources, source: partial}, KEY, optimizer=optimizer)
    del sources[source]
    with pytest.raises(ValueError, match=rf"`{source}` weights that `{action}` needs are missing"):
        reinitialise(network, rules, sources, KEY, optimizer=optimizer)
    assert changed(network, before) == set()
    assert len(optimizer.state) == len(list(network.parameters()))
