"""Each run in a process of its own, so that its memory and its failures are its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from vision_train.locks import HELD
from vision_train.threads import environment_of_each

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
            key: value
            for key, value in environment_of_each(jobs).items()
            if key not in ("FORCE_COLOR", "TTY_COMPATIBLE")
        }
        self._running: set[subprocess.Popen[bytes]] = set()
        self._changing = threading.Lock()
        self._stopped = False

    def __call__(self, arguments: Sequence[str], log: BinaryIO) -> int:
        """Run a command line to its end.

        Args:
            arguments: What follows ``vision-train``.
            log: Takes what it prints. The process holds its lock (:func:`lock_of`) for as long as it lives.

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
                env={**self.environment, HELD: str(lock_of(Path(log.name)))},
                **_group_of_its_own(),
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
            _interrupt(process)
        for process in running:
            try:
                process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                _kill(process)


def lock_of(log: Path) -> Path:
    """The lock that the process holds which writes a log."""
    return log.with_suffix(".lock")


# mypy takes the branch of the system that it checks for (--platform win32).
if sys.platform == "win32":

    def _group_of_its_own() -> dict[str, Any]:
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}

    def _interrupt(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            # A group of its own hears no Ctrl-C; the command line takes both alike.
            process.send_signal(signal.CTRL_BREAK_EVENT)

    def _kill(process: subprocess.Popen[bytes]) -> None:
        tree = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(tree, check=False, capture_output=True)  # noqa: S603 - a fixed command; it may have ended

else:

    def _group_of_its_own() -> dict[str, Any]:
        return {"start_new_session": True}

    def _interrupt(process: subprocess.Popen[bytes]) -> None:
        _signal(process, signal.SIGINT)

    def _kill(process: subprocess.Popen[bytes]) -> None:
        _signal(process, signal.SIGKILL)

    def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        try:
            os.killpg(process.pid, number)  # the group, for the processes that it started in turn
        except ProcessLookupError:
            return  # it has ended by itself
