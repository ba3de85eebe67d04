"""What is left where a new run fails, and who may train in a run."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from vision_train.data.folders import Listing
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.directory import PASSED_ON, RunDirectory, create_run
from vision_train.run.precision import Precision
from vision_train.threads import Count


def creating(run_dir: Path | None = None) -> AbstractContextManager[RunDirectory]:
    return create_run(
        load_recipe("quickstart"), ["cat", "dog"], run_dir, [], Count(2, "a test"), Precision("32-true", "a test")
    )


def created(run_dir: Path | None = None) -> RunDirectory:
    with creating(run_dir) as directory:
        return directory


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


def test_a_folder_behind_a_link_is_emptied_and_the_link_stays() -> None:
    Path("disk").mkdir()
    Path("run").symlink_to("disk", target_is_directory=True)
    with creating(Path("run")) as directory:
        (directory.path / "log.txt").symlink_to(Path("elsewhere.txt").absolute())
        Path("elsewhere.txt").touch()
        directory.discard()
    assert Path("run").is_symlink()
    assert Path("elsewhere.txt").exists()
    assert created(Path("run")).recipe.is_file(), "what was discarded is not in the way"


def test_a_run_is_held_from_its_first_file_on() -> None:
    with creating(Path("run")) as directory:
        with pytest.raises(UserError, match="another process is training this run"), directory.held():
            pass
        directory.clear()  # nobody else may be let in by that
        with pytest.raises(UserError, match="another process is training this run"), creating(Path("run")):
            pass


def _hold(path: Path, held: Any, done: Any) -> None:
    with RunDirectory(path).held():
        held.set()
        done.wait(60)


def test_one_process_alone_trains_a_run(tmp_path, fresh_processes):
    held, done = fresh_processes.Event(), fresh_processes.Event()
    other = fresh_processes.Process(target=_hold, args=(tmp_path, held, done))
    other.start()
    assert held.wait(60)
    with pytest.raises(UserError, match="another process is training this run"), RunDirectory(tmp_path).held():
        pass
    done.set()
    other.join()
    with RunDirectory(tmp_path).held():
        pass
