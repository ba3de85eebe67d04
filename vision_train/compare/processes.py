"""Each run in a process of its own, so that its memory and its failures are its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import BinaryIO

SECONDS_TO_STOP = 20.0
"""What an interrupted run is given to end by itself, before it is killed."""


class RunProcesses:
    """Calls ``vision-train`` in new processes, and stops all of them at once.

    Args:
        jobs: How many run at a time; with several, each is given its share of the processors.
    """

    def __init__(self, jobs: int) -> None:
        # What runs print goes to logs, whatever the terminal of this process can do.
        self.environment = {
            key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "TTY_COMPATIBLE")
        }
        if jobs > 1:
            self.environment.setdefault("OMP_NUM_THREADS", str(threads_for_each(jobs)))
        self._running: set[subprocess.Popen[bytes]] = set()
        self._changing = threading.Lock()
        self._stopped = False

    def __call__(self, arguments: Sequence[str], log: BinaryIO) -> int:
        """Run a command line to its end.

        Args:
            arguments: What follows ``vision-train``.
            log: Takes what it prints. The process holds it open, and with it any lock on it, for as long as it lives.

        Returns:
            Its exit code; the negative number of the signal that ended it.
        """
        command = [sys.executable, "-m", "vision_train", *arguments]
        with self._changing:
            if self._stopped:
                return -signal.SIGINT
            # A group of its own: Ctrl-C reaches this process alone, which then stops all runs together.
            process = subprocess.Popen(  # noqa: S603 - our own command line, and no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._changing:
                self._running.discard(process)

    def stop(self) -> None:
        """Interrupt what runs, as Ctrl-C would, and start nothing more."""
        with self._changing:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGINT)
        for process in running:
            try:
                process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)


def threads_for_each(jobs: int) -> int:
    """Threads with which so many processes share the processors that this one may use."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, processors // jobs)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)  # the group, for the processes that it started in turn
    except ProcessLookupError:
        return  # it has ended by itself
