"""A task from its own package alone, with the code of docs/add_a_task.md: every verb works on it."""

import csv
import json
import os
import re
import runpy
import sys
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add_a_task.md").read_text(encoding="utf-8")
ENTRY_POINTS = "[vision_train.tasks]\nweighing = fruit_scale\n"


def blocks() -> dict[str, str]:
    """Every file that the page shows, by its path."""
    found = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return dict(found)


def commands() -> list[list[str]]:
    """The commands that the page promises."""
    (listed,) = re.findall(r"<!-- verbs -->\n```\n(.*?)```", PAGE, re.DOTALL)
    return [line.split()[1:] for line in listed.strip().splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, registered as an installed one would be, the photos and their table."""
    folder = tmp_path_factory.mktemp("fruit")
    for name, text in blocks().items():
        file = folder / ("site" if name.startswith("fruit_scale") else "work") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    registered = folder / "site" / "fruit_scale-1.0.dist-info"
    registered.mkdir()
    (registered / "METADATA").write_text("Metadata-Version: 2.1\nName: fruit-scale\nVersion: 1.0\n")
    (registered / "entry_points.txt").write_text(ENTRY_POINTS)
    make_photos(folder / "work")
    return folder / "work"


def make_photos(folder: Path) -> None:
    """Brighter photos weigh more."""
    generator = np.random.default_rng(0)
    (folder / "photos").mkdir()
    lines = ["file;grams;part"]
    for number in range(40):
        grams = int(generator.integers(50, 200))
        pixels = generator.normal(grams, 8, (24, 24, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number:02d}.png")
        lines.append(f"{number:02d}.png;{grams};{('learn', 'learn', 'learn', 'check', 'judge')[number % 5]}")
    (folder / "weights.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def vision_train(place: Path, fresh_processes: BaseContext) -> Callable[..., str]:
    """Run a command in ``place``, in a process of its own; returns what it printed."""

    def call(*arguments: str, code: int = 0) -> str:
        printed = place.parent / "printed.txt"
        process = fresh_processes.Process(target=_main, args=(place, arguments, printed))  # type: ignore[attr-defined]
        process.start()
        process.join()
        said = printed.read_text(encoding="utf-8")
        assert process.exitcode == code, f"{arguments}: exit {process.exitcode}\n{said}"
        return said

    return call


def _main(place: Path, arguments: tuple[str, ...], printed: Path) -> None:
    """``python -m vision_train`` where the package is on the path, as after its installation."""
    paths = [str(place.parent / "site"), str(ROOT)]
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    sys.path[:0] = paths
    sys.argv = ["vision-train", *arguments]
    os.chdir(place)
    with printed.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    runpy.run_module("vision_train", run_name="__main__")


@pytest.mark.slow
def test_every_verb_of_the_page_works(place: Path, vision_train):
    said = {command[0] if "--dry-run" not in command else "dry run": vision_train(*command) for command in commands()}
    assert "15 steps" in said["dry run"].replace("in all", "steps") or "an epoch" in said["dry run"]
    assert "val mean absolute error, in grams " in said["fit"], "the metric is always shown"
    assert json.loads(said["evaluate"])["val/samples"] == 8
    with (place / "grams.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert list(rows[0]) == ["path", "grams"]
    assert len(list((place / "pictures").glob("*.png"))) == 40
    assert Image.open(place / "preview.png").size[0] > 500
    assert "weighing" in (place / "run" / "recipe.yaml").read_text()
    assert "mean absolute error, in grams" in (place / "run" / "report.html").read_text()
    assert "test/error" in (place / "study" / "table.json").read_text() or "error" in said["compare"]
    assert "Errors below this many grams count squared" in said["recipes"]


@pytest.mark.slow
def test_a_run_that_was_cut_short_goes_on_to_the_bit(place: Path, vision_train):
    recipe = ["fit", "weigh.yaml", "seed=3"]
    vision_train(*recipe, "--run-dir", "whole")
    vision_train(*recipe, "--run-dir", "cut")
    cut = place / "cut"
    # As if the process had been killed after its last epoch was saved, before its figures were written.
    (cut / "summary.json").unlink()
    (cut / "phases" / "fit" / "phase.json").unlink()
    vision_train("fit", "--resume", "cut")
    figures = [json.loads((place / run / "summary.json").read_text()) for run in ("whole", "cut")]
    assert figures[0]["test/error"] == figures[1]["test/error"]


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("method.delta=0", "method.delta"),
        ("method.dleta=1", "method.delta"),
        ("data.table=absent.txt", "absent.txt"),
        ("data.labels=x.csv", "data.labels"),
        ("model.name=vit", "weight_network"),
        ("run.select.metric=val/accuracy", "val/error"),
    ],
)
def test_mistakes_are_named(vision_train, argument: str, named: str):
    assert named in vision_train("fit", "weigh.yaml", argument, code=2)


def test_the_page_shows_every_file_of_the_package():
    assert {name for name in blocks() if name.startswith("fruit_scale")} == {
        "fruit_scale/options.py",
        "fruit_scale/photos/__init__.py",
        "fruit_scale/photos/build.py",
        "fruit_scale/network.py",
        "fruit_scale/task.py",
    }
