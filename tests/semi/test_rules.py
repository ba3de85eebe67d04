"""Rules that accept pseudo-labels, where official code is silent: the ends, what is not finite, saving, processes.

Items are those of the specification of learning from unlabelled images.
"""

import json

import pytest
import torch
from torch import distributed

from vision_train.semi.fixmatch import FixMatch, check_threshold, highest_threshold
from vision_train.semi.flexmatch import FlexMatch
from vision_train.semi.freematch import FreeMatch, fairness_loss
from vision_train.semi.pseudo_labels import PseudoLabels, pseudo_label_loss, teacher_probabilities
from vision_train.semi.softmatch import DistributionAlignment, SoftMatch
from vision_train.semi.state import ExponentialMean, QueueMean

CLASSES, POOL = 5, 24


def batches(count, size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(count, size, CLASSES, generator=generator)
    return list(zip(logits, torch.randint(POOL, (count, size), generator=generator), strict=True))


RULES = {
    "freematch": lambda: FreeMatch(CLASSES, 0.8),
    "softmatch": lambda: SoftMatch(CLASSES, 0.8, labelled_target=True),
    "flexmatch": lambda: FlexMatch(POOL, CLASSES, 0.6),
}


def label(name, rule, logits, places):
    probabilities = teacher_probabilities(logits)
    extra = {"freematch": (), "softmatch": (probabilities.flip(0),), "flexmatch": (places,)}[name]
    return rule(probabilities, *extra)


def fairness_of(rule, logits, accepted):
    logits = logits.clone().requires_grad_()
    loss = fairness_loss(logits, accepted, rule.mean_probabilities, rule.label_shares)
    loss.backward()
    return loss.item(), logits.grad


@pytest.mark.parametrize("classes", [2, CLASSES])
def test_item_2_freematch_is_finite_with_one_class_in_the_pool(classes):
    rule = FreeMatch(classes, 0.5)
    logits = torch.tensor([[9.0] + [0.0] * (classes - 1)]).repeat(6, 1)
    for _ in range(200):
        pseudo = rule(teacher_probabilities(logits))
    loss, gradient = fairness_of(rule, logits, pseudo.weights)
    assert (rule.label_shares[1:] == 0).all(), "H has zeros"
    assert all(state.isfinite().all() for state in rule.state_dict().values())
    assert pseudo_label_loss(logits, pseudo).isfinite()
    assert loss == pytest.approx(0, abs=1e-5)
    assert gradient.isfinite().all()


def test_item_2_freematch_is_finite_with_two_classes_and_with_a_zero_in_the_label_shares():
    rule = FreeMatch(2, 0.5)
    logits = torch.tensor([[3.0, 0], [0, 1], [0, 2]])
    loss, gradient = fairness_of(rule, logits, rule(teacher_probabilities(logits)).weights)
    assert abs(loss) < 50
    assert gradient.isfinite().all()
    rule.label_shares.copy_(torch.tensor([1.0, 0.0]))
    loss, gradient = fairness_of(rule, logits, torch.ones(3))
    assert abs(loss) < 50
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("classes", [2, CLASSES])
def test_item_2_fairness_of_nothing_accepted_is_zero_and_moves_nothing(classes):
    rule, logits, nothing = FreeMatch(classes), torch.randn(4, classes), torch.zeros(4)
    loss, gradient = fairness_of(rule, logits, nothing)
    assert loss == 0
    assert not gradient.any()
    assert pseudo_label_loss(logits, PseudoLabels(logits.argmax(dim=-1), nothing)) == 0


@pytest.mark.parametrize("rejected", [1, 6, 50])
def test_item_4_rejected_images_scale_the_loss_by_their_share(rejected):
    """The mean is over all images of the batch, not over the accepted ones."""
    logits, labels = torch.randn(6, CLASSES), torch.arange(6) % CLASSES
    accepted = pseudo_label_loss(logits, PseudoLabels(labels, torch.ones(6)))
    longer = PseudoLabels(
        torch.cat([labels, torch.zeros(rejected, dtype=torch.long)]), torch.cat([torch.ones(6), torch.zeros(rejected)])
    )
    found = pseudo_label_loss(torch.cat([logits, torch.randn(rejected, CLASSES)]), longer)
    assert found.item() == pytest.approx(accepted.item() * 6 / (6 + rejected))


@pytest.mark.parametrize("name", RULES)
def test_item_4_no_gradient_reaches_the_teacher(name):
    (logits, places), *_ = batches(1)
    pseudo = label(name, RULES[name](), logits.requires_grad_(), places)
    assert not pseudo.targets.requires_grad
    assert not pseudo.weights.requires_grad


@pytest.mark.parametrize("name", RULES)
def test_item_5_a_restored_rule_goes_on_as_if_never_stopped(name):
    steps = batches(6)
    whole, stopped = RULES[name](), RULES[name]()
    for logits, places in steps[:3]:
        label(name, whole, logits, places)
        label(name, stopped, logits, places)
    restored = RULES[name]()
    restored.load_state_dict(stopped.state_dict())
    for logits, places in steps[3:]:
        expected, found = label(name, whole, logits, places), label(name, restored, logits, places)
        assert torch.equal(expected.weights, found.weights)
        assert torch.equal(expected.targets, found.targets)


@pytest.mark.parametrize("name", RULES)
def test_item_5_every_saved_item_of_a_rule_that_is_missing_is_noticed(name):
    saved = RULES[name]().state_dict()
    assert saved
    for key in saved:
        with pytest.raises(RuntimeError, match=key):
            RULES[name]().load_state_dict({other: value for other, value in saved.items() if other != key})


@pytest.mark.parametrize("name", RULES)
def test_averages_stay_exact_in_a_network_of_16_bits(name):
    steps = batches(6)
    exact, cast = RULES[name](), torch.nn.ModuleList([RULES[name]()]).bfloat16()[0]
    for logits, places in steps:
        expected, found = label(name, exact, logits, places), label(name, cast, logits, places)
        assert torch.equal(expected.weights, found.weights)
    for key, value in exact.state_dict().items():
        assert torch.equal(value, cast.state_dict()[key]), key


@pytest.mark.parametrize("name", RULES)
def test_a_teacher_that_is_not_finite_is_not_learnt_from(name):
    first, second, third = batches(3)
    plain, hit = RULES[name](), RULES[name]()
    broken = second[0].clone()
    broken[2] = torch.nan
    for rule in (plain, hit):
        label(name, rule, *first)
    weights = label(name, hit, broken, second[1]).weights
    assert weights[2] == 0
    assert weights.isfinite().all()
    after = label(name, hit, *third)
    assert after.weights.isfinite().all()
    if name != "flexmatch":  # its table takes the other images of the batch
        assert torch.equal(after.weights, label(name, plain, *third).weights)


def test_softmatch_weighs_batches_of_a_single_image():
    """Which have a mean confidence and no unbiased variance."""
    rule = SoftMatch(CLASSES, 0.8)
    for logits, _ in batches(6, size=1):
        weights = rule(teacher_probabilities(logits)).weights
    assert rule.variance == 1
    assert rule.mean > 1 / CLASSES
    assert 0 < weights.item() <= 1


def test_the_same_rule_can_be_asked_without_moving_it():
    for name in ("freematch", "softmatch"):
        rule = RULES[name]()
        (first, places), (second, _) = batches(2)
        label(name, rule, first, places)
        before = {key: value.clone() for key, value in rule.state_dict().items()}
        rule.weights(teacher_probabilities(second))
        assert all(torch.equal(value, before[key]) for key, value in rule.state_dict().items())


def test_an_image_that_comes_twice_in_a_batch_keeps_its_later_class():
    rule = FlexMatch(3, 2, 0.9)
    sure = torch.tensor([[0.99, 0.01], [0.01, 0.99], [0.4, 0.6]])
    rule(sure, torch.tensor([1, 1, 1]))
    assert rule.table.tolist() == [-1, 1, -1]


def test_alignment_to_labelled_images_asks_for_them():
    align = DistributionAlignment(ExponentialMean(0.9, classes=2), QueueMean(2))
    with pytest.raises(ValueError, match="labelled"):
        align.update(torch.tensor([[0.5, 0.5]]))


def test_item_8_a_threshold_that_smoothing_puts_out_of_reach_is_refused_with_the_possible_one():
    assert highest_threshold(0.1, 10) == pytest.approx(0.89)
    with pytest.raises(ValueError, match=r"0\.95.*0\.89 or less"):
        check_threshold(0.95, 0.1, 10)
    check_threshold(0.89, 0.1, 10)
    check_threshold(0.95, 0.0, 10)


def test_item_8_the_refused_threshold_would_accept_nothing_of_a_fully_trained_network():
    """At the optimum of smoothed cross-entropy the network answers with the smoothed target."""
    optimum = torch.full((1, 10), 0.01)
    optimum[0, 3] = 0.91
    assert FixMatch(0.95)(optimum).weights.sum() == 0
    assert FixMatch(highest_threshold(0.1, 10))(optimum).weights.sum() == 1


def half(rank, place):
    """Label the half of each batch that belongs to a process; the gradients are averaged as DDP does."""
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    (place / f"{rank}.json").write_text(json.dumps(train(slice(4 * rank, 4 * rank + 4))))
    distributed.destroy_process_group()


def train(part):
    """20 steps of a linear student, with each rule's weights and the fairness loss."""
    rules = {name: make() for name, make in RULES.items()}
    torch.manual_seed(1)
    student = torch.nn.Linear(CLASSES, CLASSES)
    for logits, places in batches(20):
        logits, places = logits[part], places[part]
        pseudo = {name: label(name, rule, logits, places) for name, rule in rules.items() if name != "softmatch"}
        rules["softmatch"](teacher_probabilities(logits), teacher_probabilities(logits))
        answer = student(logits)
        free = rules["freematch"]
        loss = sum(pseudo_label_loss(answer, each) for each in pseudo.values())
        loss = loss + 0.5 * fairness_loss(
            answer, pseudo["freematch"].weights, free.mean_probabilities, free.label_shares
        )
        student.zero_grad()
        loss.backward()
        for parameter in student.parameters():
            if distributed.is_initialized():
                distributed.all_reduce(parameter.grad)
                parameter.grad /= 2
            parameter.data -= 0.1 * parameter.grad
    states = {name: {key: value.tolist() for key, value in rule.state_dict().items()} for name, rule in rules.items()}
    return {"states": states, "weight": student.weight.tolist()}


def test_item_6_two_processes_do_what_one_does_with_the_whole_batch(two_processes, tmp_path):
    whole = train(slice(0, 8))
    two_processes(half, tmp_path)
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        for name, state in whole["states"].items():
            for key, value in state.items():
                assert torch.tensor(found["states"][name][key]).float().numpy() == pytest.approx(
                    torch.tensor(value).float().numpy(), abs=1e-6
                ), (name, key)
        torch.testing.assert_close(torch.tensor(found["weight"]), torch.tensor(whole["weight"]), atol=1e-5, rtol=0)
