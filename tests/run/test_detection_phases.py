"""A detector that labels its pool between phases: what is written, what is learnt, killed and resumed."""

import csv
import io
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from vision_train.data.toy.shapes import shapes
from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe
from vision_train.run import fit as fit_module
from vision_train.run import labelling as labelling_module
from vision_train.run.directory import RunDirectory, open_run
from vision_train.run.fit import fit, resume
from vision_train.run.plan import LAST
from vision_train.semi import answers, boxes
from vision_train.tasks.detection import asked
from vision_train.tasks.detection.task import DetectionTask

QUIET = Console(quiet=True)
SMALL = ("data.workers=0", "data.epoch_batches=2", "data.splits={val: 0.2, test: 0.2}", "data.share=0.5")
ROUNDS = ("semi.burn_in=0.3", "semi.views=1", "semi.rounds.count=2", "trainer.max_epochs=3")
ONCE = ("semi.burn_in=0.5", "semi.voters=2", "trainer.max_epochs=2")
PHASES = ("burn-in", "round-1", LAST)
EASY = {
    boxes: {"FIRST_CUT": 0.01, "LOWEST_CUT": 0.001, "HIGHEST_CUT": 0.01},
    asked: {"SCARCE": 0.0, "FLOODED": 1e9, "COLLAPSED": 0.0},
    answers: {"FLOORS": {}},
}
"""So that networks as small as these find boxes, and what they find is learnt."""


def learn_from_anything() -> None:
    torch.set_num_threads(1)
    for module, values in EASY.items():
        for name, value in values.items():
            setattr(module, name, value)


@pytest.fixture(autouse=True, scope="module")
def lenient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module, values in EASY.items():
            for name, value in values.items():
                patch.setattr(module, name, value)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., None]) -> Path:
    """Thirty images with boxes, of which nine are labelled and nine are the pool."""
    folder = tmp_path_factory.mktemp("detection_phases")
    write_coco(folder / "boxes", [scene for scene in shapes() if scene.split == "train"][:30])
    return folder


def run(place: Path, name: str, recipe: str, *overrides: str, console: Console = QUIET) -> RunDirectory:
    learn_from_anything()
    files = ("data.source=boxes", f"data.root={place / 'boxes'}", *SMALL)
    checked = load_recipe(f"studies/semi/{recipe}", [*files, *overrides], smoke=True)
    return fit(checked, run_dir=place / name, command=[], console=console)


def rows(directory: RunDirectory, phase: str = LAST) -> dict[str, list[dict[str, str]]]:
    """Rows of the file of a phase, by image."""
    found = defaultdict(list)
    with (directory.phase(phase) / "pseudo_labels.csv").open() as file:
        for row in csv.DictReader(file):
            found[row["path"]].append(row)
    return dict(found)


def equal(ours: RunDirectory, theirs: RunDirectory) -> bool:
    first, second = (torch.load(each.best, weights_only=True)["averaged"] for each in (ours, theirs))
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture(scope="module")
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def rounds(place: Path, said: io.StringIO) -> RunDirectory:
    return run(place, "rounds", "shapes_rounds", *ROUNDS, console=Console(file=said, width=300))


class TestActiveRounds:
    def test_each_image_of_the_pool_is_said_once_and_budgets_rise(self, rounds):
        data = fit_module.scan(load_recipe(rounds.recipe)).data
        pool, others = (
            {each.id for each in data.samples("unlabelled")},
            {each.id for split in ("train", "val", "test") for each in data.samples(split)},
        )
        lines = read_metrics(rounds.metrics)
        assert tuple(dict.fromkeys(line["phase"] for line in lines)) == PHASES
        for number, name in enumerate(PHASES[1:], 1):
            found = rows(rounds, name)
            assert found.keys() == pool
            assert not found.keys() & others
            assert all(len({row["kept"] for row in of_image}) == 1 for of_image in found.values())
            kept = [of_image for of_image in found.values() if of_image[0]["kept"] == "1"]
            assert 0 < len(kept) <= len(pool) * 8 * number // 20
            assert all(row["image_robustness"] and row["round"] == str(number) for of in found.values() for row in of)
            assert any(row["label"] and float(row["weight"]) == 1 for of_image in kept for row in of_image)

    def test_boxes_lie_in_the_original_image(self, rounds, place):
        content = json.loads((place / "boxes" / "annotations.json").read_text())
        sizes = {image["file_name"]: (image["width"], image["height"]) for image in content["images"]}
        for row in (row for of_image in rows(rounds).values() for row in of_image if row["label"]):
            right, bottom = sizes[_name(row["path"])]
            x, y, width, height = (float(row[name]) for name in ("x", "y", "width", "height"))
            assert 0 <= x < x + width <= right + 1e-9
            assert 0 <= y < y + height <= bottom + 1e-9

    def test_a_batch_has_the_labelled_images_that_it_has_without_a_pool(self, said):
        assert "4 images a step: 2 labelled + 2 pseudo-labelled" in said.getvalue()
        assert "faithfulness" in said.getvalue(), "what is left out is said"

    def test_the_control_has_the_same_phases_and_learns_no_box_of_the_pool(self, rounds, place):
        control = run(place, "control", "shapes_rounds", *ROUNDS, "semi.weight=0")
        steps = [
            [(line["phase"], line["step"]) for line in read_metrics(each.metrics) if "val/ap" in line]
            for each in (rounds, control)
        ]
        assert steps[0] == steps[1]
        assert not list(control.path.rglob("pseudo_labels.csv"))
        assert not equal(rounds, control)

    def test_annotations_of_the_pool_change_no_bit(self, rounds, place):
        pool = set(rows(rounds))
        shutil.copytree(place / "boxes", place / "changed" / "boxes")
        file = place / "changed" / "boxes" / "annotations.json"
        content = json.loads(file.read_text())
        ids = {image["id"] for image in content["images"] if Path(image["file_name"]).name in {*map(_name, pool)}}
        assert len(ids) == len(pool)
        random = np.random.default_rng(0)
        for box in content["annotations"]:
            if box["image_id"] in ids:
                box |= {"bbox": [1, 1, 5, 5], "category_id": int(random.integers(1, 4))}
        file.write_text(json.dumps(content))
        again = run(place / "changed", "run", "shapes_rounds", *ROUNDS)
        assert equal(rounds, again)
        assert rows(rounds) == rows(again)


