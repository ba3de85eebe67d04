"""Runs that label their pool between phases: what is written, what is learnt from, killed in each phase and resumed.

Item 7 is of the specification of learning from unlabelled images; 8, 10 and 11 are of that of grounding.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from vision_train.data.pseudo_labels import read_pseudo_labels
from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe
from vision_train.run import fit as fit_module
from vision_train.run import labelling as labelling_module
from vision_train.run.directory import RunDirectory, open_run
from vision_train.run.fit import fit, resume
from vision_train.run.plan import LAST
from vision_train.semi.combine import PAPER_LIKE
from vision_train.tasks.classification import asked
from vision_train.tasks.classification.task import ClassificationTask
from vision_train.wording import percent

QUIET = Console(quiet=True)
TINY = """
extends: quickstart
data: {source: images, root: photos, labels_per_class: 4, unlabelled: rest, batch_size: 4, workers: 0}
augment: {mixing: {maskmix: 0.25, mixup: 0.25, cutmix: 0.25}}
model: {args: {embed_dim: 24, depth: 1, num_heads: 2, proj_drop_rate: 0.1}}
optim: {warmup_epochs: 0, ema: {decay: 0.5}}
semi: {method: active_rounds, burn_in: 0.3, views: 1, rounds: {count: 2, reinitialise: {head.*: shrink_perturb}}}
trainer: {max_epochs: 6, accelerator: cpu, log_every_n_steps: 1}
"""
ONCE = ("semi.method=self_training", "semi.voters=2", "trainer.max_epochs=4", "semi.burn_in=0.5")
PHASES = ("burn-in", "round-1", LAST)


def learn_from_anything() -> None:
    """Networks as small as these name few classes; their labels are learnt from all the same."""
    asked.COLLAPSED = 0.0
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def lenient() -> Iterator[None]:
    before = asked.COLLAPSED
    yield
    asked.COLLAPSED = before


def run(recipe: Path, run_dir: Path, *overrides: str, console: Console = QUIET) -> RunDirectory:
    learn_from_anything()
    return fit(load_recipe(recipe, overrides), run_dir=run_dir, command=[], console=console)


def rows(directory: RunDirectory, phase: str = LAST) -> list[dict[str, str]]:
    with (directory.phase(phase) / "pseudo_labels.csv").open() as file:
        return list(csv.DictReader(file))


def best(directory: RunDirectory) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(directory.best, weights_only=True)["averaged"]
    return weights


def equal(ours: RunDirectory, theirs: RunDirectory) -> bool:
    first, second = best(ours), best(theirs)
    return first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe and 3 x 14 images, of which 3 x 8 are left for the pool."""
    folder = tmp_path_factory.mktemp("labelled_phases")
    make_image_folder(folder / "photos", classes=3, per_class=14, size=(20, 20))
    (folder / "tiny.yaml").write_text(TINY.replace("root: photos", f"root: {folder / 'photos'}"))
    return folder


@pytest.fixture(scope="module")
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def rounds(photos: Path, said: io.StringIO) -> RunDirectory:
    return run(photos / "tiny.yaml", photos / "rounds", console=Console(file=said, width=300))


