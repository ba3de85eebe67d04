"""How the training of a recipe is divided into phases that label the pool."""

from collections.abc import Sequence

import pytest
import torch

from vision_train.data.module import POOL_SPLIT
from vision_train.errors import UserError
from vision_train.optim import build_schedule
from vision_train.recipe import load_recipe
from vision_train.run.checked import drawn
from vision_train.run.phase import scan
from vision_train.run.plan import LAST, Labelling, Phase, Reinitialisation, plan_of
from vision_train.run.steps import limits_of

ROUNDS = ("semi.method=active_rounds", "data.unlabelled=rest", "data.labels_per_class=5")
ONCE = ("semi.method=self_training", *ROUNDS[1:])


def phases(*overrides: str) -> Sequence[Phase]:
    return plan_of(load_recipe("quickstart", overrides)).phases


def lengths(of: Sequence[Phase]) -> dict[str, int]:
    return {each.name: each.recipe.trainer.get("max_steps") or each.recipe.trainer["max_epochs"] for each in of}


def test_rounds_follow_a_burn_in_and_take_the_epochs_of_the_recipe():
    found = phases(*ROUNDS)
    assert lengths(found) == {"burn-in": 10, "round-1": 7, "round-2": 7, "round-3": 8, LAST: 8}
    assert [each.start for each in found] == [None, "burn-in", "round-1", "round-2", "round-3"]
    assert [each.labels for each in found] == [
        None,
        *(Labelling((name,), round=number) for number, name in enumerate(lengths(found), 1) if name != LAST),
    ]


def test_what_a_round_took_stays_where_rounds_are_cumulative():
    found = phases(*ROUNDS, "semi.rounds.policy=cumulative")
    assert [each.labels and each.labels.earlier for each in found] == [None, None, "round-1", "round-2", "round-3"]
    renamed = found[-1].renamed("arm/{}".format)
    assert renamed.labels is not None
    assert renamed.labels.earlier == "arm/round-3"


def test_steps_are_divided_where_the_recipe_counts_them():
    found = phases(*ROUNDS, "trainer.max_epochs=null", "trainer.max_steps=722")
    assert sum(lengths(found).values()) == 722
    assert lengths(found)["burn-in"] == 181


def test_warm_up_and_milestones_take_their_share_of_each_phase():
    found = phases(*ROUNDS, "optim.schedule=step", "optim.milestones=[20]", "semi.burn_in=0.5", "semi.rounds.count=2")
    assert [each.recipe.optim.warmup_epochs for each in found] == [2.5, 1.25, 1.25]
    assert [each.recipe.optim.milestones for each in found] == [[10], [5], [5]]


@pytest.mark.parametrize("length", ["trainer.max_epochs=40", "trainer.max_steps=800 trainer.max_epochs=null"])
def test_milestones_fall_after_their_share_of_the_steps_of_each_phase_and_voter(length):
    """Three voters of a quarter each, then three quarters for the student; epochs have 20 steps in all of them."""
    step = ("optim.schedule=step", "optim.milestones=[20, 30]", "semi.voters=3", *length.split())
    drops = {}
    for phase in phases(*ONCE, *step):
        optim, (epochs, steps) = phase.recipe.optim, limits_of(phase.recipe)
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=optim.lr)
        total = steps or 20 * (epochs or 0)
        factor = build_schedule(optimizer, optim, total_steps=total, steps_per_epoch=20).lr_lambdas[0]
        rates = [factor(step) for step in range(total)]
        drops[phase.name] = [at for at in range(1, total) if rates[at] < rates[at - 1]]
    assert drops == {"burn-in": [100, 150], "voter-2": [100, 150], "voter-3": [100, 150], LAST: [300, 450]}


def test_a_student_starts_from_the_initial_weights_after_a_vote_of_voters_on_the_same_samples():
    found = phases(*ONCE, "semi.voters=3")
    assert lengths(found) == {"burn-in": 10, "voter-2": 10, "voter-3": 10, LAST: 30}
    assert [each.start for each in found] == [None] * 4
    assert found[-1].labels == Labelling(("burn-in", "voter-2", "voter-3"))
    assert found[0].seed is None
    assert len({found[1].seed, found[2].seed, 0}) == 3
    assert {each.recipe.seed for each in found} == {0}, "which draws the labelled samples"


