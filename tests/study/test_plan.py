from pathlib import Path

import pytest

from vision_train.errors import UserError
from vision_train.study.plan import differing_keys, flatten, folder_names, make_plan, split_values


def test_recipes_and_overrides_are_told_apart(recipes):
    plan = make_plan(["plain.yaml", "optim.lr=0.5", "mixed"], 4, None)
    assert [arm.name for arm in plan.arms] == ["plain", "mixed"]
    assert {arm.recipes[0].optim.lr for arm in plan.arms} == {0.5}
    assert plan.metric == "test/accuracy"
    assert plan.cells == [""]


def test_a_grid_resolves_every_recipe_at_every_value(recipes):
    plan = make_plan(["plain.yaml", "mixed.yaml"], 2, "data.labels_per_class=5,10")
    assert plan.cells == ["data.labels_per_class=5", "data.labels_per_class=10"]
    assert plan.grid.folders == ["labels_per_class=5", "labels_per_class=10"]
    assert [recipe.data.labels_per_class for recipe in plan.arms[1].recipes] == [5, 10]


def test_recipes_of_one_name_are_called_what_was_typed(recipes):
    Path("other").mkdir()
    Path("other/plain.yaml").write_text("extends: ../plain.yaml\noptim: {lr: 0.1}\n")
    assert [arm.name for arm in make_plan(["plain.yaml", "other/plain.yaml"], 2, None).arms] == ["plain", "other/plain"]


def test_a_file_of_the_name_of_a_shipped_recipe_is_an_arm_of_its_own(recipes):
    Path("quickstart.yaml").write_text(Path("plain.yaml").read_text())
    arms = make_plan(["quickstart", "quickstart.yaml", "mixed.yaml"], 2, None).arms
    assert [arm.name for arm in arms] == ["quickstart", "quickstart.yaml", "mixed.yaml"]
    assert arms[0].recipes != arms[1].recipes


def test_a_recipe_whose_path_holds_an_equals_sign_is_a_recipe(recipes):
    Path("lr=1").mkdir()
    Path("lr=1/mine.yaml").write_text("extends: ../plain.yaml\noptim: {lr: 1.0}\n")
    plan = make_plan(["plain.yaml", "lr=1/mine", "optim.weight_decay=0.5"], 2, None)
    assert [arm.name for arm in plan.arms] == ["plain", "mine"]
    assert {arm.recipes[0].optim.weight_decay for arm in plan.arms} == {0.5}
    with pytest.raises(UserError, match="runs/lr=1/0: no recipe or file of this name"):
        make_plan(["plain.yaml", "runs/lr=1/0"], 2, None)


@pytest.mark.parametrize(
    ("arguments", "seeds", "grid", "says"),
    [
        (["plain.yaml"], 2, None, "two recipes or more, got plain.yaml"),
        (["optim.lr=1"], 2, None, "got none"),
        (["plain.yaml", "nowhere"], 2, None, "nowhere: no recipe or file of this name"),
        (["plain.yaml", "plain.yaml"], 2, None, "plain.yaml and plain.yaml: are the same recipe once"),
        (["plain.yaml", "mixed.yaml", "augment.mixing.cutmix=0.5"], 2, None, "are the same recipe once resolved"),
        (["plain.yaml", "mixed.yaml"], 0, None, "--seeds 0: a study needs at least 2"),
        (["plain.yaml", "mixed.yaml", "seed=3"], 2, None, "say how many with --seeds"),
        (["plain.yaml", "mixed.yaml"], 2, "seed=1,2", "say how many with --seeds"),
        (["plain.yaml", "mixed.yaml"], 2, "data.labels_per_clas=5,10", "did you mean data.labels_per_class"),
        (["plain.yaml", "mixed.yaml"], 2, "data.labels_per_class=5,ten", r"data.labels_per_class: is `ten`; expected"),
        (["plain.yaml", "mixed.yaml"], 2, "data.labels_per_class", "write KEY=a,b,c"),
        (["plain.yaml", "mixed.yaml"], 2, "data.labels_per_class=5,", "write KEY=a,b,c"),
        (["plain.yaml", "mixed.yaml"], 2, "data.labels_per_class=5", "is a single value"),
        (["plain.yaml", "mixed.yaml"], 2, "data.labels_per_class=5,5", "stands there twice"),
        (["plain.yaml", "mixed.yaml"], 2, "data.labels_per_class=5,05", "5 and 05 make the same recipes"),
        (["plain.yaml", "mixed.yaml"], 2, "name=a,b", "a and b make the same recipes"),
        (["plain.yaml", "mixed.yaml", "optim.lr=1"], 2, "optim.lr=1,2", "leave out one of the two"),
        (["plain.yaml", "loss.yaml"], 2, None, r"val/accuracy \(max\) in plain and val/loss \(min\) in loss"),
        (["loss.yaml", "mixed.yaml", "run.select.metric=train/loss"], 2, None, "run.select"),
    ],
)
def test_bad_input_is_one_message(recipes, arguments, seeds, grid, says):
    Path("loss.yaml").write_text("extends: plain.yaml\nrun: {select: {metric: val/loss, mode: min}}\n")
    with pytest.raises(UserError, match=says):
        make_plan(arguments, seeds, grid)


def test_folds_are_of_every_arm_and_take_a_single_seed_unless_told(recipes):
    plan = make_plan(["plain.yaml", "mixed.yaml"], None, None, 4)
    assert (plan.seeds, len(plan.draws), plan.draws[1]) == (1, 4, (0, 2))
    assert {(arm.recipes[0].data.fold.number, arm.recipes[0].data.fold.of) for arm in plan.arms} == {(1, 4)}
    assert make_plan(["plain.yaml", "mixed.yaml"], None, None).seeds == 10
    with pytest.raises(UserError, match="--folds 1: must be at least 2"):
        make_plan(["plain.yaml", "mixed.yaml"], 2, None, 1)
    with pytest.raises(UserError, match=r"data\.fold: .*--folds"):
        make_plan(["plain.yaml", "mixed.yaml", "data.fold={number: 1, of: 3}"], 2, None, 3)


def test_values_of_a_grid_may_hold_commas():
    assert split_values("1, [2,3],'a,b',{c: [4,5]}") == ["1", "[2,3]", "'a,b'", "{c: [4,5]}"]


def test_folder_names_are_plain_and_never_meet():
    assert folder_names(["mixpro/digits", "mixpro-digits", "a b", "../..", "é=1.5"]) == [
        "mixpro-digits",
        "mixpro-digits~2",
        "a-b",
        "arm",
        "é=1.5",
    ]


def test_mappings_become_dotted_keys_and_lists_stay_values():
    assert flatten({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [1, 2], "e": {}}


def test_only_what_differs_is_listed_and_what_is_absent_is_none():
    recipes = [{"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3, "d": 4}}, {"a": 1, "b": {"c": 2}}]
    assert differing_keys(recipes) == {"b.c": [2, 3, 2], "b.d": [None, 4, None]}


def test_a_section_that_is_null_in_one_recipe_differs_by_what_it_holds():
    assert differing_keys([{"ema": None}, {"ema": {"decay": 0.9}}]) == {"ema.decay": [None, 0.9]}


def test_ignored_keys_are_left_out():
    assert differing_keys([{"name": "a", "x": 1}, {"name": "b", "x": 1}], ["name"]) == {}