class TestActiveRounds:
    def test_the_phases_are_burn_in_and_rounds_of_as_many_steps_as_asked(self, rounds):
        lines = read_metrics(rounds.metrics)
        assert tuple(dict.fromkeys(line["phase"] for line in lines)) == PHASES
        figures = [json.loads((rounds.phase(name) / "phase.json").read_text())["figures"] for name in PHASES]
        assert [each["train/epochs"] for each in figures] == [2, 2, 2]
        assert load_recipe(rounds.recipe).trainer["max_epochs"] == 6, "the run keeps what was asked for"

    def test_item_8_each_id_of_the_pool_is_there_once_and_budgets_rise(self, rounds, photos):
        labelled = {sample.name for sample in (photos / "photos").rglob("*.*")}
        for number, name in enumerate(PHASES[1:], 1):
            found = rows(rounds, name)
            assert len({row["path"] for row in found}) == len(found) == 24
            assert {Path(row["path"]).name for row in found} <= labelled
            assert sum(row["kept"] == "1" for row in found) == 24 * 8 * number // 20
            assert {row["round"] for row in found} == {str(number)}
            assert all(row["confidence"] and row["score"] and row["label"] for row in found)

    def test_a_batch_has_the_labelled_images_that_it_has_without_a_pool(self, rounds, said):
        assert "8 images a step: 4 labelled + 4 pseudo-labelled" in said.getvalue()

    def test_how_often_labels_are_right_is_estimated_on_validation_images_and_said(self, rounds, said):
        images = len(fit_module.scan(load_recipe(rounds.recipe)).data.samples("val"))
        asked = f"about the pool and {images} validation images"
        assert said.getvalue().count(asked) == 2
        assert said.getvalue().count(f"Estimated on {images} validation images: of the ") == 2
        burn_in = json.loads((rounds.phase("burn-in") / "phase.json").read_text())["figures"]["val/accuracy"]
        assert f"The burn-in has {percent(burn_in)} of all validation labels right" in said.getvalue()

    def test_item_8_nothing_that_is_labelled_or_measured_on_gets_a_pseudo_label(self, rounds):
        learnt = json.dumps([row["path"] for row in rows(rounds)])
        data = fit_module.scan(load_recipe(rounds.recipe)).data
        assert not [s.id for split in ("train", "val", "test") for s in data.samples(split) if f'"{s.id}"' in learnt]

    def test_what_begins_anew_and_what_was_labelled_is_kept_for_the_report(self, rounds):
        tables = {
            name: json.loads((rounds.artefacts / f"{name}.json").read_text())
            for name in ("round-1_reinitialised", "fit_reinitialised", "round-1_pseudo_labels", "fit_pseudo_labels")
        }
        assert [row[0] for row in tables["fit_reinitialised"]["rows"]] == ["head.weight", "head.bias"]
        assert tables["fit_pseudo_labels"]["rows"][-1] == ["all", 24, 19]
        assert "Estimated on " in tables["fit_pseudo_labels"]["note"]
        assert "phase round-1" in (rounds.path / "report.html").read_text()

    def test_the_best_round_by_validation_is_delivered_and_reported(self, rounds, tmp_path):
        copy, said = open_run(shutil.copytree(rounds.path, tmp_path / "run")), io.StringIO()
        shutil.rmtree(copy.artefacts)
        copy.summary.unlink()
        (copy.phase(LAST) / "phase.json").unlink()
        best_round = copy.phase("round-1") / "phase.json"
        content = json.loads(best_round.read_text())
        content["figures"] |= {"val/accuracy": 1.5, "test/accuracy": 0.125}
        best_round.write_text(json.dumps(content))
        resume(copy.path, console=Console(file=said, width=300))
        summary = json.loads(copy.summary.read_text())
        assert (summary["test/accuracy"], summary["run/delivered"]) == (0.125, "round-1")
        assert copy.best.read_bytes() == (copy.phase("round-1") / "checkpoints" / "best.ckpt").read_bytes()
        assert "the weights of round-1" in said.getvalue()
        assert not list(copy.artefacts.glob("*items*")), "the last round would be taken for the result"
        assert "of phase round-1" in (copy.path / "report.html").read_text()

    def test_calibrated_scores_weigh_what_they_know_of_validation_images(self, photos, tmp_path, monkeypatch):
        def weigh(scores, right):
            given.append((scores, right.tolist()))
            return {"faithfulness": 0.0, "robustness": 0.0, "confidence": 0.5}

        given, told = [], io.StringIO()
        monkeypatch.setattr(labelling_module, "calibrated_weights", weigh)
        calibrated = ("semi.rounds={count: 1, scores: calibrated}", "trainer.max_epochs=2", "semi.burn_in=0.5")
        done = run(photos / "tiny.yaml", tmp_path / "run", *calibrated, console=Console(file=told, width=300))
        ((scores, right),) = given
        known = fit_module.scan(load_recipe(done.recipe)).data.samples("val")
        assert {name: len(of) for name, of in scores.items()} == dict.fromkeys(PAPER_LIKE, len(known))
        assert len(right) == len(known)
        assert "validation labels: faithfulness 0.00, robustness 0.00, confidence 0.50" in told.getvalue()
        by_confidence = sorted(rows(done), key=lambda row: float(row["confidence"]))
        ranked = [float(row["score"]) for row in by_confidence]
        assert ranked == sorted(ranked), "what weighs nothing selects nothing"
        assert ranked[0] < ranked[-1]

    def test_the_best_round_is_at_hand_as_soon_as_all_are_trained(self, rounds, tmp_path, monkeypatch):
        """A verdict trains its arms before the run ends."""
        copy = open_run(shutil.copytree(rounds.path, tmp_path / "run"))
        copy.summary.unlink()
        shutil.rmtree(copy.best.parent)
        best_round = copy.phase("round-1") / "phase.json"
        content = json.loads(best_round.read_text())
        content["figures"]["val/accuracy"] = 1.5
        best_round.write_text(json.dumps(content))
        monkeypatch.setattr(fit_module, "conclude", lambda *_: None)
        resume(copy.path, console=QUIET)
        assert copy.best.read_bytes() == (copy.phase("round-1") / "checkpoints" / "best.ckpt").read_bytes()

    def test_the_control_on_labelled_images_has_the_same_phases_and_steps(self, rounds, photos):
        control = run(photos / "tiny.yaml", photos / "control", "semi.weight=0")
        lines = [
            [(line["phase"], line["step"]) for line in read_metrics(each.metrics) if "val/loss" in line]
            for each in (rounds, control)
        ]
        assert lines[0] == lines[1]
        assert not list(control.path.rglob("pseudo_labels.csv"))
        assert (control.artefacts / "fit_reinitialised.json").exists()

    def test_item_7_labels_of_the_pool_s_files_change_no_bit(self, rounds, photos):
        """The pool as a folder of its own, with and without the folders of its classes."""
        pool = [row["path"] for row in rows(rounds)]
        for place, folder in (("honest", "{}"), ("shuffled", "class_0"), ("flat", "")):
            for name in pool:
                target = photos / place / folder.format(Path(name).parent.name)
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(photos / "photos" / name, target / name.replace("/", "_"))
        found = [
            run(photos / "tiny.yaml", photos / f"from_{place}", f"data.unlabelled={photos / place}")
            for place in ("honest", "shuffled", "flat")
        ]
        assert equal(found[0], found[1])
        assert equal(found[0], found[2])
        kept = [{Path(row["path"]).name: row["kept"] for row in rows(each)} for each in found]
        assert kept[0] == kept[1] == kept[2]


