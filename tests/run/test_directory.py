"""What is left where a new run fails."""

from pathlib import Path

import pytest

from vision_train.data.folders import Listing
from vision_train.recipe import load_recipe
from vision_train.run.directory import PASSED_ON, RunDirectory, create_run


def created(run_dir: Path | None = None) -> RunDirectory:
    return create_run(load_recipe("quickstart"), ["cat", "dog"], run_dir, [])


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PASSED_ON, "")  # what it is set to ends with the test


def test_a_new_run_that_failed_leaves_no_folder_behind() -> None:
    created().discard()
    created(Path("mine/first/run")).discard()
    assert list(Path().iterdir()) == []


def test_folders_that_were_there_before_or_hold_more_stay() -> None:
    Path("mine").mkdir()
    created(Path("mine/run")).discard()
    assert Path("mine").is_dir()
    first, second = created(), created()
    first.discard()
    assert second.path.is_dir()
    second.discard()
    assert Path("runs/quickstart").is_dir(), "the first made it, and could not know when it was empty"


def test_the_folder_of_runs_is_never_read_as_data() -> None:
    """Also where the data lie beside it and no run is in it."""
    first, second = created(), created()
    first.discard()
    second.discard()
    assert Path("runs").is_dir()
    Path("cat").mkdir()
    assert [folder.name for folder in Listing(Path(), ["png"], "images").folders(Path())] == ["cat"]