def _name(path: str) -> str:
    return Path(path).name


def test_self_training_votes_and_learns(place):
    found = run(place, "once", "shapes_self_training", *ONCE)
    assert [each.name for each in sorted((found.path / "phases").iterdir())] == ["burn-in", LAST, "voter-2"]
    shares = {row["share"] for of_image in rows(found).values() for row in of_image if row["label"]}
    assert shares <= {"0.5", "1.0"}
    by_run = run(place, "by_runs", "shapes_self_training", f"semi.voters=[{found.path}]", "trainer.max_epochs=1")
    assert any(of_image[0]["kept"] == "1" for of_image in rows(by_run).values())


def test_a_teacher_that_returns_nan_leaves_a_run_on_labelled_images(place, monkeypatch):
    answer = DetectionTask.answer_pool

    def broken(self, ids, views, scores):
        spoilt = [view | {"image": torch.full_like(view["image"], torch.nan)} for view in views]
        return answer(self, ids, spoilt, scores)

    monkeypatch.setattr(DetectionTask, "answer_pool", broken)
    said = io.StringIO()
    found = run(place, "nan", "shapes_self_training", *ONCE[:1], "semi.voters=1", ONCE[2], console=Console(file=said))
    assert not any(of_image[0]["kept"] == "1" for of_image in rows(found).values())
    assert "not finite" in " ".join(said.getvalue().split())
    assert found.summary.exists()


@pytest.mark.parametrize(
    ("recipe", "override", "words"),
    [
        ("shapes_self_training", "semi.class_cap=5", ("semi.class_cap", "detection", "null")),
        ("shapes_self_training", "semi.views=3", ("semi.views", "active_rounds")),
        ("shapes_rounds", "semi.rounds.scores=calibrated", ("semi.rounds.scores=calibrated", "detection", "default")),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_remedy(place, recipe, override, words):
    with pytest.raises(UserError) as refused:
        run(place, "refused", recipe, override)
    assert all(word in str(refused.value) for word in words)


def train(place: Path, phase: str, step: str) -> None:
    """Begin or resume a run, up to the step of a phase in which it is killed."""
    learn_from_anything()

    def die(*args: object, **options: object) -> None:
        os._exit(7)

    if step == "score":
        labelling_module.ask = die  # type: ignore[assignment]
    elif step == "select":
        labelling_module.write_pseudo_labels = die
    elif step == "train":
        original = DetectionTask.training_step

        def training_step(task, batch, batch_idx):  # type: ignore[no-untyped-def]
            if Path(task.trainer.default_root_dir).name == phase and batch_idx:
                die()
            return original(task, batch, batch_idx)

        DetectionTask.training_step = training_step  # type: ignore[method-assign]
    if (place / "cut").exists():
        resume(place / "cut", console=QUIET)
    else:
        run(place, "cut", "shapes_rounds", *ROUNDS)


def test_killed_and_resumed_it_ends_as_if_nothing_had_happened(
    rounds: RunDirectory, place: Path, fresh_processes: BaseContext
):
    for phase, step in (("round-1", "score"), ("round-1", "train"), (LAST, "select"), ("", "")):
        process = fresh_processes.Process(target=train, args=(place, phase, step))  # type: ignore[attr-defined]
        process.start()
        process.join()
        assert process.exitcode == (7 if step else 0), (phase, step)
    found = open_run(place / "cut", with_weights=True)
    assert equal(found, rounds)
    assert [rows(found, name) for name in PHASES[1:]] == [rows(rounds, name) for name in PHASES[1:]]
