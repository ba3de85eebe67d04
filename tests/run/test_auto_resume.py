"""A command that is given again goes on with its run; SLURM is asked to give it again."""

import io
import json
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from vision_train.errors import UserError
from vision_train.files import OUTPUT_MARK, mark_output
from vision_train.locks import take
from vision_train.recipe import load_recipe
from vision_train.run.auto_resume import settle_place
from vision_train.run.directory import PASSED_ON, RunDirectory, is_empty
from vision_train.run.fit import fit
from vision_train.run.requeue import environment_plugins, queued_again
from vision_train.run.trainer import build_trainer

COMMAND = ["fit", "mine.yaml", "--run-dir", "run", "--auto-resume"]


def begun(folder: Path, command: str = "vision-train fit mine.yaml --run-dir run", *files: str) -> Path:
    """A run directory as far as the decision goes."""
    folder.mkdir()
    mark_output(folder)
    (folder / "recipe.yaml").touch()
    (folder / "environment.json").write_text(json.dumps({"command": command}))
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}" if name.endswith(".json") else "")
    return folder


LAST = "phases/fit/checkpoints/last.ckpt"


@pytest.mark.parametrize(
    ("files", "found"), [((), "nothing"), ((LAST,), "unfinished"), ((LAST, "summary.json"), "finished")]
)
def test_what_the_same_command_finds(tmp_path, files, found):
    run = begun(tmp_path / "run", "vision-train fit mine.yaml --run-dir run --auto-resume", *files)
    assert settle_place(run, COMMAND) == found
    assert is_empty(run) == (found == "nothing"), "one killed before its first checkpoint is begun anew"


def test_nothing_there_and_what_was_killed_at_once(tmp_path):
    assert settle_place(tmp_path / "none", COMMAND) == "nothing"
    half = tmp_path / "half"
    half.mkdir()
    mark_output(half)
    (half / ".recipe.yaml.7.tmp").touch()
    assert settle_place(half, COMMAND) == "nothing"
    assert is_empty(half)
    assert settle_place(half, COMMAND) == "nothing"


def test_a_run_of_another_command_and_foreign_files_are_refused(tmp_path):
    run = begun(tmp_path / "run", "vision-train fit other.yaml --run-dir run", LAST)
    with pytest.raises(UserError, match=r"run of another command(?s:.)*other\.yaml(?s:.)*mine\.yaml"):
        settle_place(run, COMMAND)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        settle_place(tmp_path / "mine", COMMAND)
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_a_summary_that_is_damaged_is_no_finished_run(tmp_path):
    run = begun(tmp_path / "run", "vision-train fit mine.yaml --run-dir run", LAST, "summary.json")
    (run / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"summary\.json.*delete"):
        settle_place(run, COMMAND)


def test_a_place_may_be_written_in_several_ways(tmp_path):
    run = begun(tmp_path / "run", "vision-train fit mine.yaml --run-dir ./run", LAST)
    assert settle_place(run, ["fit", "mine.yaml", f"--run-dir={run}", "--auto-resume"]) == "unfinished"


def test_a_run_inside_of_another_one_is_refused(tmp_path):
    run = begun(tmp_path / "run", "vision-train fit mine.yaml --run-dir run", LAST)
    with pytest.raises(UserError, match=r"inside the run .*--run-dir outside"):
        settle_place(run / "again", ["fit", "mine.yaml", "--run-dir", "run/again", "--auto-resume"])


def test_a_run_that_another_process_trains_is_left_alone(tmp_path):
    run = begun(tmp_path / "run")
    lock = take(run / ".lock")
    with pytest.raises(UserError, match="another process is training"):
        settle_place(run, COMMAND)
    lock.release()


def test_a_run_behind_a_link_is_begun_anew(tmp_path):
    begun(tmp_path / "disk")
    run = tmp_path / "run"
    run.symlink_to(tmp_path / "disk", target_is_directory=True)
    assert settle_place(run, COMMAND) == "nothing"
    assert run.is_symlink()
    assert is_empty(run)


def test_a_run_that_another_process_has_just_begun_is_left_alone(tmp_path, monkeypatch):
    """The same command, started twice: between the first file of a run and its training nothing lets it go."""
    seen = []

    def train(directory, *_):
        with pytest.raises(UserError, match="another process is training"):
            settle_place(directory.path, COMMAND)
        seen.extend(each.name for each in directory.path.iterdir())

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vision_train.run.fit._run_plan", train)
    monkeypatch.setattr("vision_train.run.directory.write_recipe", lambda *_: train(RunDirectory(tmp_path / "run")))
    recipe = load_recipe("quickstart", ["trainer.max_epochs=1"])
    monkeypatch.setenv(PASSED_ON, "")  # what it is set to ends with the test
    fit(recipe, run_dir=tmp_path / "run", command=COMMAND, console=Console(quiet=True))
    assert seen.count(OUTPUT_MARK) == 2
    assert "environment.json" in seen


def test_a_run_that_went_on_in_the_meantime_is_not_cleared(tmp_path, monkeypatch):
    """Another process has trained it, and let it go, after this one looked and before it holds it."""
    run = begun(tmp_path / "run")
    held = RunDirectory.held

    def late(directory):
        (run / LAST).parent.mkdir(parents=True)
        (run / LAST).touch()
        return held(directory)

    monkeypatch.setattr(RunDirectory, "held", late)
    assert settle_place(run, COMMAND) == "unfinished"
    assert (run / LAST).exists()


def test_a_later_process_decides_as_the_first_and_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    run = begun(tmp_path / "run", "of the first process, which has just made it")
    assert settle_place(run, COMMAND) == "nothing"
    assert run.exists()
    begun(tmp_path / "cut", COMMAND[0], LAST)
    assert settle_place(tmp_path / "cut", COMMAND) == "unfinished"


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """What `srun` sets for a single process, and an `scontrol` that notes what it is asked."""
    for key, value in {"NTASKS": "1", "NTASKS_PER_NODE": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_JOB_NAME", "training")
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/asked\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    return tmp_path / "asked"


def test_the_signal_of_slurm_queues_the_job_again(slurm, monkeypatch):
    console = Console(file=io.StringIO())
    before = signal.getsignal(signal.SIGUSR1)
    with queued_again(console):
        os.kill(os.getpid(), signal.SIGUSR1)
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
        os.kill(os.getpid(), signal.SIGUSR1)
        monkeypatch.setenv("PATH", "")
        os.kill(os.getpid(), signal.SIGUSR1)
    assert slurm.read_text() == "requeue 4711\nrequeue 12_3\n"
    assert "job 4711 is queued again" in console.file.getvalue()
    assert "job 12_3 is not queued again: scontrol" in console.file.getvalue()
    assert signal.getsignal(signal.SIGUSR1) == before


def test_lightning_does_not_requeue_and_write_checkpoints_of_its_own(slurm):
    (plugin,) = environment_plugins()
    assert plugin.auto_requeue is False
    trainer = build_trainer(load_recipe("quickstart", ["trainer.accelerator=cpu"]), [])
    assert trainer._accelerator_connector.cluster_environment is not None
    assert trainer._accelerator_connector.cluster_environment.auto_requeue is False


def test_elsewhere_there_is_no_such_plugin():
    assert environment_plugins() == []
