"""Every method against what the official code computed step by step (``tests/golden/semi``).

Items are those of the specification of learning from unlabelled images.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from vision_train.ema import MovingAverage
from vision_train.semi.consistency import consistency_loss, ramp
from vision_train.semi.fixmatch import FixMatch
from vision_train.semi.flexmatch import FlexMatch
from vision_train.semi.freematch import FreeMatch, fairness_loss
from vision_train.semi.pseudo_labels import PseudoLabels, pseudo_label_loss, teacher_probabilities
from vision_train.semi.softmatch import DistributionAlignment, SoftMatch
from vision_train.semi.state import ExponentialMean, QueueMean

GOLDEN = Path(__file__).parents[1] / "golden" / "semi"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
TENSORS = load_file(GOLDEN / "semi.safetensors")
CASES = MANIFEST["cases"]
CLASSES, POOL, STEPS = (MANIFEST["sizes"][name] for name in ("classes", "pool", "steps"))
INPUTS = ("labels", "idx_ulb", "logits_lb", "logits_w", "logits_s")
STREAMS = {name: {key: TENSORS[f"input/{name}/{key}"] for key in INPUTS} for name in ("even", "skewed")}


def close(found, expected, what):
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5, msg=lambda text: f"{what}: {text}")


def names(*methods):
    return [name for name, case in CASES.items() if case.get("method") in methods]


def rule_of(case):
    """The rule of a case, as ``call(probabilities, labelled, places)``, and its module."""
    settings, method = case["settings"], case["method"]
    if method == "fixmatch":
        rule = FixMatch(settings["p_cutoff"], soft=not settings["hard_label"])
        return rule, lambda weak, labelled, places: rule(weak)
    if method == "freematch":
        rule = FreeMatch(CLASSES, settings["ema_p"], quantile=settings["use_quantile"], clip=settings["clip_thresh"])
        return rule, lambda weak, labelled, places: rule(weak)
    if method == "softmatch":
        rule = SoftMatch(
            CLASSES, settings["ema_p"], sigmas=settings["n_sigma"], labelled_target=not settings["dist_uniform"]
        )
        return rule, lambda weak, labelled, places: rule(weak, labelled)
    rule = FlexMatch(POOL, CLASSES, settings["p_cutoff"], warmup=settings["thresh_warmup"])
    return rule, lambda weak, labelled, places: rule(weak, places)


def states_of(rule, method):
    """Values of a rule under the names of the fixture."""
    if method == "freematch":
        return {"time_p": rule.threshold, "p_model": rule.mean_probabilities, "label_hist": rule.label_shares}
    if method == "softmatch":
        align = rule.alignment
        target = align.target if isinstance(align.target, torch.Tensor) else align.target.value
        return {
            "prob_max_mu_t": rule.mean,
            "prob_max_var_t": rule.variance,
            "align_p_model": align.pool.value,
            "align_p_target": target,
        }
    return {"classwise_acc": rule.learnt, "selected_label": rule.table} if method == "flexmatch" else {}


def test_item_1_every_case_of_the_fixture_is_compared_on_both_streams():
    in_sequence = {
        method: names(method)
        for method in ("fixmatch", "freematch", "softmatch", "flexmatch", "pimodel", "meanteacher")
    }
    for of_method in in_sequence.values():
        streams = [CASES[name]["stream"] for name in of_method]
        assert streams.count("even") == streams.count("skewed") == len(streams) / 2 > 0
    compared = {name for of_method in in_sequence.values() for name in of_method}
    others = {*names("distribution alignment"), "consistency", "ema/0.9", "ema/0.999"}
    assert compared | others == CASES.keys()


@pytest.mark.parametrize("name", names("fixmatch", "freematch", "softmatch", "flexmatch"))
def test_item_1_all_steps_equal_official_code(name):
    case = CASES[name]
    settings, inputs = case["settings"], STREAMS[case["stream"]]
    rule, label = rule_of(case)
    golden = {key.removeprefix(f"{name}/"): value for key, value in TENSORS.items() if key.startswith(f"{name}/")}
    unchecked = set(golden)

    def check(key, found, exact=False):
        unchecked.discard(key)
        if exact:
            assert torch.equal(found, golden[key][step]), f"{key} of step {step}"
        else:
            close(found, golden[key][step], f"{key} of step {step}")

    for step in range(STEPS):
        labelled, weak, strong = (
            inputs[key][step].clone().requires_grad_() for key in ("logits_lb", "logits_w", "logits_s")
        )
        pseudo = label(teacher_probabilities(weak), teacher_probabilities(labelled), inputs["idx_ulb"][step])
        supervised = F.cross_entropy(labelled, inputs["labels"][step])
        unsupervised = pseudo_label_loss(strong, pseudo)
        total = supervised + settings["ulb_loss_ratio"] * unsupervised
        if case["method"] == "freematch":
            fairness = fairness_loss(strong, pseudo.weights, rule.mean_probabilities, rule.label_shares)
            check("loss_fairness", fairness)
            total = total + settings["ent_loss_ratio"] * fairness
        total.backward()
        check("target", pseudo.targets, exact=settings["hard_label"])
        check("mask", pseudo.weights, exact=case["method"] != "softmatch")
        for key, value in (("sup", supervised), ("unsup", unsupervised), ("total", total)):
            check(f"loss_{key}", value)
        check("grad_lb", labelled.grad)
        check("grad_s", strong.grad)
        check("grad_w_is_none_or_zero", torch.tensor(float(weak.grad is None)), exact=True)
        for key, value in states_of(rule, case["method"]).items():
            check(f"state/{key}", value, exact=key == "selected_label")
    assert not unchecked


@pytest.mark.parametrize("name", names("pimodel"))
def test_item_1_consistency_with_its_ramp_equals_official_code(name):
    case = CASES[name]
    settings, inputs = case["settings"], STREAMS[case["stream"]]
    for step in range(STEPS):
        labelled, weak, strong = (
            inputs[key][step].clone().requires_grad_() for key in ("logits_lb", "logits_w", "logits_s")
        )
        target = teacher_probabilities(weak)
        supervised, unsupervised = F.cross_entropy(labelled, inputs["labels"][step]), consistency_loss(strong, target)
        weight = settings["ulb_loss_ratio"] * ramp(step, STEPS, settings["unsup_warm_up"])
        total = supervised + weight * unsupervised
        total.backward()
        found = {"target": target, "loss_sup": supervised, "loss_unsup": unsupervised, "loss_total": total}
        for key, value in {**found, "grad_lb": labelled.grad, "grad_s": strong.grad}.items():
            close(value, TENSORS[f"{name}/{key}"][step], f"{key} of step {step}")
        assert weak.grad is None


def test_item_1_losses_of_one_step_equal_official_code():
    inputs, mask = STREAMS[CASES["consistency"]["stream"]], TENSORS["consistency/mask"]
    step = CASES["consistency"]["step"]
    weak, strong = teacher_probabilities(inputs["logits_w"][step]), inputs["logits_s"][step]
    close(consistency_loss(strong, weak), TENSORS["consistency/mse"], "mse")
    for key, targets in (("ce_hard", weak.argmax(dim=-1)), ("ce_soft", weak)):
        close(pseudo_label_loss(strong, PseudoLabels(targets, mask)), TENSORS[f"consistency/{key}"], key)


@pytest.mark.parametrize("name", names("meanteacher"))
def test_item_1_mean_teacher_does_not_repeat_the_defect_of_the_official_code(name):
    """There the consistency loss is exactly 0, though student and teacher differ."""
    assert not TENSORS[f"{name}/loss_unsup"].any()
    inputs = STREAMS[CASES[name]["stream"]]
    losses = [
        consistency_loss(inputs["logits_s"][step], teacher_probabilities(inputs["logits_w"][step])).item()
        for step in range(STEPS)
    ]
    assert min(losses) > 1e-3


@pytest.mark.parametrize("name", names("distribution alignment"))
def test_item_1_alignment_equals_official_code(name):
    settings, inputs = CASES[name]["settings"], STREAMS[CASES[name]["stream"]]
    uniform = torch.full((CLASSES,), 1 / CLASSES)

    def mean(start=None):
        if "queue_length" in settings:
            return QueueMean(CLASSES, settings["queue_length"])
        return ExponentialMean(settings["momentum"], start=start, classes=CLASSES)

    wanted = settings["p_target"]
    targets = {"uniform": uniform, "model": mean(uniform)}
    align = DistributionAlignment(mean(), targets[wanted] if isinstance(wanted, str) else torch.tensor(wanted))
    for step in range(STEPS):
        weak = teacher_probabilities(inputs["logits_w"][step])
        align.update(weak, teacher_probabilities(inputs["logits_lb"][step]))
        close(align(weak), TENSORS[f"{name}/aligned"][step], f"aligned of step {step}")
        if f"{name}/p_model" in TENSORS:
            close(align.pool.value, TENSORS[f"{name}/p_model"][step], f"p_model of step {step}")


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_item_3_the_teacher_equals_official_code_without_its_warm_up(decay):
    """Float buffers are averaged here and copied there; the fixture's network has the parameters of two layers."""

    def part(name):
        start = f"ema/{decay}/{name}/"
        return {key.removeprefix(start): value for key, value in TENSORS.items() if key.startswith(start)}

    weights, averages = part("weights"), part("average")
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    network.load_state_dict(part("start"))
    teacher = MovingAverage(network, decay, warmup=False)
    for update in range(len(weights["0.bias"])):
        network.load_state_dict({key: weights[key][update] for key in network.state_dict()})
        teacher.update(network)
        for key, value in teacher.weights.items():
            close(value, averages[key][update], f"{key} after update {update}")
