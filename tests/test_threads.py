"""How many threads are chosen, by what, and that the choice reaches the processes that compute."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from vision_train import threads
from vision_train.threads import (
    GRANTED,
    NUMBERS,
    OURS,
    WAITING,
    Count,
    environment_of_each,
    prepare_environment,
    processors,
    use_threads,
    waiting,
)

SAY = """
import json, os, sys
from vision_train.threads import prepare_environment, use_threads, waiting
prepare_environment()
assert "torch" not in sys.modules
before = os.environ.get("OMP_NUM_THREADS")
chosen = use_threads(**json.loads(sys.argv[1]))
import torch
print(json.dumps([chosen.count, chosen.because, torch.get_num_threads(), before, waiting()]))
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which nobody has set anything, on a machine of eight processors."""
    for name in (*NUMBERS, *WAITING, OURS, GRANTED, "SLURM_CPUS_PER_TASK"):
        monkeypatch.setenv(name, "")  # so that what the code sets ends with the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "granted_processors", lambda: None)
    monkeypatch.setattr(threads, "_threads_of_torch", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.mark.parametrize(
    ("affinity", "quota", "granted", "expected"),
    [
        (8, None, None, Count(8, "all of this machine")),
        (3, None, None, Count(3, "the CPU affinity, of 8")),
        (8, 1.5, None, Count(2, "the quota of the control group, 1.5 of 8")),
        (8, 0.25, None, Count(1, "the quota of the control group, 0.25 of 8")),
        (2, 4.0, None, Count(2, "the CPU affinity, of 8")),
        (8, 4.0, "2", Count(2, "VISION_TRAIN_PROCESSORS, set by compare --jobs")),
    ],
)
def test_the_narrowest_limit_grants(monkeypatch, affinity, quota, granted, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(affinity)))
    monkeypatch.setattr(threads, "granted_processors", lambda: quota)
    if granted:
        monkeypatch.setenv(GRANTED, granted)
    assert processors() == expected


def test_a_system_without_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert processors() == Count(8, "all of this machine")


def test_what_comes_first(monkeypatch):
    assert use_threads() == Count(8, "all of this machine")
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert use_threads(processes=2) == Count(4, "OMP_NUM_THREADS in the environment")
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    assert use_threads() == Count(3, "MKL_NUM_THREADS in the environment")
    assert use_threads(recorded=6).count == 6
    assert use_threads(5, recorded=6) == Count(5, "run.threads")
    assert os.environ["OMP_NUM_THREADS"] == "4,2", "what the user has set stays"


@pytest.mark.parametrize("value", ["", "0", "many", "-1"])
def test_what_openmp_ignores_is_no_wish(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert use_threads().because == "all of this machine"


def test_hyper_threads_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(threads, "_threads_of_torch", lambda: 4)
    assert use_threads() == Count(4, "torch's own number for 8 processors (all of this machine)")
    monkeypatch.setattr(threads, "granted_processors", lambda: 3.0)
    assert use_threads() == Count(3, "the quota of the control group, 3 of 8")


def test_processes_share_and_a_second_look_divides_no_further(monkeypatch):
    for _ in range(2):  # a process that another one has started inherits the environment
        prepare_environment()
        assert use_threads(processes=3) == Count(2, "all of this machine, shared by 3 processes")
    assert use_threads(processes=20).count == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert use_threads(processes=3).count == 8


def test_a_process_that_the_first_one_started_takes_its_number_undivided(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(threads, "_INHERITED", "4")
    monkeypatch.setattr(threads, "_threads_of_torch", lambda: 4)  # torch has read what the first process set
    assert use_threads(processes=2) == Count(4, "the first process of the run")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert use_threads(processes=2).count == 2, "of a study, which the process that starts it does not divide"


def test_runs_of_a_study_share_and_the_processes_of_each_run_share_that(monkeypatch):
    use_threads()
    of_each = environment_of_each(2)
    assert (of_each[GRANTED], environment_of_each(1).get(GRANTED), environment_of_each(20)[GRANTED]) == ("4", None, "1")
    for name, value in of_each.items():
        monkeypatch.setenv(name, value)
    assert use_threads(processes=2) == Count(2, "VISION_TRAIN_PROCESSORS, set by compare --jobs, shared by 2 processes")


def test_the_environment_limits_before_torch_is_there_and_leaves_wishes_alone(monkeypatch):
    prepare_environment()
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setattr(threads, "granted_processors", lambda: 2.0)
    prepare_environment()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    monkeypatch.setattr(threads, "granted_processors", lambda: 3.0)
    prepare_environment()
    assert os.environ["OMP_NUM_THREADS"] == "3", "what was set here is no wish of the user"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    prepare_environment()
    assert os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "7")])
def test_a_wish_how_to_wait_stays(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "_too_late", False)
    prepare_environment()
    assert {each: os.environ[each] for each in WAITING if each in os.environ} == {name: value}
    assert waiting() == f"{name}={value}"


def test_told_after_torch_was_imported_they_spin(monkeypatch):
    monkeypatch.setattr(threads, "_too_late", False)
    prepare_environment()
    assert "torch was imported before" in waiting()
    assert "OMP_WAIT_POLICY=PASSIVE" in waiting()


@pytest.fixture
def said() -> Callable[..., list]:
    """What a process says that sets its environment, imports torch and settles its threads; and what OpenMP says."""

    def call(arguments: dict | None = None, **environment: str) -> tuple[list, str]:
        kept = {name: value for name, value in os.environ.items() if name not in (*NUMBERS, *WAITING, OURS, GRANTED)}
        command = [sys.executable, "-c", SAY, json.dumps(arguments or {})]
        whole = {**kept, **environment, "OMP_DISPLAY_ENV": "VERBOSE"}
        done = subprocess.run(command, env=whole, capture_output=True, text=True, check=True)
        return json.loads(done.stdout), done.stderr

    return call


@pytest.mark.slow
def test_the_runtime_that_torch_loads_obeys(said):
    (count, because, of_torch, before, how), runtime = said(VISION_TRAIN_PROCESSORS="1")
    assert (count, of_torch, before) == (1, 1, "1")
    assert (because, how) == ("VISION_TRAIN_PROCESSORS, set by compare --jobs", "OMP_WAIT_POLICY=PASSIVE")
    if "GOMP_SPINCOUNT" in runtime:
        assert "GOMP_SPINCOUNT = '0'" in runtime, "waiting threads spin"


@pytest.mark.slow
def test_more_threads_than_processors_are_started_where_a_key_or_a_record_asks(said):
    (count, because, of_torch, _, _), _ = said({"wanted": 5})
    assert (count, because, of_torch) == (5, "run.threads", 5)