def test_no_two_rounds_draw_alike_and_all_draw_the_same_samples():
    found = phases(*ROUNDS)
    assert found[0].seed is None, "the seed that was asked for"
    assert len({each.seed for each in found}) == len(found)
    assert {each.recipe.seed for each in found} == {0}, "which draws the labelled samples"
    control = phases(*ROUNDS, "semi.weight=0")
    assert [each.seed for each in control] == [each.seed for each in found], "paired with the control"
    assert {each.seed for each in phases(*ROUNDS, "seed=1")}.isdisjoint({each.seed for each in found[1:]})


@pytest.mark.parametrize("name", ["semi/digits_rounds", "studies/semi/shapes_rounds", "actress/referring"])
def test_a_phase_with_a_seed_of_its_own_augments_the_same_samples_otherwise(name):
    recipe = load_recipe(name, smoke=True)
    first, second = (drawn(Phase(LAST, recipe, seed=seed), scan(recipe)).data for seed in (None, 7))
    for split in ("train", POOL_SPLIT):
        assert [each.id for each in first.samples(split)] == [each.id for each in second.samples(split)]
    sample = first.samples("train")[0]
    ours, theirs = (
        [each.make_dataset([sample], stream="train", alone=True).read(sample, (0, turn))["image"] for turn in range(8)]
        for each in (first, second)
    )
    assert not all(map(torch.equal, ours, theirs))


def test_runs_that_vote_take_the_place_of_a_burn_in():
    (only,) = phases(*ONCE, "semi.voters=[runs/a, runs/b]")
    assert only.labels is not None
    assert [run.rsplit("/", 1)[1] for run in only.labels.runs] == ["a", "b"]
    assert only.labels.runs[0].startswith("/"), "wherever the run is resumed"
    assert lengths([only]) == {LAST: 40}


def test_without_a_weight_the_phases_are_the_same_and_nothing_is_labelled():
    rules = "semi.rounds={count: 2, reinitialise: {head.*: fresh}}"
    plain, control = (phases(*ROUNDS, rules, "semi.burn_in=0.3", f"semi.weight={weight}") for weight in (1, 0))
    assert lengths(plain) == lengths(control)
    assert [each.reinitialise for each in plain] == [each.reinitialise for each in control]
    assert all(each.labels is None for each in control)


def test_a_start_without_a_burn_in_is_asked_itself():
    first, *_, last = phases(*ROUNDS, "semi.burn_in=0")
    assert (first.name, first.labels, first.start) == ("round-1", Labelling((), round=1), None)
    assert last.labels == Labelling(("round-3",), round=4)


@pytest.mark.parametrize("method", [ROUNDS, ONCE])
def test_what_was_pre_trained_without_these_labels_is_not_asked_about_the_pool(method):
    before = ("run.pretrain=droppos/digits", "semi.burn_in=0")
    with pytest.raises(UserError, match=r"semi\.burn_in=0: run\.pretrain=droppos/digits.*null"):
        phases(*method, *before)
    assert phases(*method, *before, "semi.weight=0")[-1].labels is None, "nobody is asked"
    assert phases(*method, before[0])[1].name == "burn-in"


def test_reinitialisation_knows_where_values_come_from():
    rules = "semi.rounds={count: 2, reinitialise: {head.*: burn_in}}"
    found = phases(*ROUNDS, rules, "semi.burn_in=0.3")
    assert [each.reinitialise for each in found] == [None, *(Reinitialisation(n, "burn-in", None) for n in (1, 2))]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("trainer.max_epochs=4",), ("trainer.max_epochs=4", "semi.rounds.count")),
        (("trainer.max_steps=100",), ("trainer.max_epochs", "trainer.max_steps", "null")),
        (("semi.rounds.reinitialise={head.*: fresh}",), ("semi.rounds.reinitialise", "shorter", "semi.rounds.count")),
    ],
)
def test_what_cannot_be_divided_is_refused_with_a_remedy(overrides, words):
    with pytest.raises(UserError) as refused:
        phases(*ROUNDS, *overrides)
    assert all(word in str(refused.value) for word in words)


def test_values_that_are_only_shrunk_may_be_trained_in_rounds_shorter_than_burn_in():
    found = phases(*ROUNDS, "semi.rounds.reinitialise={head.*: shrink_perturb}", "semi.burn_in=0.5")
    assert lengths(found)["burn-in"] > lengths(found)["round-1"]


def test_voters_that_would_be_one_are_refused():
    with pytest.raises(UserError, match=r"semi\.burn_in"):
        phases(*ONCE, "semi.voters=2", "semi.burn_in=0")


def test_only_phases_without_labels_and_the_last_are_known_before_the_first_step():
    known = plan_of(load_recipe("quickstart", ROUNDS)).known()
    assert [each.name for each in known] == ["burn-in", LAST]
