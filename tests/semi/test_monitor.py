"""What health sees: each published way to fail, made with the pieces that fail, and runs that are well.

Items are those of the specification of learning from unlabelled images.
"""

from functools import cache

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from vision_train.ema import MovingAverage
from vision_train.semi.consistency import capped
from vision_train.semi.fixmatch import FixMatch
from vision_train.semi.flexmatch import FlexMatch
from vision_train.semi.freematch import FreeMatch
from vision_train.semi.health import PoolCounts, estimated_accuracy, separation
from vision_train.semi.monitor import Monitor, Reading, origin_signs
from vision_train.semi.pseudo_labels import teacher_probabilities
from vision_train.semi.teacher import decay_of, half_life

CLASSES = 10
NAMES = [f"digit {index}" for index in range(CLASSES)]
EVEN = [1 / CLASSES] * CLASSES


def answers(images, sharpness, accuracy=1.0, seed=0):
    """Logits for images of evenly frequent classes, and the classes; the favourite is right with a probability."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(images) % CLASSES
    wrong = (truth + torch.randint(1, CLASSES, (images,), generator=generator)) % CLASSES
    favourite = torch.where(torch.rand(images, generator=generator) < accuracy, truth, wrong)
    noise = torch.randn(images, CLASSES, generator=generator)
    return noise * 0.1 + sharpness * torch.nn.functional.one_hot(favourite, CLASSES), truth


def pool_of(logits, weights, student=None, losses=(1.0, 1.0)):
    counts = PoolCounts(CLASSES)
    counts.add(teacher_probabilities(logits), weights, logits if student is None else student)
    counts.add_losses(*(torch.tensor(loss) for loss in losses))
    return counts.figures()


def figures(judgement):
    return [sign.figure for sign in judgement.signs]


def healthy():
    logits, _ = answers(400, 6.0, 0.95)
    student, _ = answers(400, 6.0, 0.93, seed=1)
    return pool_of(logits, FixMatch(0.8)(teacher_probabilities(logits)).weights, student)


def test_a_healthy_run_shows_no_sign():
    monitor = Monitor(NAMES, EVEN, start_score=0.9)
    estimate = estimated_accuracy(torch.ones(200), torch.arange(200) < 190)
    for score in (0.9, 0.92, 0.93):
        judgement = monitor.judge(Reading(healthy(), estimate, score, 0.02))
        assert judgement.messages == []
        assert not judgement.stop


def test_a_fixed_threshold_with_smoothing_accepts_nothing_and_is_seen():
    """Published defaults: threshold 0.95 and smoothing 0.1, whose optimum is 0.91."""
    logits = torch.full((400, CLASSES), 0.01)
    logits[torch.arange(400), torch.arange(400) % CLASSES] = 0.91
    weights = FixMatch(0.95)(teacher_probabilities(logits.log())).weights
    judgement = Monitor(NAMES, EVEN, fixed_threshold=True).judge(Reading(pool_of(logits.log(), weights)))
    assert "accepted share" in figures(judgement)
    assert "method.label_smoothing" in judgement.messages[0]
    assert "augment.mixing" in judgement.messages[0]
    assert not judgement.stop


def test_item_9_freematch_from_scratch_without_burn_in_collapses_and_is_stopped():
    """Its threshold starts at 1/C and accepts every label of a network that knows nothing."""
    monitor, rule = Monitor(NAMES, EVEN), FreeMatch(CLASSES)
    judged = []
    for seed in range(3):
        logits, _ = answers(400, 0.3, accuracy=0.1, seed=seed)
        weights = rule(teacher_probabilities(logits)).weights
        validation, truth = answers(200, 0.3, accuracy=0.15, seed=9 + seed)
        estimate = estimated_accuracy(
            rule.weights(teacher_probabilities(validation)), validation.argmax(dim=-1) == truth
        )
        assert weights.mean() > 0.95
        judged.append(monitor.judge(Reading(pool_of(logits, weights), estimate)))
    assert [judgement.stop for judgement in judged] == [False, True, True], "twice running"
    assert "no longer added (accuracy of accepted labels)" in judged[1].messages[-1]
    assert "semi.burn_in" in judged[0].messages[0]
    assert not judged[2].changed


def test_collapse_to_one_class_is_stopped_at_once():
    logits, _ = answers(400, 2.0)
    logits[:, 3] += 5
    judgement = Monitor(NAMES, EVEN).judge(Reading(pool_of(logits, torch.ones(400))))
    assert judgement.stop
    assert "classes of pseudo-labels" in figures(judgement)
    assert "90 %" in judgement.messages[0]


def test_rare_classes_of_the_labelled_set_are_no_collapse():
    prior = [0.91, *[0.01] * 9]
    logits = torch.zeros(400, CLASSES)
    labels = torch.multinomial(torch.tensor(prior), 400, replacement=True)
    logits[torch.arange(400), labels] = 6
    judgement = Monitor(NAMES, prior).judge(Reading(pool_of(logits, torch.ones(400))))
    assert "classes of pseudo-labels" not in figures(judgement)


def test_flexmatch_accepts_everything_at_first_and_is_stopped():
    monitor, rule = Monitor(NAMES, EVEN), FlexMatch(400, CLASSES)
    for seed in range(2):
        logits, _ = answers(400, 0.3, accuracy=0.2, seed=seed)
        weights = rule(teacher_probabilities(logits), torch.arange(400)).weights
        assert weights.min() == 1
        validation, truth = answers(200, 0.3, accuracy=0.2, seed=9 + seed)
        right = validation.argmax(dim=-1) == truth
        estimate = estimated_accuracy(rule.weights(teacher_probabilities(validation)), right)
        judgement = monitor.judge(Reading(pool_of(logits, weights), estimate))
    assert judgement.stop


def test_a_fixed_threshold_that_sorts_nothing_out_is_said_once():
    logits, _ = answers(400, 60.0, accuracy=0.9)
    monitor = Monitor(NAMES, EVEN, fixed_threshold=True)
    reading = Reading(pool_of(logits, FixMatch(0.95)(teacher_probabilities(logits)).weights))
    first, second = monitor.judge(reading), monitor.judge(reading)
    assert figures(first) == ["accepted share"]
    assert "raise it" in first.messages[0]
    assert "accepted share" not in figures(second), "later a good teacher may be sure of all"


def test_a_class_that_is_never_accepted_is_named():
    logits, truth = answers(400, 6.0)
    judgement = Monitor(NAMES, EVEN).judge(Reading(pool_of(logits, (truth != 7).float())))
    assert figures(judgement) == ["classes never accepted"]
    assert "digit 7" in judgement.messages[0]


def test_a_teacher_that_is_the_student_is_seen():
    """The official mean teacher compares the teacher with itself: loss and gradient are 0 all run."""
    monitor = Monitor(NAMES, EVEN)
    logits, _ = answers(400, 6.0, 0.9)
    first, second = (monitor.judge(Reading(pool_of(logits, torch.ones(400)))) for _ in range(2))
    assert figures(first) == []
    assert figures(second) == ["agreement"]
    monitor.judge(Reading(healthy()))
    assert figures(monitor.judge(Reading(pool_of(logits, torch.ones(400))))) == [], "late in a run they may be one"


@pytest.mark.parametrize(("decay", "seen"), [(0.999, ["agreement"]), (decay_of(half_life(720)), [])])
def test_a_teacher_that_is_still_the_random_start_is_seen(decay, seen):
    """At a decay of 0.999 a teacher is mostly its start in a run of 720 steps."""
    torch.manual_seed(0)
    network = torch.nn.Linear(16, CLASSES)
    teacher = MovingAverage(network, decay, warmup=False)
    with torch.no_grad():
        network.weight.copy_(torch.randn(CLASSES, 16) / 4)
    for _ in range(360):
        teacher.update(network)
    images = torch.randn(400, 16)
    student, logits = network(images).detach(), teacher(images)
    judgement = Monitor(NAMES, EVEN).judge(Reading(pool_of(logits, torch.ones(400), student)))
    assert [figure for figure in figures(judgement) if figure == "agreement"] == seen


def test_a_loss_of_the_pool_a_thousand_times_that_of_labels_is_seen_and_bounded():
    logits, _ = answers(400, 6.0, 0.95)
    student, _ = answers(400, 6.0, 0.93, seed=1)
    judgement = Monitor(NAMES, EVEN).judge(Reading(pool_of(logits, torch.ones(400), student, losses=(500.0, 0.5))))
    assert figures(judgement) == ["ratio of the losses"]
    assert "semi.weight" in judgement.signs[0].message
    assert "1,000.0 times" in judgement.messages[0]
    assert capped(torch.tensor(500.0), torch.tensor(0.5)) == 2


def test_a_teacher_that_the_pool_makes_worse_is_stopped_until_it_recovers():
    monitor = Monitor(NAMES, EVEN, start_score=0.90)
    judged = [
        monitor.judge(Reading(healthy(), score=score, score_error=0.02)) for score in (0.87, 0.85, 0.84, 0.89, 0.5)
    ]
    assert [judgement.stop for judgement in judged] == [False, False, True, False, False]
    assert [len(judgement.signs) for judgement in judged] == [1, 1, 1, 0, 1]
    assert "added again" in judged[3].messages[-1]


def test_two_standard_errors_of_little_are_no_reason_to_stop():
    monitor = Monitor(NAMES, EVEN, start_score=0.90)
    for _ in range(3):
        judgement = monitor.judge(Reading(healthy(), score=0.88, score_error=0.002))
    assert figures(judgement) == ["score of the teacher"]
    assert not judgement.stop


def test_a_teacher_that_is_not_finite_is_stopped_at_once():
    logits, _ = answers(400, 6.0)
    logits[5] = torch.nan
    judgement = Monitor(NAMES, EVEN).judge(Reading(pool_of(logits, torch.ones(400))))
    assert judgement.stop
    assert "1 of 400" in judgement.messages[0]


def test_a_restored_monitor_judges_as_if_never_stopped():
    readings = [Reading(healthy(), score=score, score_error=0.01) for score in (0.8, 0.8, 0.95, 0.8, 0.8)]
    for cut in range(1, 5):
        whole, first = Monitor(NAMES, EVEN, start_score=0.9), Monitor(NAMES, EVEN, start_score=0.9)
        expected = [whole.judge(reading) for reading in readings]
        for reading in readings[:cut]:
            first.judge(reading)
        second = Monitor(NAMES, EVEN)
        second.load_state_dict(first.state_dict())
        assert [second.judge(reading) for reading in readings[cut:]] == expected[cut:]
    for key in first.state_dict():
        with pytest.raises(KeyError, match=key):
            second.load_state_dict({name: value for name, value in first.state_dict().items() if name != key})


@cache
def digits():
    """A small network trained on 150 digits; its highest probability for other images, and for three kinds of pool."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    network = MLPClassifier((64,), max_iter=150, random_state=0).fit(images[:150], labels[:150])
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).numpy()
    pools = {"real": images[450:], "shuffled": images[450:, order], "copies": images[:150]}
    sure = {name: torch.from_numpy(network.predict_proba(each).max(axis=1)) for name, each in pools.items()}
    return torch.from_numpy(network.predict_proba(images[150:450]).max(axis=1)), sure


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("pool", "word"), [("real", None), ("shuffled", "foreign"), ("copies", "copies of training")])
def test_a_pool_of_another_kind_is_seen_before_its_first_step(pool, word):
    validation, pools = digits()
    found = separation(validation, pools[pool])
    signs = origin_signs(found, validation.mean().item(), pools[pool].mean().item(), 0, 1000)
    assert [sign.figure for sign in signs] == ([] if word is None else ["origin"])
    assert word is None or word in signs[0].message
    assert not any(sign.stops for sign in signs)


