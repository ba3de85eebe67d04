"""``compare`` from end to end, with real runs in processes of their own."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import Result

DEADLINE = 300  # seconds; a test that hangs ends here
STUDY = ("compare", "tiny.yaml", "wide.yaml", "--seeds", "2", "data.root=photos")


@pytest.fixture
def arms(place: Path) -> Path:
    Path("wide.yaml").write_text("extends: tiny.yaml\nmodel: {args: {embed_dim: 16}}\n")
    return place


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "vision_train", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, start_new_session=True, **pipes)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - began < DEADLINE, f"{path} does not come"
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_with_no_warning_the_same_command_goes_on_and_repeats_nothing(arms, cli):
    """Its orphan, the run under way, is waited for: two processes never train one run."""
    process = start(*STUDY)
    first, second = Path("study/runs/tiny/0"), Path("study/logs/wide/0.txt")
    wait_for(Path("study/runs/wide/0/recipe.yaml"), process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE)
    before = (first / "summary.json").stat().st_mtime_ns

    again = cli(*STUDY)
    assert again.exit_code == 0, again.output
    assert (first / "summary.json").stat().st_mtime_ns == before
    assert "tiny seed 0 (1 of 2)" not in again.stdout
    assert len(second.read_text().split("$ vision-train")) == 2, "the run under way was begun anew"
    table = json.loads(Path("study/table.json").read_text())
    assert table["runs"] == {"finished": 4, "planned": 4, "failures": []}
    (cell,) = table["cells"]
    assert cell["comparisons"][0]["item_interval"] is not None
    summary = json.loads((first / "summary.json").read_text())
    assert cell["arms"][0]["values"]["0"] == summary["test/accuracy"]
    assert {path.name for path in Path("study").iterdir()} >= {"table.md", "plot.png", "compare.html"}


@pytest.mark.slow
def test_ctrl_c_stops_the_runs_under_way(arms):
    process = start(*STUDY, "trainer.max_epochs=5000", "--jobs", "2")
    for arm in ("tiny", "wide"):
        wait_for(Path(f"study/runs/{arm}/0/phases/fit/checkpoints/last.ckpt"), process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, errors
    assert "The same command goes on." in output
    assert "Traceback" not in errors
    assert "Go on with: vision-train fit --resume" in Path("study/logs/tiny/0.txt").read_text()


@pytest.mark.slow
def test_emitted_commands_run_by_a_shell_and_collected_come_to_what_compare_finds(arms, cli):
    study = ("compare", "tiny.yaml", "wide.yaml", "--seeds", "1", "data.root=photos")
    emitted = cli(*study, "--emit")
    assert emitted.exit_code == 0, emitted.output
    lines = emitted.stdout.splitlines()
    assert [line.partition("# ")[2] for line in lines] == ["1: tiny seed 0", "2: wide seed 0"]
    missing = cli(*study, "--collect")
    assert missing.exit_code == 2
    assert "2 of 2 runs have no result" in missing.stderr
    Path("commands.txt").write_text(emitted.stdout)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for says in ("epoch 1/1", "is finished"):
        command = ["bash", "-e", "commands.txt"]
        done = subprocess.run(command, env=environment, text=True, capture_output=True, check=True, timeout=DEADLINE)
        assert done.stdout.count(says) == 2, done.stdout
    assert cli(*study, "--collect").exit_code == 0
    collected = json.loads(Path("study/table.json").read_text())
    shutil.rmtree("study/runs/wide")
    assert cli(*study).exit_code == 0  # which trains it by itself
    table = json.loads(Path("study/table.json").read_text())
    assert [arm["values"] for arm in collected["cells"][0]["arms"]] == [
        arm["values"] for arm in table["cells"][0]["arms"]
    ]
    assert collected["cells"][0]["comparisons"] == table["cells"][0]["comparisons"]


@pytest.mark.slow
def test_a_command_whose_start_has_not_ended_is_refused_and_succeeds_later(arms, cli, monkeypatch):
    Path("tuned.yaml").write_text("extends: tiny.yaml\nrun: {pretrain: wide.yaml}\nmodel: {args: {embed_dim: 16}}\n")
    study = ("compare", "tiny.yaml", "tuned.yaml", "--seeds", "1", "data.root=photos")
    Path("wide.yaml").write_text(Path("wide.yaml").read_text() + "data: {root: photos}\n")
    lines = [shlex.split(line, comments=True)[1:] for line in cli(*study, "--emit").stdout.splitlines()]
    plain, start, tuned = lines
    folder, started = Path(start[-2]), Path(tuned[-2])

    def trained(command: list[str]) -> Result:
        monkeypatch.setattr(sys, "argv", ["vision-train", *command])  # by which a run knows its own command
        return cli(*command)

    assert trained(tuned).exit_code == 2
    assert trained(start).exit_code == 0
    for file in ("weights.safetensors", "summary.json"):  # as while it trains: it has the best of its epochs so far
        (folder / file).unlink()
    refused = trained(tuned)
    assert refused.exit_code == 2
    assert f"wait for the end of {folder}" in refused.stderr
    assert not started.exists()
    shutil.rmtree(folder)
    assert [trained(command).exit_code for command in (start, tuned, plain, tuned)] == [0] * 4
    collected = cli(*study, "--collect")
    assert collected.exit_code == 0, collected.output
    summary = started / "summary.json"
    summary.write_text(summary.read_text().replace("test/accuracy", "test/other"))
    emitted = cli(*study, "--emit")
    assert (emitted.exit_code, emitted.stdout) == (0, "")
    assert f"delete {started} to train it anew" in emitted.stderr
