"""A run that asks whether its pool helped: arms beside it, on equal terms, and what is said of them."""

import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import torch
from rich.console import Console

from vision_train.artefacts import SeedValues, Table, read_artefact
from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import Recipe, load_recipe
from vision_train.recipe.semi_section import Semi
from vision_train.run.directory import RunDirectory
from vision_train.run.dry_run import dry_run
from vision_train.run.fit import fit, resume
from vision_train.run.parts import Parts
from vision_train.run.plan import Chain, FinishedPhase, Plan, stored_recipes
from vision_train.run.verdict import best_factor, chosen_factors, plan_run
from vision_train.run.verdict_arms import Length, arms_of
from vision_train.run.verdict_results import doubts_of_origin, rates_at_an_end
from vision_train.semi.health import PoolCounts
from vision_train.semi.health_log import HealthLog
from vision_train.semi.monitor import Judgement, origin_signs
from vision_train.study.plan import make_plan
from vision_train.tasks.classification.task import ClassificationTask

STEPS, EPOCH = 6, 3
SMALL = (
    *("seed=5", "semi.verdict.seeds=3", "data.batch_size=8", "data.workers=0", f"trainer.limit_train_batches={EPOCH}"),
    *(f"trainer.max_steps={STEPS}", "trainer.check_val_every_n_epoch=1", "optim.warmup_steps=0", "semi.ratio=2"),
    *("data.splits={val: 0.02, test: 0.02}", "model.args={patch_size: 4, embed_dim: 24, depth: 1, num_heads: 2}"),
)
RATES = [f"rate-labelled.{place}" for place in range(3)]
ARMS = ["labelled", "larger-batch", "self-pool", "method"]
PARTS = [*RATES, *(f"{arm}.{seed}" for seed in range(3) for arm in ARMS if seed or arm != "method")]
KEYS = {"difference", "low", "high", "pool_difference", "pool_low", "pool_high"}
KEYS |= {"detectable", "control", "arm", "helped", "at_chance"}


def judged(*overrides: str) -> Recipe:
    return load_recipe("semi/digits", [*SMALL, *overrides])


def figures_of(directory: RunDirectory) -> list[dict[str, Any]]:
    timed = ("time", "train/samples_per_second", "train/data_wait")
    return [{key: value for key, value in line.items() if key not in timed} for line in read_metrics(directory.metrics)]


def recipe_of(directory: RunDirectory, part: str) -> Recipe:
    return load_recipe(directory.phase(f"{part}.fit") / "recipe.yaml", runnable=False)


