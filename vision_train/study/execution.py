"""Bringing every run of a study to its end, one after another or several at once."""

from __future__ import annotations

import shlex
import shutil
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vision_train.files import write_json
from vision_train.locks import is_free, take
from vision_train.study.runs import Run

Train = Callable[[Sequence[str], BinaryIO], int]
"""Runs a command line of ``vision-train`` with a log to write to; returns the exit code."""
SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: Run
    seconds: float = 0.0
    """Wall-clock seconds of its process; 0 if it was finished before."""
    error: str | None = None


class Execution:
    """Trains the runs of a study that are not finished.

    Args:
        runs: In order; what a run starts from stands before it.
        train: Calls the command line.
        jobs: How many runs at once.
        say: Takes remarks for the user who waits.
        stop: Ends all calls of ``train`` that are under way, when the study is broken off.
        look: Takes the runs that are under way, now and then.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        train: Train,
        jobs: int,
        say: Callable[[str], None],
        stop: Callable[[], None],
        look: Callable[[Sequence[Run]], None],
    ) -> None:
        self.runs, self.train, self.jobs, self.say, self.stop, self.look = runs, train, jobs, say, stop, look
        self._under_way: dict[Path, Run] = {}
        self._stopping = threading.Event()
        self._ended: dict[Path, Outcome] = {}

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Train, and yield each run as it ends; a failed one does not stop the others.

        Closed early, as Ctrl-C does, it stops the runs under way and starts no others.
        """
        waiting = list(self.runs)
        running: set[Future[Outcome]] = set()
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="run") as pool:
            try:
                while waiting or running:
                    # In the order of the list, past those whose start is still under way.
                    ready = [run for run in waiting if run.start is None or run.start.folder in self._ended]
                    for run in ready[: self.jobs - len(running)]:
                        waiting.remove(run)
                        running.add(pool.submit(self._bring_to_its_end, run))
                    done, running = wait(running, SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
                    self.look(list(self._under_way.values()))
                    for future in done:
                        outcome = future.result()
                        self._ended[outcome.run.folder] = outcome
                        yield outcome
            finally:
                self._stopping.set()
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()

    def _bring_to_its_end(self, run: Run) -> Outcome:
        if run.start and (before := self._ended[run.start.folder]).error:
            return Outcome(run, error=f"it starts from {run.start.title}, which failed: {before.error}")
        if run.finished:
            return Outcome(run)
        run.log.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with self._alone(run):
                if run.finished or self._stopping.is_set():  # a process of a killed command has ended it meanwhile
                    return Outcome(run)
                arguments = fit_arguments(run)
            outcome = self._train(run, arguments)
            if outcome.error is None or is_free(run.lock):
                return outcome
            # A process that was still starting when its command was killed has taken the lock first.

    @contextmanager
    def _alone(self, run: Run) -> Iterator[None]:
        """Enter once no other process trains this run, or the study is broken off.

        A process outlives the command that started it if that is killed, and holds the lock of its log until it ends.
        """
        with ExitStack() as held:
            said = False
            while not self._stopping.is_set():
                if lock := take(run.lock):
                    held.callback(lock.release)
                    break
                if not said:
                    self.say(f"{run.name}: a process of an earlier command trains it; waiting")
                said = True
                self._stopping.wait(SECONDS_BETWEEN_LOOKS)
            yield

    def _train(self, run: Run, arguments: Sequence[str]) -> Outcome:
        began = time.monotonic()
        with run.log.open("ab") as log:
            write_json(run.conditions, {"jobs": self.jobs})
            log.write(f"$ {shlex.join(['vision-train', *arguments])}\n".encode("utf-8", "surrogateescape"))
            log.flush()
            place = log.tell()
            self._under_way[run.folder] = run
            code = self.train(arguments, log)
            del self._under_way[run.folder]
        seconds = time.monotonic() - began
        if code == 0 and run.finished:
            return Outcome(run, seconds)
        reason = _reason(run.log, place, code) if code else f"measured no finite {run.metric}"
        return Outcome(run, seconds, f"{reason} ({run.log})")


def fit_arguments(run: Run) -> list[str]:
    """The command line that goes on with a run, or that starts it in a cleared place."""
    if run.resumable:
        return ["fit", "--resume", str(run.folder)]
    if run.folder.exists():
        shutil.rmtree(run.folder)  # killed before its first checkpoint, or ended without a result
    return begin_arguments(run)


def begin_arguments(run: Run) -> list[str]:
    """The command line that starts a run."""
    return ["fit", str(run.recipe), *run.overrides, "--run-dir", str(run.folder)]


def _reason(log: Path, place: int, code: int) -> str:
    """What a failed run said last: its error message, or the last line of its traceback."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; the system may have run out of memory" if name == "SIGKILL" else ""
        return f"was ended by {name}{hint}"
    with log.open("rb") as file:
        file.seek(place)
        text = file.read().decode("utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    said = [index for index, line in enumerate(lines) if line.startswith("Error: ")]
    if said:
        return "\n".join(lines[said[-1] :]).removeprefix("Error: ")
    return lines[-1].strip() if lines else f"exit code {code} without a word"
