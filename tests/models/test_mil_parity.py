"""Networks for bags against what official code computed (``tests/golden/acmil``): acceptance 1 of the specification."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from models.mil.abmil import ABMIL
from models.mil.acmil import AcmilGA
from models.mil.losses import bag_loss, branch_loss, clam_instance_loss, diversity_loss
from models.mil.networks import NETWORKS
from models.mil.published import Architecture, adapt_published, infer_architecture, strip_wrappers
from models.mil.stkim import InstanceMasking, MaskDraw

GOLDEN = Path(__file__).parents[1] / "golden" / "acmil"
ABMIL_FILE, GA_FILE, MHA_FILE, BASELINES, TRAJECTORY = (
    load_file(GOLDEN / f"{name}.safetensors")
    for name in ("abmil", "acmil_ga", "acmil_mha", "baselines", "trajectory")
)  # fmt: skip
MADE = json.loads((GOLDEN / "trajectory.json").read_text())
LABELS = MADE["settings"]["labels"]
BAGS = list(LABELS)
UNFELT_BIAS = "attention.attention_weights.bias"
"""A softmax does not feel it: its gradient is 0. Official code leaves rounding errors there, which AdamW turns to steps
of up to 1e-3. They differ from one processor to the next, so that this part of the trajectory cannot be repeated."""
MASKING = InstanceMasking(top_k=10, drop_ratio=0.6)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def close(found, expected, within=1e-5):
    torch.testing.assert_close(found, expected, atol=within, rtol=0)


def under(golden, prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in golden.items() if name.startswith(prefix)}


def load(state, **args):
    """Build what the file's shapes tell and load it strictly."""
    made = infer_architecture(state)
    network = NETWORKS[made.name](made.in_features, made.width, made.classes, **made.args, **args)
    network.load_state_dict(adapt_published(state, network))
    return network


def draw(noise):
    return MaskDraw(MASKING, noise[None])


def losses(output, label):
    labels = torch.tensor([label])
    parts = [branch_loss(output.branch_logits, labels), diversity_loss(output.attention)]
    parts.append(bag_loss(output.bag_logits, labels))
    return torch.stack([*parts, sum(parts)])


def gradients_close(network, expected, within=1e-4):
    assert expected
    for name, gradient in expected.items():
        close(network.get_parameter(name).grad, gradient, within)


@pytest.mark.parametrize("bag", BAGS)
def test_item_1_abmil(bag):
    network = load(under(ABMIL_FILE, "state."))
    output = network(ABMIL_FILE[f"{bag}.x"][None])
    close(output.bag_logits, ABMIL_FILE[f"{bag}.logits"])
    close(output.scores[0], ABMIL_FILE[f"{bag}.attn_logits"])
    close(output.attention[0], ABMIL_FILE[f"{bag}.attn"])
    assert output.branch_logits is None
    loss = bag_loss(output.bag_logits, torch.tensor([LABELS[bag]]))
    close(loss[None], ABMIL_FILE[f"{bag}.loss"])
    if expected := under(ABMIL_FILE, f"{bag}.grad."):
        loss.backward()
        gradients_close(network, expected)


@pytest.mark.parametrize("bag", BAGS)
def test_item_1_acmil_ga_in_evaluation(bag):
    golden = under(GA_FILE, f"{bag}.eval.")
    output = load(under(GA_FILE, "state.")).eval()(GA_FILE[f"{bag}.x"][None])
    close(output.branch_logits[0], golden["branch_logits"])
    close(output.bag_logits, golden["bag_logits"])
    close(output.scores, golden["attn_logits"])
    close(output.attention, golden["attn"])
    close(output.bag_attention[0], golden["bag_attn"])
    close(output.bag_feature, golden["bag_feature"])
    close(losses(output, LABELS[bag]), golden["losses"])


@pytest.mark.parametrize("bag", BAGS)
def test_item_1_acmil_ga_in_training_with_recorded_draws(bag):
    golden, network = under(GA_FILE, f"{bag}.train."), load(under(GA_FILE, "state."))
    output = network(GA_FILE[f"{bag}.x"][None], hidden=draw(golden["rand"]))
    assert torch.equal(output.scores[0].isneginf(), golden["masked"])
    close(output.scores.masked_fill(golden["masked"], -1e9), golden["attn_logits"])
    close(output.attention, golden["attn"])
    close(output.branch_logits[0], golden["branch_logits"])
    close(output.bag_logits, golden["bag_logits"])
    found = losses(output, LABELS[bag])
    close(found, golden["losses"])
    if expected := under(golden, "grad."):
        found[-1].backward()
        gradients_close(network, expected)


