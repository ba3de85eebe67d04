"""The number of threads in the record of a run, and what a resumed run makes of it."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.directory import PASSED_ON, RunDirectory, create_run
from vision_train.run.fit import _go_on_with_threads
from vision_train.run.precision import Precision
from vision_train.run.trainer import settle_threads
from vision_train.threads import Count, processors


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PASSED_ON, "")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def begun(*overrides: str) -> RunDirectory:
    recipe = load_recipe("quickstart", overrides)
    threads, precision = settle_threads(recipe), Precision("32-true", "a test")
    with create_run(recipe, ["cat", "dog"], None, [], threads, precision) as directory:
        return directory


def go_on(directory: RunDirectory) -> str:
    console = Console(file=io.StringIO(), width=1000)
    _go_on_with_threads(directory, load_recipe(directory.recipe), console)
    return console.file.getvalue()


def test_the_record_says_how_many_and_why() -> None:
    record = json.loads(begun("run.threads=3").environment.read_text())
    assert (record["threads"], record["threads_by"], torch.get_num_threads()) == (3, "run.threads", 3)
    assert "waiting_threads" in record
    assert json.loads(begun().environment.read_text())["threads_by"] == "OMP_NUM_THREADS in the environment"


def test_processes_of_one_run_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("vision_train.threads.processors", lambda: Count(7, "a test"))
    monkeypatch.setattr("vision_train.threads._threads_of_torch", lambda: 7)
    assert settle_threads(load_recipe("quickstart")).count == 7
    two = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu"]
    assert settle_threads(load_recipe("quickstart", two)).count == 3
    assert settle_threads(load_recipe("quickstart", [*two, "run.threads=5"])).count == 5


def test_a_resumed_run_goes_on_with_as_many_and_says_if_that_is_more_than_there_are() -> None:
    many = processors().count + 1
    directory = begun(f"run.threads={many}")
    directory.recipe.write_text(directory.recipe.read_text().replace(f"threads: {many}", "threads: null"))
    torch.set_num_threads(1)
    said = go_on(directory)
    assert torch.get_num_threads() == many
    assert said.startswith(f"note: {many} threads, by the record of the run")
    assert "run.threads in runs/quickstart/0/recipe.yaml" in said
    directory.recipe.write_text(directory.recipe.read_text().replace("threads: null", "threads: 1"))
    assert go_on(directory) == ""
    assert torch.get_num_threads() == 1


def test_a_record_of_an_earlier_version_or_a_damaged_one() -> None:
    directory = begun()
    directory.environment.write_text("{}")
    assert directory.recorded_threads() is None
    directory.environment.unlink()
    assert directory.recorded_threads() is None
    directory.environment.write_text("[")
    with pytest.raises(UserError, match=r"environment\.json: is damaged; restore it"):
        directory.recorded_threads()


@pytest.mark.parametrize("number", ["0", "1025", "-1"])
def test_no_threads_and_too_many_are_refused(number: str) -> None:
    with pytest.raises(UserError, match=rf"run\.threads: is {number}; must be from 1 to 1,024"):
        load_recipe("quickstart", [f"run.threads={number}"])