@dataclass(frozen=True)
class Whole:
    directory: RunDirectory
    output: str
    alone: RunDirectory
    """The same run without a verdict."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    console, folder = Console(file=io.StringIO(), width=1000), tmp_path_factory.mktemp("verdict")
    directory = fit(judged(), run_dir=folder / "judged", command=[], console=console)
    quiet = Console(quiet=True)
    alone = fit(judged("semi.verdict=null"), run_dir=folder / "alone", command=[], console=quiet)
    return Whole(directory, console.file.getvalue(), alone)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[None]]:
    """Within ``stopped(STEP, ERROR)`` training ends with an error at that step, counted from 0; or by a signal."""

    @contextmanager
    def stop(step: int, error: type[BaseException], by: signal.Signals | None = None) -> Iterator[None]:
        original, calls = ClassificationTask.training_step, iter(range(10**6))

        def training_step(self: ClassificationTask, batch: Any, batch_idx: int) -> Any:
            if next(calls) == step:
                if by is None:
                    raise error("stopped")
                signal.raise_signal(by)
            return original(self, batch, batch_idx)

        with monkeypatch.context() as patch:
            patch.setattr(ClassificationTask, "training_step", training_step)
            with pytest.raises(error):
                yield

    return stop


class TestAWholeVerdict:
    def test_the_run_stays_what_was_asked_for_and_is_trained_first(self, whole):
        lines = figures_of(whole.directory)
        assert list(dict.fromkeys(line["phase"] for line in lines)) == ["fit", *(f"{part}.fit" for part in PARTS)]
        assert [line for line in lines if line["phase"] == "fit"] == figures_of(whole.alone)
        ours, theirs = (json.loads(each.summary.read_text()) for each in (whole.directory, whole.alone))
        measured = [
            key for key in theirs if key.startswith(("test/", "val/")) or key in ("train/steps", "train/samples")
        ]
        assert {key: ours[key] for key in measured} == {key: theirs[key] for key in measured}
        assert ours["run/steps"] == STEPS * (1 + len(PARTS))
        assert load_recipe(whole.directory.recipe).semi.verdict.seeds == 3, "run again, it judges again"
        assert not [file for part in PARTS for file in whole.directory.phase(f"{part}.fit").rglob("*.ckpt")]
        assert (whole.directory.path / "checkpoints" / "best.ckpt").is_file()

    def test_all_arms_take_equal_steps_and_validate_at_the_same(self, whole):
        validated: dict[str, list[int]] = {}
        for line in figures_of(whole.directory):
            if "val/accuracy" in line:
                validated.setdefault(line["phase"], []).append(line["step"])
        assert len(validated) == 1 + len(PARTS)
        assert {tuple(steps) for steps in validated.values()} == {(EPOCH, STEPS)}
        for part in PARTS:
            figures = json.loads((whole.directory.phase(f"{part}.fit") / "phase.json").read_text())["figures"]
            assert (figures["train/steps"], figures["train/epoch_batches"]) == (STEPS, EPOCH)

    def test_seeds_are_paired_and_rates_are_tried_outside_of_them(self, whole):
        seeds = {part: recipe_of(whole.directory, part).seed for part in PARTS}
        assert {seeds[rate] for rate in RATES} == {8}
        assert all(seed == 5 + int(part.rpartition(".")[2]) for part, seed in seeds.items() if part not in RATES)

    def test_arms_differ_from_the_run_in_what_they_are_for_alone(self, whole):
        own = recipe = load_recipe(whole.directory.recipe)
        labelled, larger, pool, method = (recipe_of(whole.directory, f"{arm}.1") for arm in ARMS)
        factors = [recipe_of(whole.directory, rate).optim.lr / own.optim.lr for rate in RATES]
        assert factors == pytest.approx([0.5, 1, 2])
        assert labelled.optim.lr in [recipe_of(whole.directory, rate).optim.lr for rate in RATES]
        assert larger.optim.lr == labelled.optim.lr
        assert (labelled.semi.method, labelled.data.unlabelled, labelled.data.batch_size) == ("none", None, 8)
        assert (larger.semi.method, larger.data.batch_size) == ("none", 8 + 16)
        assert (pool.semi.method, pool.data.unlabelled, pool.optim.lr) == ("freematch", "labelled", own.optim.lr)
        assert (method.semi.method, method.data.unlabelled, method.optim.lr) == ("freematch", "rest", own.optim.lr)
        for each in (labelled, larger, pool, method):
            assert each.semi.verdict is None
            assert each.optim.ema == recipe.optim.ema
            assert each.augment == recipe.augment
            assert each.data.labels_per_class == recipe.data.labels_per_class

    def test_the_summary_and_the_report_say_what_was_found(self, whole):
        summary = json.loads(whole.directory.summary.read_text())
        assert {key.partition("/")[2] for key in summary if key.startswith("verdict/")} == KEYS
        assert summary["verdict/arm"] == "freematch"
        assert summary["verdict/control"] in ("labelled", "labelled, batch 24")
        assert isinstance(summary["verdict/helped"], bool)
        table, values = (
            read_artefact(whole.directory.artefacts / f"verdict_{name}.json") for name in ("arms", "seeds")
        )
        assert isinstance(table, Table)
        assert isinstance(values, SeedValues)
        assert [row[0] for row in table.rows] == ["labelled", "labelled, batch 24", "self-pool", "freematch"]
        assert list(values.values) == [row[0] for row in table.rows]
        assert values.values["freematch"][0] == summary["test/accuracy"], "the run is the method's arm on its seed"
        control = values.values[summary["verdict/control"]]
        differences = [ours - theirs for ours, theirs in zip(values.values["freematch"], control, strict=True)]
        assert summary["verdict/difference"] == pytest.approx(sum(differences) / 3)
        assert "unlabelled images is" in table.note
        assert summary["verdict/at_chance"], "six steps teach nothing"
        assert table.note.startswith("Nothing was learnt")
        assert table.note in whole.output
        page = (whole.directory.path / "report.html").read_text()
        assert page.count(table.note.partition(":")[0]) == 1, "once, and before all tables"
        assert page.index(table.note.partition(":")[0]) < page.index("Learning rates of the controls")
        for words in ("The pool itself adds", "best control by validation", "Learning rates of the controls"):
            assert words in page

    def test_progress_says_which_arm_and_which_seed(self, whole):
        assert "arm labelled, learning rate x 0.5" in whole.output
        assert "arm self-pool, seed 2 of 3" in whole.output

    def test_stopped_within_arms_and_resumed_it_ends_as_if_nothing_had_happened(self, whole, tmp_path, quiet, stopped):
        """By an error, then by Ctrl-C, then by the signal with which a cluster ends a job; each within another arm."""
        with stopped(9 * STEPS + 4, RuntimeError):
            fit(judged(), run_dir=tmp_path / "cut", command=[], console=quiet)
        for signal_, steps in ((signal.SIGINT, STEPS + 2), (signal.SIGTERM, 2 * STEPS + 1)):
            with stopped(steps, KeyboardInterrupt, signal_):
                resume(tmp_path / "cut", console=quiet)
            assert not (tmp_path / "cut" / "summary.json").exists()
        cut = resume(tmp_path / "cut", console=quiet)
        assert figures_of(cut) == figures_of(whole.directory)
        ours, theirs = (json.loads(each.summary.read_text()) for each in (cut, whole.directory))
        assert {key: ours[key] for key in ours if "verdict/" in key} == {
            key: theirs[key] for key in theirs if "verdict/" in key
        }


def test_the_rate_is_chosen_on_validation_and_of_equal_ones_stays_the_recipe_s():
    for tried, best in (((0.9, 0.8, 0.7), 0.5), ((0.9, 0.9, 0.9), 1.0), ((0.5, 0.6, float("nan")), 1.0)):
        values = dict(zip((0.5, 1.0, 2.0), tried, strict=True))
        assert best_factor(values, "max") == best
        phases = [
            FinishedPhase(f"rate-labelled.{place}.fit", Path(), {"val/accuracy": value, "test/accuracy": 1 - value})
            for place, value in enumerate(tried)
        ]
        assert chosen_factors(judged(), phases) == {"labelled": best}
    assert best_factor({0.5: float("nan")}, "max") == 1.0
    assert best_factor({0.5: 0.1, 2.0: 0.2}, "min") == 0.5


def test_a_best_rate_at_an_end_of_those_tried_is_told_of_the_arms_that_decide():
    recipe = judged("model.checkpoint=weights.pth", "semi.verdict.frozen=true", "semi.verdict.lora={rank: 4}")
    chosen = {"labelled": 2.0, "frozen": 1.0, "lora": 3.0}
    told = rates_at_an_end(recipe, chosen, list(chosen))
    assert told == (
        "The best rate of labelled is the highest that was tried; a higher one may do better. "
        "The best rate of frozen backbone is the lowest that was tried; a lower one may do better."
    )
    assert rates_at_an_end(recipe, chosen, ("lora", "larger-batch")) == ""


def test_the_curve_by_which_labels_are_counted_takes_nested_parts_of_them():
    arms = {arm.key: arm for arm in arms_of(judged("semi.verdict.worth=true", "data.labels_per_class=8"))}
    assert arms["half"].recipe.data.labels_per_class == 4
    assert arms["quarter"].recipe.data.labels_per_class == 2
    assert not arms["half"].is_control
    three = [arm.key for arm in arms_of(judged("semi.verdict.worth=true", "data.labels_per_class=2"))]
    assert "half" in three
    assert "quarter" not in three


@pytest.mark.parametrize("name", ["semi/shapes", "studies/actress/referring_ema_teacher"])
def test_the_curve_of_boxes_takes_shares_of_the_images(name):
    recipe = load_recipe(name, ["semi.verdict={seeds: 3, worth: true}"])
    arms = {arm.key: arm.recipe.data.share for arm in arms_of(recipe)}
    assert (arms["labelled"], arms["half"], arms["quarter"]) == pytest.approx((0.1, 0.05, 0.025))


@pytest.mark.parametrize("method", ["active_rounds", "self_training"])
def test_arms_in_phases_have_phases_as_long_as_those_of_the_run(method):
    plan = plan_run(judged(f"semi.method={method}", "semi.burn_in=null", "trainer.max_steps=72"), {})
    assert isinstance(plan, Parts)

    def lengths(of: Plan) -> dict[str, int]:
        return {phase.name: phase.recipe.trainer["max_steps"] for phase in cast(Chain, of).phases}

    assert lengths(plan.own)["burn-in"] == 18
    arms = {part.name: lengths(part.make_plan()) for part in plan.foreseen}
    for arm in ("same-phases.0", "self-pool.0", "method.0"):
        assert arms[arm] == lengths(plan.own)


def test_a_pool_among_the_labelled_images_is_refused_before_arms_take_it_for_a_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_image_folder(Path("photos"), classes=3, per_class=12, size=(20, 20))
    make_image_folder(Path("made"), classes=1, per_class=9, size=(20, 20), seed=9)
    Path("made/class_0").rename("photos/pool")
    keys = ("data.source=images", "data.root=photos", "data.unlabelled=photos/pool", "data.labels_per_class=2")
    keys += ("data.splits={val: 0.2, test: 0.2}",)
    with pytest.raises(UserError, match=r"arm labelled: pool/.*is not one of the run's classes"):
        fit(judged(*keys), run_dir=Path("run"), command=[], console=Console(quiet=True))
    assert not Path("run").exists()


def test_what_the_run_pretrains_on_is_shared_by_all_arms(tmp_path):
    first = tmp_path / "first.yaml"
    first.write_text("extends: semi/digits\nsemi: {method: none}\ndata: {unlabelled: null}\n")
    plan = plan_run(judged(f"run.pretrain={first}"), {})
    assert isinstance(plan, Parts)
    assert plan.shared == ("pretrain",)
    for part in plan.foreseen:
        phase, *more = plan.phases_foreseen(part)
        assert not more
        assert phase.start == "pretrain"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["semi.verdict.seeds=2"], [r"semi\.verdict\.seeds", "3 or more"]),
        (["semi.method=none"], [r"semi\.verdict", r"semi\.method=none"]),
    ],
)
def test_a_verdict_that_could_not_be_reached_is_a_mistake_in_the_recipe(overrides, named):
    with pytest.raises(UserError) as error:
        judged(*overrides)
    for words in named:
        assert error.match(words)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["semi.verdict.frozen=true"], [r"semi\.verdict\.frozen", r"model\.checkpoint"]),
        (["semi.verdict.lora={rank: 4}"], [r"semi\.verdict\.lora", r"model\.checkpoint"]),
        (["semi.verdict.worth=true", "data.labels_per_class=1"], [r"semi\.verdict\.worth", r"labels_per_class"]),
        (["run.select.metric=train/loss"], [r"run\.select\.metric", r"val/"]),
        (["semi.method=self_training", "semi.voters=[runs/a]"], [r"semi\.voters=.*runs/a", "pool", "number"]),
        (["data.unlabelled=labelled"], [r"data\.unlabelled=labelled", r"semi\.verdict=null"]),
    ],
)
def test_a_verdict_that_could_not_be_reached_is_refused_before_the_first_step(overrides, named):
    with pytest.raises(UserError) as error:
        plan_run(judged(*overrides), {})
    for words in named:
        assert error.match(words)


def test_runs_may_vote_in_a_verdict_where_all_seeds_have_the_same_labels():
    assert plan_run(judged("semi.method=self_training", "semi.voters=[runs/a]", "data.labels_per_class=null"), {})


def test_compare_refuses_a_recipe_that_judges_itself(tmp_path):
    recipe = tmp_path / "judged.yaml"
    recipe.write_text("extends: semi/digits\nsemi: {verdict: {seeds: 5}}\n")
    with pytest.raises(UserError, match=r"judged: semi\.verdict.*semi\.verdict=null"):
        make_plan([str(recipe), "quickstart"], 3, None)


def test_a_dry_run_says_how_many_runs_there_are_and_how_long_they_take():
    text = dry_run(judged())
    assert f"arm labelled: 6 runs of {STEPS} steps, about" in text
    assert f"arm freematch: 2 runs of {STEPS} steps, about" in text
    assert "beside the run itself: 14 runs, about" in text


def test_only_the_run_s_own_phases_are_read_again_by_those_who_ask_for_them(whole):
    assert stored_recipes(whole.directory).keys() == {"fit"}


@pytest.fixture
def controls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Controls that show in the recipe which of them was asked for."""
    first = tmp_path / "first.yaml"
    first.write_text("extends: semi/digits\nsemi: {method: none}\ndata: {unlabelled: null}\n")
    made = ModuleType("vision_train.run.controls")
    made.frozen_recipe = lambda recipe: replace(recipe, description="frozen")  # type: ignore[attr-defined]
    made.lora_recipe = lambda recipe, rank: replace(recipe, description=f"rank {rank}")  # type: ignore[attr-defined]
    made.pretrain_on_pool = lambda recipe: replace(  # type: ignore[attr-defined]
        recipe, semi=Semi(), run=replace(recipe.run, pretrain=str(first))
    )
    monkeypatch.setitem(sys.modules, "vision_train.run.controls", made)


