"""Learning from expressions without boxes, from end to end: in each step, once after a vote, and in rounds.

Items 5 and 7 are of the specification of learning from unlabelled images; 8, 10 and 11 are of that of grounding.
"""

import csv
import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from vision_train.cli import app
from vision_train.data.toy.refer_folder import write_refer
from vision_train.data.toy.referring import referring
from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe, write_recipe
from vision_train.run import fit as fit_module
from vision_train.run import labelling as labelling_module
from vision_train.run.directory import RunDirectory, open_run
from vision_train.run.fit import fit, resume
from vision_train.run.plan import LAST
from vision_train.semi import answers
from vision_train.tasks.grounding import asked
from vision_train.tasks.grounding.task import GroundingTask

QUIET = Console(quiet=True)
RECIPE = "studies/actress/referring_supervised"
SMALL = (
    *(
        "data.source=phrases",
        "data.share=0.5",
        "data.unlabelled=rest",
        "data.epoch_batches=2",
        "optim.ema={decay: 0.5}",
    ),
    *("run.pretrain=null", "model.freeze=[]", "model.fresh=[]", "trainer.limit_train_batches=null"),
)
STEPS = ("semi.method=mean_teacher", "semi.burn_in=0.3", "trainer.max_epochs=3")
ROUNDS = (
    "semi.method=active_rounds",
    "semi.burn_in=0.3",
    "semi.views=1",
    "semi.rounds.scores=default",
    "semi.rounds.count=2",
    "trainer.max_epochs=3",
)
ONCE = ("semi.method=self_training", "semi.burn_in=0.5", "semi.voters=2", "trainer.max_epochs=2")
PHASES = ("burn-in", "round-1", LAST)
SCORES = ("robustness", "faithfulness", "confidence", "agreement")


def never(*shares: float) -> bool:
    return False


def learn_from_anything() -> None:
    """Networks as small as these answer alike, and no two of them agree."""
    torch.set_num_threads(1)
    asked.have_collapsed, asked.MOST_VOTES, answers.FLOORS = never, 0.0, {}


