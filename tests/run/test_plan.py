"""Which phases a run trains, and what is known of them before the first step."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vision_train.errors import UserError
from vision_train.recipe import Recipe, load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.fit import check_phases
from vision_train.run.plan import FinishedPhase, Phase, plan_of, read_finished


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str, base: str = "quickstart") -> str:
    Path(f"{name}.yaml").write_text(f"extends: {base}\n{text}\n")
    return f"{name}.yaml"


def chain(recipe: str, *overrides: str) -> list[tuple[str, str, str | None, bool]]:
    plan = plan_of(load_recipe(recipe, overrides))
    return [(phase.name, phase.recipe.name, phase.start, phase.is_result) for phase in plan.phases]


def test_a_recipe_alone_is_one_phase(place):
    assert chain("quickstart") == [("fit", "quickstart", None, True)]


def test_each_phase_starts_from_the_one_before_and_only_the_last_is_a_result(place):
    first = write("first", "seed: 1")
    assert chain("quickstart", f"run.pretrain={first}") == [
        ("pretrain", "first", None, False),
        ("fit", "quickstart", "pretrain", True),
    ]
    second = write("second", f"run: {{pretrain: {first}}}")
    assert chain("quickstart", f"run.pretrain={second}") == [
        ("pretrain-1", "first", None, False),
        ("pretrain-2", "second", "pretrain-1", False),
        ("fit", "quickstart", "pretrain-2", True),
    ]


def test_phases_follow_one_another_until_all_are_finished(place):
    plan = plan_of(load_recipe("quickstart", [f"run.pretrain={write('first', '')}"]))
    assert plan.known() == list(plan.phases)
    asked = [plan.next([FinishedPhase(str(number), place) for number in range(count)]) for count in range(3)]
    assert asked == [*plan.phases, None]


def test_seed_and_hardware_are_those_of_the_recipe_that_was_asked_for(place):
    first = write("first", "seed: 1\ntrainer: {max_epochs: 7, precision: bf16-mixed, devices: 4}")
    asked = load_recipe("quickstart", [f"run.pretrain={first}", "seed=5", "trainer.accelerator=cpu"])
    earlier, _ = plan_of(asked).phases
    assert (earlier.recipe.seed, earlier.recipe.trainer["max_epochs"]) == (5, 7)
    assert earlier.recipe.trainer["accelerator"] == "cpu"
    assert not earlier.recipe.trainer.keys() & {"precision", "devices"}


def test_a_recipe_that_names_no_samples_gets_those_that_were_asked_for(place):
    first = write("first", "data: {source: images, batch_size: 3}", base="droppos/digits")
    overrides = [f"run.pretrain={first}", "data.source=images", "data.root=photos", "data.splits={val: 0.3}"]
    earlier, last = plan_of(load_recipe("quickstart", overrides)).phases
    assert earlier.recipe.data.root == last.recipe.data.root == str(place / "photos")
    assert earlier.recipe.data.splits == {"val": 0.3}
    assert (earlier.recipe.data.batch_size, earlier.recipe.task) == (3, "pretraining")


def test_a_recipe_that_names_samples_keeps_them(place):
    first = write("first", "data: {source: images, root: pool}", base="droppos/digits")
    overrides = [f"run.pretrain={first}", "data.source=images", "data.root=photos", "data.labels=table.csv"]
    earlier, _ = plan_of(load_recipe("quickstart", overrides)).phases
    assert earlier.recipe.data.root == str(place / "pool")
    assert earlier.recipe.data.labels is None


def test_recipes_that_pretrain_one_another_are_refused(place):
    write("a", "run: {pretrain: b.yaml}")
    write("b", "run: {pretrain: a.yaml}")
    with pytest.raises(UserError, match=r"run\.pretrain=.*in a circle"):
        chain("a.yaml")


def test_recipes_of_one_name_are_no_circle(place):
    Path("sub").mkdir()
    write("sub/mine", "", base="droppos/digits")
    assert [name for _, name, _, _ in chain(write("mine", "run: {pretrain: sub/mine.yaml}"))] == ["mine", "mine"]


def test_a_phase_has_one_start(place):
    with pytest.raises(UserError, match=r"model\.checkpoint=.*run\.pretrain=.*set the other to null"):
        chain("quickstart", f"run.pretrain={write('first', '')}", "model.checkpoint=weights.pth")


@pytest.mark.parametrize("count", [1, 2, 11])
def test_a_run_that_has_begun_keeps_its_recipes(place, count):
    asked = load_recipe("quickstart", ["run.pretrain=gone.yaml"], runnable=False)
    names = ["pretrain"] if count == 1 else [f"pretrain-{number}" for number in range(1, count + 1)]
    stored = {name: replace(load_recipe("quickstart"), seed=number) for number, name in enumerate([*names, "fit"])}
    plan = plan_of(asked, dict(sorted(stored.items())))
    assert [phase.name for phase in plan.phases] == [*names, "fit"]
    assert [phase.recipe.seed for phase in plan.phases[:-1]] == list(range(count))
    assert plan.phases[-1].recipe is asked


def test_what_a_later_phase_would_refuse_is_refused_before_anything_is_written(place):
    first = write("first", "trainer: {max_epochs: 1}")
    for override, key in (("model.freeze=[block.*]", "model.freeze"), ("optim.lr_factors={block.*: 2}", "optim.lr_f")):
        with pytest.raises(UserError, match=key):
            check_phases(plan_of(load_recipe("quickstart", [f"run.pretrain={first}", override])))


@dataclass(frozen=True)
class TwoStarts:
    """Two phases, of which the second starts from none of this run."""

    recipes: tuple[Recipe, Recipe]

    def known(self) -> list[Phase]:
        return [Phase("one", self.recipes[0], is_result=False), Phase("two", self.recipes[1])]

    def next(self, finished: Sequence[FinishedPhase]) -> Phase | None:
        return [*self.known(), None][len(finished)]


def test_a_phase_that_starts_afresh_may_have_another_network(place):
    recipes = load_recipe("quickstart"), load_recipe("quickstart", ["model.args.embed_dim=24"])
    checked = check_phases(TwoStarts(recipes))
    assert list(checked.ready) == ["one"]
    widths = [task.network.embed_dim for task in checked.tasks.values()]
    assert widths == [96, 24]


def test_a_figure_that_is_not_finite_is_the_same_number_in_a_resumed_run(place):
    directory = RunDirectory(place)
    assert read_finished(directory, "fit") is None
    directory.phase("fit").mkdir(parents=True)
    state = {"name": "fit", "recipe": "r", "figures": {"val/auroc": None, "train/steps": 3}, "skipped": ["a: bad"]}
    (directory.phase("fit") / "phase.json").write_text(json.dumps(state))
    found = read_finished(directory, "fit")
    assert found is not None
    assert found.figures["val/auroc"] != found.figures["val/auroc"]
    assert (found.figures["train/steps"], found.skipped) == (3, ["a: bad"])
    assert found.checkpoint == directory.phase("fit") / "checkpoints" / "best.ckpt"
