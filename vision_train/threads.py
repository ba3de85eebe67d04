"""How many threads compute in a process, and that those which wait sleep.

Threads that wait spin by default, for as long as a step of a small network takes. Where there are fewer processors than
threads, as with two runs on one machine or in a container with a quota, they take the time that the others need. The
runtime of OpenMP reads its environment once, when torch is imported, so :func:`prepare_environment` comes before that.
Nothing is measured: the number of threads changes the last bits of results, and has to be the same each time.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from functools import cache

from vision_train.control_groups import granted_processors
from vision_train.processes import launched_rank

THREADS = "OMP_NUM_THREADS"
NUMBERS = ("MKL_NUM_THREADS", THREADS)
"""Environment variables that set how many threads torch starts; it takes the first before the second."""
OURS = "VISION_TRAIN_THREADS"
"""Environment variable: the value of ``OMP_NUM_THREADS`` that is ours, and no wish of the user."""
GRANTED = "VISION_TRAIN_PROCESSORS"
"""Environment variable: processors that a command which runs several processes at a time grants to each."""
WAIT_POLICY = "OMP_WAIT_POLICY"
WAITING = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables that say what waiting threads do: OpenMP's own, that of GNU's runtime and of LLVM's."""

_INHERITED = os.environ.get(OURS)
"""The number that the process which started this one has set, as it was when this module was imported."""
_too_late = False
"""Whether torch was imported before its waiting threads were told to sleep."""


@dataclass(frozen=True)
class Count:
    """A number of processors or threads."""

    count: int
    because: str
    """What sets it, in words."""


def prepare_environment() -> None:
    """Let threads that wait sleep, and start no more than the processors that are granted; before torch is imported.

    What the user has set in the environment stays.
    """
    global _too_late
    if not any(name in os.environ for name in WAITING):
        os.environ[WAIT_POLICY] = "PASSIVE"  # those that this process starts read it in any case
        _too_late = "torch" in sys.modules
    if _set_by_user() is None:
        os.environ.pop(THREADS, None)
        os.environ.pop(OURS, None)
        granted = processors()
        if granted.count < _affinity():  # OpenMP sees the affinity by itself, and torch hyper-threads
            os.environ[THREADS] = os.environ[OURS] = str(granted.count)


def use_threads(wanted: int | None = None, *, recorded: int | None = None, processes: int = 1) -> Count:
    """Settle with how many threads torch computes in this process from now on.

    Args:
        wanted: What the recipe asks for; comes before all else.
        recorded: What a run that goes on was begun with; comes before the environment.
        processes: That train together on this machine and share its processors.

    Returns:
        The number, and what set it.
    """
    import torch

    own = _threads_of_torch()
    prepare_environment()
    named = _set_by_user()
    if wanted is not None:
        chosen = Count(wanted, "run.threads")
    elif recorded is not None:
        chosen = Count(recorded, "the record of the run, which goes on with as many")
    elif named is not None:
        chosen = Count(_number(os.environ[named]), f"{named} in the environment")
    elif _INHERITED and launched_rank() > 0:
        chosen = Count(int(_INHERITED), "the first process of the run")  # which has divided the processors already
    else:
        chosen = _share(own, processes)
    torch.set_num_threads(chosen.count)
    if named is None:
        # Lightning would else divide the processors of the machine by the processes that it starts.
        os.environ[THREADS] = os.environ[OURS] = str(chosen.count)
    return chosen


def processors() -> Count:
    """Processors that this process may use; a container, scheduler or command may grant fewer than there are."""
    seen = os.cpu_count() or 1
    limits = [Count(seen, "all of this machine"), Count(_affinity(), f"the CPU affinity, of {seen}")]
    if (quota := granted_processors()) is not None:
        limits.append(Count(max(1, math.ceil(quota)), f"the quota of the control group, {quota:g} of {seen}"))
    if GRANTED in os.environ:
        limits.append(Count(int(os.environ[GRANTED]), f"{GRANTED}, set by compare --jobs"))
    return min(limits, key=lambda limit: limit.count)  # the first of equals


def environment_of_each(jobs: int) -> dict[str, str]:
    """The environment of a process, so many of which run at a time and share the processors of this one."""
    share = {GRANTED: str(processors_of_each(jobs))} if jobs > 1 else {}
    return {**os.environ, **share}


def processors_of_each(jobs: int) -> int:
    """Processors for each of so many processes at a time."""
    return max(1, processors().count // jobs)


def waiting() -> str:
    """What threads do that wait for others, in words."""
    if _too_late:
        return f"spin, as torch was imported before vision_train; set {WAIT_POLICY}=PASSIVE before that"
    found = next((name for name in WAITING if name in os.environ), None)
    return f"{found}={os.environ[found]}" if found else "as the runtime of OpenMP has it"


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _share(own: int, processes: int) -> Count:
    """Threads of one of so many processes where nobody says how many.

    Args:
        own: What torch would take, which is one for each core and not for each hyper-thread.
        processes: That train together on this machine.
    """
    granted = processors()
    because = granted.because
    if own < granted.count:
        granted, because = Count(own, ""), f"torch's own number for {granted.count} processors ({because})"
    if processes == 1 or "SLURM_CPUS_PER_TASK" in os.environ:  # where each process is granted its own
        return Count(granted.count, because)
    return Count(max(1, granted.count // processes), f"{because}, shared by {processes} processes")


def _set_by_user() -> str | None:
    """The variable by which the user has set the number of threads."""
    ours = os.environ.get(OURS)
    numbers = {name: os.environ.get(name, "") for name in NUMBERS}
    return next((name for name, value in numbers.items() if _number(value) and (name, value) != (THREADS, ours)), None)


def _number(value: str) -> int:
    """Threads at the outermost level of a list such as ``4,2``; 0 for what is no number, which OpenMP ignores."""
    first = value.partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


@cache
def _threads_of_torch() -> int:
    """What torch, or who called its ``set_num_threads``, took before it was changed here."""
    import torch

    return torch.get_num_threads()