@pytest.fixture(autouse=True, scope="module")
def lenient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asked, "have_collapsed", never)
        patch.setattr(asked, "MOST_VOTES", 0.0)
        patch.setattr(answers, "FLOORS", {})
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four pictures with two expressions each, of which twelve are trained on and six of those have boxes."""
    folder = tmp_path_factory.mktemp("grounding_pool")
    chosen = [[each for each in referring() if each.scene.split == split] for split in ("train", "val", "testA")]
    write_refer(
        [each for part, count in zip(chosen, (12, 6, 6), strict=True) for each in part[:count]], folder / "refer"
    )
    return folder


def run(place: Path, name: str, *overrides: str, console: Console = QUIET) -> RunDirectory:
    learn_from_anything()
    recipe = load_recipe(RECIPE, [*SMALL, f"data.root={place / 'refer'}", *overrides], smoke=True)
    return fit(recipe, run_dir=place / name, command=[], console=console)


def rows(directory: RunDirectory, phase: str = LAST) -> list[dict[str, str]]:
    with (directory.phase(phase) / "pseudo_labels.csv").open() as file:
        return list(csv.DictReader(file))


def equal(ours: RunDirectory, theirs: RunDirectory) -> bool:
    first, second = (torch.load(each.best, weights_only=True)["averaged"] for each in (ours, theirs))
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture(scope="module")
def steps(place: Path) -> RunDirectory:
    return run(place, "steps", *STEPS)


@pytest.fixture(scope="module")
def rounds(place: Path) -> RunDirectory:
    return run(place, "rounds", *ROUNDS)


def test_a_teacher_answers_the_pool_after_burn_in_and_is_watched(steps, place):
    measured = [line for line in read_metrics(steps.metrics) if "val/accuracy" in line]
    assert ["val/pool_accepted" in line for line in measured] == [False, True, True]
    assert all(line["val/pool_loss_ratio"] > 0 for line in measured[1:])
    assert not equal(steps, run(place, "weightless", *STEPS, "semi.weight=0"))
    assert "Health of the teacher" in (steps.path / "report.html").read_text()


def test_item_5_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(steps, place, cut_short):
    with cut_short(GroundingTask, 3):
        run(place, "cut", *STEPS)
    resume(place / "cut", console=QUIET)
    assert equal(open_run(place / "cut", with_weights=True), steps)


def test_item_8_each_expression_of_the_pool_is_said_once_with_its_box_and_scores(rounds, place):
    data = fit_module.scan(load_recipe(rounds.recipe)).data
    pool = [sample.id for sample in data.samples("unlabelled")]
    labelled = {sample.id for split in ("train", "val", "test") for sample in data.samples(split)}
    for number, phase in enumerate(PHASES[1:], 1):
        found = rows(rounds, phase)
        assert sorted(row["path"] for row in found) == sorted(pool)
        assert not labelled & {row["path"] for row in found}
        kept = [row for row in found if row["kept"] == "1"]
        assert 0 < len(kept) <= len(pool) * 8 * number // 20
        for row in found:
            assert all(0 <= float(row[f"image_{score}"]) <= 1 for score in SCORES)
            x, y, width, height = (float(row[side]) for side in ("x", "y", "width", "height"))
            assert 0 <= x < x + width <= 48 + 1e-9
            assert 0 <= y < y + height <= 48 + 1e-9


def test_item_8_in_cumulative_no_id_is_chosen_in_two_rounds_and_what_was_chosen_stays_as_it_is(rounds, place):
    found = run(place, "cumulative", *ROUNDS, "semi.rounds.policy=cumulative")
    first, last = ([row for row in rows(found, phase) if row["kept"] == "1"] for phase in PHASES[1:])
    assert first == [row for row in rows(rounds, PHASES[1]) if row["kept"] == "1"], "nothing is earlier than round 1"
    assert {row["path"] for row in first} < {row["path"] for row in last}
    assert [row for row in last if row["round"] == "1"] == first
    pool = [row["path"] for row in rows(rounds)]
    assert [row["path"] for row in rows(found)] == pool
    assert len(last) <= len(pool) * 8 // 10
    table = json.loads((found.path / "artefacts" / f"{LAST}_pseudo_labels.json").read_text())
    assert ["of earlier rounds", len(first), len(first)] in table["rows"]
    assert not equal(found, rounds)


def test_a_round_that_lost_what_was_chosen_before_is_refused(place, tmp_path):
    shutil.copytree(place / "cumulative", tmp_path / "cut")
    for file in (LAST, "round-1/pseudo_labels.csv"):
        path = tmp_path / "cut" / "phases" / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / "cut" / "summary.json").unlink()
    with pytest.raises(UserError, match=r"round-1/pseudo_labels\.csv.*semi\.rounds\.policy"):
        resume(tmp_path / "cut", console=QUIET)


def test_the_control_has_the_same_phases_and_learns_no_box_of_the_pool(rounds, place):
    control = run(place, "control", *ROUNDS, "semi.weight=0")
    assert not list(control.path.rglob("pseudo_labels.csv"))
    assert not equal(rounds, control)
    lengths = [
        [line["step"] for line in read_metrics(each.metrics) if "val/accuracy" in line] for each in (rounds, control)
    ]
    assert lengths[0] == lengths[1]


def test_self_training_votes_once_and_learns(place):
    found = run(place, "once", *ONCE)
    assert [each.name for each in sorted((found.path / "phases").iterdir())] == ["burn-in", LAST, "voter-2"]
    assert {row["share"] for row in rows(found)} <= {"0.5", "1.0"}
    assert any(row["kept"] == "1" for row in rows(found))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("semi.rounds.scores=[confidence]", "model.args.bins=null"), ("semi.rounds.scores", "model.args.bins")),
        (("semi.rounds.reinitialise={nothing.*: shrink_perturb}",), ("semi.rounds.reinitialise", "nothing.*")),
        (("semi.views=0",), ("semi.views=0", "robustness", "semi.rounds.scores")),
        (("data.unlabelled=null",), ("data.unlabelled=CSV", "semi.method=none")),
        (("semi.class_cap=5",), ("semi.class_cap", "grounding", "null")),
        (("semi.threshold=0.5",), ("semi.threshold", "grounding")),
        (("semi.method=self_training", "semi.views=3"), ("semi.views", "active_rounds")),
    ],
)
def test_what_a_round_cannot_do_is_refused_before_the_first_step(place, overrides, words):
    with pytest.raises(UserError) as refused:
        run(place, "refused", *ROUNDS, *overrides)
    assert all(word in str(refused.value) for word in words)
    assert not (place / "refused").exists()


def test_expressions_of_the_pool_whose_image_is_broken_are_counted_where_they_are_skipped(place):
    (place / "broken.png").write_bytes(b"no picture")
    picture = next((place / "refer").rglob("*.png")).relative_to(place)
    (place / "pool.csv").write_text(f"path,text\n{picture},small thing\nbroken.png,red circle\n")
    pool, said = (f"data.unlabelled={place / 'pool.csv'}", "data.on_bad=skip"), io.StringIO()
    found = run(place, "broken", *ROUNDS, *pool, "semi.rounds.count=1", console=Console(file=said, width=1000))
    assert len(rows(found)) == 1
    assert "expressions of the pool that cannot be read get no label" in said.getvalue()
    assert "broken.png: " in said.getvalue()


@pytest.mark.parametrize(("method", "whole"), [(STEPS, "steps"), (ROUNDS, "rounds")])
def test_item_7_boxes_of_the_pool_change_no_bit(request, place, method, whole):
    intact = request.getfixturevalue(whole)
    data = fit_module.scan(load_recipe(intact.recipe)).data
    pool = {sample.id.partition("#")[0].rpartition("/")[2] for sample in data.samples("unlabelled")}
    changed = place / f"changed {whole}"
    shutil.copytree(place / "refer", changed / "refer")
    file = next((changed / "refer").rglob("instances.json"))
    content = json.loads(file.read_text())
    images = {image["id"] for image in content["images"] if Path(image["file_name"]).name in pool}
    assert len(images) == len(pool) == 6
    random = np.random.default_rng(0)
    for box in content["annotations"]:
        if box["image_id"] in images:
            box |= {"bbox": [float(each) for each in random.integers(1, 20, 4)], "category_id": 1}
    file.write_text(json.dumps(content))
    again = run(changed, "run", *method)
    assert equal(intact, again)


def test_item_7_copies_of_tested_pictures_leave_a_pool_of_expressions_by_their_pixels(place):
    tested = sorted((place / "refer").rglob("testA*.png"))[0]
    with Image.open(tested) as picture:
        picture.save(place / "holiday.bmp")
    trained = sorted((place / "refer").rglob("train*.png"))[0].relative_to(place)
    (place / "copies.csv").write_text(f"path,text\n{trained},small thing\nholiday.bmp,red circle\n")
    pool = f"data.unlabelled={place / 'copies.csv'}"
    data = fit_module.scan(load_recipe(RECIPE, [*SMALL, f"data.root={place / 'refer'}", pool], smoke=True)).data
    assert len(data.samples("unlabelled")) == 2
    fit_module.clear_pool(data)
    assert [Path(sample.place).name for sample in data.samples("unlabelled")] == [trained.name]
    assert any("holiday.bmp" in note and tested.name in note for note in data.notes)


def kill_at(phase: str, step: str) -> None:
    """Let this process die in a step of a phase as if it had been killed."""
    if step == "score":
        labelling_module.ask = lambda *args: os._exit(7)
    elif step == "select":
        labelling_module.write_pseudo_labels = lambda *args: os._exit(7)
    elif step == "commit":
        publish = fit_module.publish
        fit_module.publish = lambda directory, name: os._exit(7) if name == phase else publish(directory, name)
    elif step:
        name = {"train": "training_step", "evaluate": "test_step"}[step]
        original = getattr(GroundingTask, name)

        def dying(self, batch, batch_idx, *more):
            if Path(self.trainer.default_root_dir).name == phase and (batch_idx or step == "evaluate"):
                os._exit(7)
            return original(self, batch, batch_idx, *more)

        setattr(GroundingTask, name, dying)


def train(place: Path, phase: str, step: str) -> None:
    """Begin or resume a run, up to the step of a phase in which it is killed."""
    learn_from_anything()
    kill_at(phase, step)
    if (place / "killed").exists():
        resume(place / "killed", console=QUIET)
    else:
        run(place, "killed", *ROUNDS)


def test_item_10_killed_in_each_step_of_a_round_and_resumed_it_ends_as_if_nothing_had_happened(
    rounds: RunDirectory, place: Path, fresh_processes: BaseContext
):
    places = [("burn-in", "train"), ("round-1", "score"), ("round-1", "select"), ("round-1", "train")]
    places += [("round-1", "commit"), (LAST, "evaluate"), ("", "")]
    for phase, step in places:
        process = fresh_processes.Process(target=train, args=(place, phase, step))
        process.start()
        process.join()
        assert process.exitcode == (7 if step else 0), (phase, step)
    found = open_run(place / "killed", with_weights=True)
    assert equal(found, rounds)
    for phase in PHASES[1:]:
        files = [(each.phase(phase) / "pseudo_labels.csv").read_text() for each in (found, rounds)]
        assert files[0] == files[1]


@contextmanager
def interrupted(method: str, phase: str) -> Iterator[None]:
    """Within this, Ctrl-C comes as the task begins its second batch in a phase, or its first answer about a pool."""
    original = getattr(GroundingTask, method)

    def interrupting(self, *args):
        if not phase or (Path(self.trainer.default_root_dir).name == phase and args[1]):
            signal.raise_signal(signal.SIGINT)
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GroundingTask, method, interrupting)
        yield


def test_ctrl_c_in_a_round_says_how_to_go_on_and_the_run_ends_with_the_same_metrics(rounds, place):
    """While the pool is scored, and while a round trains."""
    whole = load_recipe(RECIPE, [*SMALL, f"data.root={place / 'refer'}", *ROUNDS], smoke=True)
    write_recipe(place / "stopped.yaml", whole)
    run_dir, command = str(place / "stopped"), ["fit", str(place / "stopped.yaml"), "--run-dir", str(place / "stopped")]
    for method, phase, saved in (("answer_pool", "", "phase burn-in"), ("training_step", LAST, "phase round-1")):
        with interrupted(method, phase):
            found = CliRunner().invoke(app, command)
        assert found.exit_code == 130, found.output
        assert f"Stopped; {saved} is saved. Go on with: vision-train fit --resume {run_dir}" in found.stdout
        assert "Interrupted." in found.stderr
        command = ["fit", "--resume", run_dir]
    resume(place / "stopped", console=QUIET)
    ours, theirs = (json.loads(each.summary.read_text()) for each in (open_run(place / "stopped"), rounds))
    tested = [key for key in theirs if key.startswith(("test/", "val/"))]
    assert {key: ours[key] for key in tested} == {key: theirs[key] for key in tested}


def label_on_two(rank: int, place: Path, overrides: tuple[str, ...]) -> None:
    run(place, "both", *overrides)


def test_item_11_two_processes_give_each_id_once_and_the_scores_of_one(
    rounds: RunDirectory, place: Path, two_processes: Callable[..., None]
):
    """A start from one run, so that both ask the same weights; of an odd number of expressions."""
    pool = fit_module.scan(load_recipe(rounds.recipe)).data.samples("unlabelled")[:7]
    lines = [f"{Path(sample.place).relative_to(place)},{sample.text}" for sample in pool]
    (place / "odd.csv").write_text("path,text\n" + "\n".join(lines) + "\n")
    start = (
        *("semi.method=active_rounds", "semi.rounds={count: 1, scores: default}", f"model.checkpoint={rounds.path}"),
        *("trainer.max_epochs=1", "semi.burn_in=0", "semi.views=1", f"data.unlabelled={place / 'odd.csv'}"),
    )
    alone = run(place, "alone", *start)
    two_processes(label_on_two, place, (*start, "trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=2"))
    ours, theirs = rows(alone), rows(open_run(place / "both"))
    assert len({row["path"] for row in theirs}) == len(theirs) == len(lines)
    assert [row["path"] for row in ours] == [row["path"] for row in theirs]
    assert [row["kept"] for row in ours] == [row["kept"] for row in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        for score in SCORES:
            assert float(mine[f"image_{score}"]) == pytest.approx(float(other[f"image_{score}"]), abs=1e-5)