@pytest.mark.parametrize("found", [0.2, 0.8])
def test_a_teacher_that_is_as_sure_of_both_says_nothing_of_where_the_pool_comes_from(found):
    assert origin_signs(found, 0.11, 0.112, 0, 1000) == []
    assert origin_signs(found, 0.9, 0.6, 0, 1000) != []


def test_copies_of_labelled_images_in_the_pool_are_counted():
    assert [sign.figure for sign in origin_signs(0.5, 0.9, 0.9, 11, 1000)] == ["copies"]
    assert origin_signs(0.5, 0.9, 0.9, 10, 1000) == []


@pytest.mark.parametrize("fixed", [True, False])
def test_only_a_threshold_that_the_user_sets_is_a_remedy(fixed):
    logits, _ = answers(400, 6.0, 0.95)
    logits[:, 0] += 20  # all of one class
    pool = pool_of(logits, torch.ones(400))
    nothing = pool_of(logits, torch.zeros(400))
    wrong = estimated_accuracy(torch.ones(200), torch.arange(200) < 20)
    messages = []
    for each in (pool, nothing):
        messages += Monitor(NAMES, EVEN, fixed_threshold=fixed).judge(Reading(each, wrong, 0.9, 0.02)).messages
    assert any("gather in few classes" in message for message in messages)
    assert any("semi.burn_in" in message for message in messages)
    assert any("semi.threshold" in message for message in messages) == fixed
    assert any("freematch" in message for message in messages) == fixed
