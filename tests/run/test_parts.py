"""A plan whose parts are plans: the run itself first, then parts, chosen by what earlier ones found."""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vision_train.artefacts import Items, read_artefact
from vision_train.errors import UserError
from vision_train.metrics_log import part_of, read_metrics
from vision_train.recipe import Recipe, load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.fit import fit, resume
from vision_train.run.learnt import _phase_folders
from vision_train.run.parts import Part, Parts
from vision_train.run.plan import Chain, FinishedPhase, Phase, Plan, plan_of, stored_recipes
from vision_train.tasks.classification.task import ClassificationTask

PHASES = ["fit", "try.0.fit", "try.1.fit", "arm.0.first", "arm.0.fit"]
SMALL = ("trainer.max_epochs=2", "trainer.limit_train_batches=2", "data.batch_size=8", "data.workers=0")
STEPS = [4] * len(PHASES)


def two_tries_and_an_arm(recipe: Recipe, stored: Mapping[str, Recipe]) -> Parts:
    """After the run two parts on other seeds, and one of two phases on the seed of the better one."""

    def part(name: str, *seeds: int) -> Part:
        names = ["first", "fit"][-len(seeds) :]
        phases = [Phase(each, replace(recipe, seed=seed)) for each, seed in zip(names, seeds, strict=True)]
        if len(phases) > 1:
            phases = [replace(phases[0], is_result=False), replace(phases[1], start="first")]
        return Part(name, f"part {name}", lambda: Chain(tuple(phases)))

    def following(finished: Sequence[FinishedPhase]) -> Iterator[Part]:
        yield part("try.0", 11)
        yield part("try.1", 12)
        tries = {done.name: done.figures["val/accuracy"] for done in finished if done.name.startswith("try")}
        best = max(tries, key=lambda name: tries[name])
        yield part("arm.0", 13, {"try.0.fit": 11, "try.1.fit": 12}[best])

    return Parts(plan_of(recipe, stored), following, foreseen=(part("arm.0", 13, 11),))


def run(tiny: str, *, run_dir: str, console: Console | None = None) -> RunDirectory:
    recipe = load_recipe(tiny, SMALL)
    quiet = console or Console(quiet=True)
    return fit(recipe, run_dir=Path(run_dir), command=[], console=quiet, make_plan=two_tries_and_an_arm)


def figures_of(directory: RunDirectory) -> list[dict[str, Any]]:
    timed = ("time", "train/samples_per_second", "train/data_wait")
    return [{key: value for key, value in line.items() if key not in timed} for line in read_metrics(directory.metrics)]


def seeds_of(directory: RunDirectory) -> dict[str, int]:
    return {name: load_recipe(directory.phase(name) / "recipe.yaml", runnable=False).seed for name in PHASES}


def test_parts_follow_the_run_which_stays_what_was_asked_for(tiny):
    console = Console(file=io.StringIO(), width=300)
    alone = fit(load_recipe(tiny, SMALL), run_dir=Path("alone"), command=[], console=Console(quiet=True))
    directory = run(tiny, run_dir="parts", console=console)
    lines = figures_of(directory)
    assert list(dict.fromkeys(line["phase"] for line in lines)) == PHASES
    assert [line for line in lines if line["phase"] == "fit"] == figures_of(alone)
    summary, single = (json.loads(each.summary.read_text()) for each in (directory, alone))
    assert summary["test/accuracy"] == single["test/accuracy"]
    assert (summary["train/steps"], summary["run/steps"]) == (4, sum(STEPS))
    assert directory.best.read_bytes() == (directory.phase("fit") / "checkpoints" / "best.ckpt").read_bytes()
    seeds = seeds_of(directory)
    assert [seeds[name] for name in PHASES[:-1]] == [3, 11, 12, 13]
    tries = [json.loads((directory.phase(name) / "phase.json").read_text())["figures"] for name in PHASES[1:3]]
    better = max((11, 12), key=lambda seed: tries[seed - 11]["val/accuracy"])
    assert seeds["arm.0.fit"] == better, "chosen by what the parts before found"
    assert "part arm.0, phase first" in console.file.getvalue()

    page = (directory.path / "report.html").read_text()
    assert "arm.0" not in page, "the report is that of the run"
    assert not list(directory.artefacts.glob("arm*")) + list(directory.artefacts.glob("try*"))
    for name in PHASES[1:]:
        assert not list(directory.phase(name).rglob("*.ckpt")), "of a part no weights are kept"
    items = read_artefact(directory.phase("arm.0.fit") / "artefacts" / "test_items.json")
    assert isinstance(items, Items)
    assert len(items.ids) == 300
    assert not (directory.phase("arm.0.first") / "artefacts").exists(), "it is no result"
    assert stored_recipes(directory).keys() == {"fit"}
    assert [folder.name for folder in _phase_folders(directory.path)] == ["fit"], "what its weights owe"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> RunDirectory:
    """A run that nothing has cut short."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(tiny_text)
    return run(str(folder / "tiny.yaml"), run_dir=str(folder / "whole"))


@pytest.mark.parametrize("step", [1, 7, 10, 15, 19])
def test_killed_in_any_part_and_resumed_it_ends_as_if_nothing_had_happened(
    tiny, whole, quiet, step, cut_short: Callable[[type, int], AbstractContextManager[None]]
):
    with cut_short(ClassificationTask, step):
        run(tiny, run_dir="cut")
    cut = resume(Path("cut"), console=quiet, make_plan=two_tries_and_an_arm)
    assert figures_of(cut) == figures_of(whole)
    assert seeds_of(cut) == seeds_of(whole)
    measured = [json.loads(each.summary.read_text()) for each in (cut, whole)]
    assert measured[0]["test/accuracy"] == measured[1]["test/accuracy"]
    assert not [file for name in PHASES[1:] for file in cut.phase(name).rglob("*.ckpt")]


def test_a_part_that_cannot_be_trained_is_refused_before_the_first_step(tiny):
    def wrong(recipe: Recipe, stored: Mapping[str, Recipe]) -> Plan:
        too_many = replace(recipe, data=replace(recipe.data, labels_per_class=5000))
        part = Part("arm.0", "arm greedy", lambda: plan_of(too_many))
        return Parts(plan_of(recipe, stored), lambda finished: [part], (part,))

    with pytest.raises(UserError, match=r"arm greedy: data\.labels_per_class is 5000"):
        fit(load_recipe(tiny, SMALL), run_dir=Path("no"), command=[], console=Console(quiet=True), make_plan=wrong)
    assert not Path("no").exists()


def test_the_part_of_a_phase_is_in_its_name():
    assert [part_of(name) for name in ("fit", "labelled.2.fit", "pretrain-1")] == ["", "labelled.2", ""]