@pytest.mark.parametrize("bag", BAGS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_item_1_acmil_mha(bag, mode):
    golden, network = under(MHA_FILE, f"{bag}.{mode}."), load(under(MHA_FILE, "state."), dropout=0.0)
    hidden = draw(golden["rand"]) if mode == "train" else None
    output = network.train(mode == "train")(MHA_FILE[f"{bag}.x"][None], hidden=hidden)
    scores = output.scores[0].transpose(0, 1)  # heads first in the fixtures
    masked = golden.get("masked", torch.zeros_like(scores, dtype=torch.bool))
    assert torch.equal(scores.isneginf(), masked)
    close(scores.masked_fill(masked, -1e9), golden["attn_logits"])
    close(output.branch_logits[0], golden["branch_logits"])
    close(output.bag_logits, golden["bag_logits"])
    found = losses(output, LABELS[bag])
    close(found, golden["losses"])
    if expected := under(golden, "grad."):
        found[-1].backward()
        gradients_close(network, expected)


@pytest.mark.parametrize("bag", ["bag0", "bag2", "bag3", "bag4"])
def test_item_1_clam_sb(bag):
    network = load(under(BASELINES, "clam_sb.state."), instances=4).eval()
    output = network(BASELINES[f"clam_sb.{bag}.x"][None])
    close(output.bag_logits, BASELINES[f"clam_sb.{bag}.logits"])
    close(output.scores[0], BASELINES[f"clam_sb.{bag}.attn_logits"])
    instance_loss = clam_instance_loss(output.instances, torch.tensor([LABELS[bag]]))
    close(instance_loss[None], BASELINES[f"clam_sb.{bag}.instance_loss"])


@pytest.mark.parametrize("bag", ["bag0", "bag2", "bag3", "bag4"])
def test_item_1_transmil(bag):
    network = load(under(BASELINES, "transmil.state.")).eval()
    close(network(BASELINES[f"clam_sb.{bag}.x"][None]).bag_logits, BASELINES[f"transmil.{bag}.logits"])


def test_item_1_trajectory_of_three_epochs_with_recorded_draws():
    network = load(under(TRAJECTORY, "start."))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-5)
    for step, learning_rate in enumerate(MADE["lr_per_step"]):
        bag = MADE["settings"]["order"][step % len(BAGS)]
        optimizer.param_groups[0]["lr"] = learning_rate
        output = network(TRAJECTORY[f"{bag}.x"][None], hidden=draw(TRAJECTORY[f"rand.{step:02d}"]))
        optimizer.zero_grad()
        losses(output, LABELS[bag])[-1].backward()
        optimizer.step()
    for name, parameter in network.state_dict().items():
        if name != UNFELT_BIAS:
            close(parameter, TRAJECTORY[f"end.{name}"], 1e-4)
    assert torch.allclose(network.get_parameter(UNFELT_BIAS), TRAJECTORY[f"start.{UNFELT_BIAS}"], rtol=1e-6)
    network.eval()
    for bag in BAGS:
        close(network(TRAJECTORY[f"{bag}.x"][None]).bag_logits, TRAJECTORY[f"{bag}.end.bag_logits"], 1e-4)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (under(ABMIL_FILE, "state."), Architecture("abmil", 24, 16, 3, {"attention_width": 12, "gated": True})),
        (under(GA_FILE, "state."), Architecture("acmil_ga", 24, 16, 3, {"branches": 5, "attention_width": 12})),
        (under(MHA_FILE, "state."), Architecture("acmil_mha", 24, 16, 3, {"branches": 3})),
        (under(BASELINES, "clam_sb.state."), Architecture("clam_sb", 24, 16, 3, {"attention_width": 128})),
        (under(BASELINES, "transmil.state."), Architecture("transmil", 24, 32, 3, {})),
    ],
    ids=lambda value: value.name if isinstance(value, Architecture) else "",
)
def test_item_1_shapes_tell_the_network(state, expected):
    assert infer_architecture(state) == expected
    assert infer_architecture({f"module.{name}": weight for name, weight in state.items()}) == expected


def test_prefixes_come_off_only_together():
    state = under(GA_FILE, "state.")
    wrapped = {f"_orig_mod.module.{name}": weight for name, weight in state.items()}
    assert strip_wrappers(wrapped).keys() == state.keys()
    mixed = {"model.weight": torch.zeros(1), "other": torch.zeros(1)}
    assert strip_wrappers(mixed) == mixed


def test_item_1_an_official_file_of_one_branch_loses_that_branch_s_classifier():
    state = under(GA_FILE, "state.")
    single = {name: weight for name, weight in state.items() if not name.startswith("classifier.")}
    single |= {f"attention.attention_weights.{part}": state[f"attention.attention_weights.{part}"][:1]
               for part in ("weight", "bias")}  # fmt: skip
    single |= {f"classifier.0.fc.{part}": state[f"classifier.0.fc.{part}"] for part in ("weight", "bias")}
    network = load(single)
    assert isinstance(network, AcmilGA)
    assert network(GA_FILE["bag0.x"][None]).branch_logits is None


def test_other_files_and_networks_are_refused():
    with pytest.raises(ValueError, match=r"no known network for bags \(they begin with blocks.0\)"):
        infer_architecture({"blocks.0": torch.zeros(1)})
    with pytest.raises(ValueError, match="Linear is no network for bags"):
        adapt_published({}, nn.Linear(1, 1))


def test_ungated_files_are_recognised():
    network = ABMIL(24, 16, 3, gated=False)
    assert infer_architecture(network.state_dict()).args["gated"] is False