@pytest.mark.parametrize("unit", ["", "trainer.max_steps=null trainer.max_epochs=2"])
def test_arms_as_long_as_several_voters_and_a_student_drop_their_rate_after_the_same_share_of_the_steps(unit):
    """Two epochs of three steps are asked for; three voters and a student take twice as many."""
    method = ("semi.method=self_training", "semi.voters=3", "semi.burn_in=0.5", "optim.schedule=step")
    recipe = judged(*method, "optim.milestones=[1.5]", *unit.split())
    arms = {arm.key: arm.recipe for arm in arms_of(recipe, Length(2 * STEPS, EPOCH))}
    found = {key: arm.optim.milestones for key, arm in arms.items()}
    own = {"same-phases": [1.5], "self-pool": [1.5], "method": [1.5]}  # which are divided as the run is
    assert found == {"labelled": [3.0], "larger-batch": [3.0], **own}
    assert arms["labelled"].trainer["max_steps"] == 2 * STEPS
    (plain,) = {tuple(arm.recipe.optim.milestones) for arm in arms_of(recipe, Length(STEPS, EPOCH))}
    assert plain == (1.5,)


@pytest.mark.usefixtures("controls")
def test_controls_on_a_checkpoint_are_made_of_the_labelled_arm_at_rates_of_their_own():
    recipe = judged(
        "semi.verdict.frozen=true", "semi.verdict.lora={rank: 4}", "semi.verdict.pretrain=true", "run.pretrain=null"
    )
    arms = {arm.key: arm for arm in arms_of(recipe, Length(60, 5), {"labelled": 0.5, "lora": 10.0})}
    assert list(arms) == ["labelled", "larger-batch", "frozen", "lora", "pretrained", "self-pool", "method"]
    for key, description in (("frozen", "frozen"), ("lora", "rank 4")):
        arm = arms[key]
        assert (arm.recipe.description, arm.is_control, arm.recipe.semi.method) == (description, True, "none")
        assert len(arm.factors) == 3
    rates = {key: arms[key].recipe.optim.lr / recipe.optim.lr for key in ("labelled", "frozen", "lora", "pretrained")}
    assert rates == {"labelled": 0.5, "frozen": 1.0, "lora": 10.0, "pretrained": 0.5}
    pretrained = arms["pretrained"]
    assert pretrained.is_control
    assert pretrained.recipe.data.unlabelled == "rest", "its first phase takes the pool's images"
    for arm in arms.values():
        assert arm.recipe.trainer["max_steps"] == 60
        assert arm.recipe.data.epoch_batches == 5
        assert "limit_train_batches" not in arm.recipe.trainer