@pytest.fixture(scope="module")
def once(photos: Path) -> RunDirectory:
    return run(photos / "tiny.yaml", photos / "once", *ONCE)


class TestSelfTraining:
    def test_voters_share_the_labelled_images_and_nothing_else(self, once):
        recipes = [load_recipe(once.phase(name) / "recipe.yaml") for name in ("burn-in", "voter-2")]
        assert recipes[0].seed != recipes[1].seed
        states = [
            torch.load(once.phase(name) / "checkpoints/best.ckpt", weights_only=True) for name in ("burn-in", "voter-2")
        ]
        assert states[0]["conditions"]["samples"] == states[1]["conditions"]["samples"]
        assert not torch.equal(states[0]["averaged"]["head.weight"], states[1]["averaged"]["head.weight"])

    def test_the_file_says_shares_and_voters(self, once):
        for row in rows(once):
            votes = json.loads(row["voters"])
            assert sum(votes.values()) == 2
            assert float(row["share"]) == max(votes.values()) / 2
            assert votes[row["label"]] == max(votes.values())
        assert read_pseudo_labels(once.phase(LAST) / "pseudo_labels.csv")

    def test_the_student_starts_from_the_initial_weights(self, once):
        assert load_recipe(once.phase(LAST) / "recipe.yaml").model.checkpoint is None

    def test_finished_runs_can_vote_in_place_of_a_burn_in(self, once, rounds, photos):
        voters = f"semi.voters=[{once.path}, {rounds.path}]"
        found = run(photos / "tiny.yaml", photos / "by_runs", *ONCE, voters, "trainer.max_epochs=1")
        assert {sum(json.loads(row["voters"]).values()) for row in rows(found)} == {2}
        with pytest.raises(UserError, match=r"semi\.voters.*another size"):
            run(photos / "tiny.yaml", photos / "refused", *ONCE, voters, "data.image_size=32")

    def test_voters_that_are_no_runs_are_refused_by_name_before_anything_is_written(self, photos):
        with pytest.raises(UserError, match=r"semi\.voters: .*nowhere: no such run"):
            run(photos / "tiny.yaml", photos / "unasked", *ONCE, "semi.voters=[nowhere]")
        assert not (photos / "unasked").exists()


class TestWhatGoesWrong:
    def test_a_teacher_that_returns_nan_leaves_a_run_on_labelled_images(self, photos, monkeypatch):
        answer = ClassificationTask.answer_pool

        def broken(self, ids, views, scores):
            return answer(self, ids, [{"image": torch.full_like(view["image"], torch.nan)} for view in views], scores)

        monkeypatch.setattr(ClassificationTask, "answer_pool", broken)
        said = io.StringIO()
        found = run(photos / "tiny.yaml", photos / "nan", *ONCE, console=Console(file=said, width=300))
        assert not any(row["kept"] == "1" for row in rows(found))
        assert "labelled samples alone" in said.getvalue()
        assert "not finite" in said.getvalue()
        assert found.summary.exists()

    def test_a_start_that_knows_other_classes_labels_nothing(self, photos):
        make_image_folder(photos / "others", classes=2, per_class=12, size=(20, 20))
        options = (f"data.root={photos / 'others'}", "semi.method=none", "data.unlabelled=null", "trainer.max_epochs=1")
        start = run(photos / "tiny.yaml", photos / "other_classes", *options)
        with pytest.raises(UserError, match=r"semi\.burn_in=0.*other classes"):
            run(photos / "tiny.yaml", photos / "never", f"model.checkpoint={start.path}", "semi.burn_in=0")
        assert not (photos / "never").exists()

    def test_a_run_of_the_same_classes_labels_the_pool_itself(self, rounds, photos):
        found = run(
            photos / "tiny.yaml",
            photos / "same",
            f"model.checkpoint={rounds.path}",
            "semi.burn_in=null",
            "semi.rounds={count: 1, reinitialise: {}}",
            "trainer.max_epochs=1",
        )
        assert [each.name for each in (found.path / "phases").iterdir()] == [LAST]
        assert sum(row["kept"] == "1" for row in rows(found)) == 19