@pytest.mark.usefixtures("controls")
def test_a_control_that_pretrains_does_so_in_its_own_part():
    plan = plan_run(judged("semi.verdict.pretrain=true"), {})
    assert isinstance(plan, Parts)
    assert plan.shared == ()
    part = next(each for each in plan.foreseen if each.name == "pretrained.0")
    first, last = plan.phases_foreseen(part)
    assert (first.name, first.start, first.is_result) == ("pretrained.0.pretrain", None, False)
    assert (last.name, last.start, last.is_result) == ("pretrained.0.fit", "pretrained.0.pretrain", True)


def test_a_pool_that_looks_foreign_is_said_in_the_verdict(tmp_path: Path) -> None:
    assert doubts_of_origin(tmp_path) == ""
    log, pool = HealthLog(["cat", "dog"]), PoolCounts(2)
    pool.add(torch.tensor([[0.9, 0.1]]), torch.ones(1))
    log.note_signs(20, origin_signs(0.9, 0.8, 0.5, copies=5, size=100))
    log.note(20, {}, pool.figures(), Judgement((), stop=False, changed=False))
    RunDirectory(tmp_path).write_artefacts(log.artefacts([0.5, 0.5]))
    said = doubts_of_origin(tmp_path)
    assert said.startswith("The pool looks foreign")
    assert "copies" not in said