def kill_at(phase: str, place: str) -> None:
    """Let this process die in a step of a phase as if it had been killed."""

    def dying(original: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if when(*args):
                os._exit(7)
            return original(*args, **options)

        return call

    if place == "score":
        labelling_module.ask = dying(labelling_module.ask, lambda *args: True)
    elif place == "select":
        labelling_module.write_pseudo_labels = dying(labelling_module.write_pseudo_labels, lambda *args: True)
    elif place == "reinit":
        fit_module.begin_anew = dying(fit_module.begin_anew, lambda *args: True)
    elif place == "commit":
        fit_module.publish = dying(fit_module.publish, lambda directory, name: name == phase)
    else:
        step = {"train": "training_step", "evaluate": "test_step"}[place]
        inside = dying(
            getattr(ClassificationTask, step),
            lambda task, batch, batch_idx, *more: (
                Path(task.trainer.default_root_dir).name == phase and (batch_idx or place == "evaluate")
            ),
        )
        setattr(ClassificationTask, step, inside)


def train(recipe: Path, run_dir: Path, phase: str, place: str, overrides: Sequence[str] = ()) -> None:
    """Begin or resume a run, up to the place where it is killed."""
    learn_from_anything()
    if place:
        kill_at(phase, place)
    if run_dir.exists():
        resume(run_dir, console=QUIET)
    else:
        run(recipe, run_dir, *overrides)


def test_item_10_killed_in_each_step_of_each_phase_and_resumed_it_ends_as_if_nothing_had_happened(
    rounds: RunDirectory, photos: Path, fresh_processes: BaseContext
):
    cut, places = (
        photos / "cut",
        [("burn-in", "train"), ("round-1", "score"), ("round-1", "reinit"), ("round-1", "train")],
    )
    places += [("round-1", "commit"), (LAST, "select"), (LAST, "evaluate"), ("", "")]
    for phase, place in places:
        process = fresh_processes.Process(target=train, args=(photos / "tiny.yaml", cut, phase, place))  # type: ignore[attr-defined]
        process.start()
        process.join()
        assert process.exitcode == (7 if place else 0), (phase, place)
    found = open_run(cut, with_weights=True)
    assert equal(found, rounds)
    for name in PHASES[1:]:
        files = [(each.phase(name) / "pseudo_labels.csv").read_text() for each in (found, rounds)]
        assert files[0] == files[1]


def label_on_two(rank: int, recipe: str, run_dir: Path, overrides: Sequence[str]) -> None:
    run(Path(recipe), run_dir, *overrides)


def test_item_11_two_processes_give_each_id_once_and_the_scores_of_one(rounds, photos, two_processes):
    """A start from one run, so that both ask the same weights; of 23 images, so that one process is asked once more."""
    pool = [Path(row["path"]) for row in rows(rounds)][:23]
    (photos / "odd").mkdir()
    for name in pool:
        shutil.copy(photos / "photos" / name, photos / "odd" / f"{name.parent.name}_{name.name}")
    two = ("trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=2")
    start = (
        *("semi.rounds={count: 1, reinitialise: {}}", f"model.checkpoint={rounds.path}", "trainer.max_epochs=1"),
        *("semi.burn_in=0", "semi.views=2", f"data.unlabelled={photos / 'odd'}"),
    )
    alone = run(photos / "tiny.yaml", photos / "alone", *start)
    two_processes(label_on_two, str(photos / "tiny.yaml"), photos / "both", (*start, *two))
    ours, theirs = (rows(open_run(photos / name)) for name in ("alone", "both"))
    assert len({row["path"] for row in theirs}) == len(theirs) == 23
    assert [row["path"] for row in ours] == [row["path"] for row in theirs]
    assert [row["kept"] for row in ours] == [row["kept"] for row in theirs]
    scores = [key for key, value in ours[0].items() if key in ("confidence", "robustness", "score") and value]
    assert "confidence" in scores
    for mine, other in zip(ours, theirs, strict=True):
        assert [float(mine[key]) for key in scores] == pytest.approx([float(other[key]) for key in scores], abs=1e-5)
    assert alone.summary.exists()
