"""The run directory: everything that one run leaves behind, and where."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vision_train.artefacts import Artefact, Codec, Metric, write_artefact
from vision_train.errors import UserError
from vision_train.files import OUTPUT_MARK, mark_output, read_mapping, write_json
from vision_train.locks import alone
from vision_train.processes import launched_rank
from vision_train.recipe import Recipe, write_recipe
from vision_train.run.environment import environment
from vision_train.threads import Count

if TYPE_CHECKING:
    from vision_train.run.precision import Precision

RUNS = Path("runs")
"""Where runs are numbered, below the working directory."""
PSEUDO_LABELS = "pseudo_labels.csv"
"""File in the folder of a phase: the labels that the pool has got for it, written before it begins."""
PASSED_ON = "VISION_TRAIN_RUN_DIRECTORY"
"""Environment variable by which the first process tells those it starts where the run directory is."""

LOCK = ".lock"
"""File that the process which trains the run holds; it stays."""

WORTH_KEEPING = 60.0
"""Seconds of training after which the log of a failed run is worth more than a tidy folder."""


@dataclass(frozen=True)
class RunDirectory:
    """Paths inside a run directory."""

    path: Path
    made: tuple[Path, ...] = ()
    """Folders around it that were made for it, the innermost first."""

    @property
    def recipe(self) -> Path:
        """The resolved recipe; running it again repeats the run."""
        return self.path / "recipe.yaml"

    @property
    def environment(self) -> Path:
        """What the run was begun on and with."""
        return self.path / "environment.json"

    @property
    def classes(self) -> Path:
        """The label map: class names in the order of the labels."""
        return self.path / "classes.json"

    @property
    def metrics(self) -> Path:
        """The log of all phases."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """Final figures, flat."""
        return self.path / "summary.json"

    @property
    def artefacts(self) -> Path:
        """What the report shows."""
        return self.path / "artefacts"

    @property
    def best(self) -> Path:
        """Weights of the best epoch of the phase that the run delivers; of the latest one while it trains."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def weights(self) -> Path:
        """The weights alone that the finished run delivers, the averaged ones if there are any."""
        return self.path / "weights.safetensors"

    @property
    def unfinished(self) -> bool:
        """Whether this is a run that has weights and no final figures yet."""
        return self.best.is_file() and not self.summary.is_file()

    def phase(self, name: str) -> Path:
        """Folder of one training phase."""
        return self.path / "phases" / name

    def pseudo_labels(self) -> list[Path]:
        """What the pool got of labels before the phases of the run, the oldest first."""
        found = self.path.glob(f"phases/*/{PSEUDO_LABELS}")
        return sorted(found, key=lambda file: file.stat().st_mtime)

    def read_classes(self) -> list[str]:
        """The label map.

        Raises:
            UserError: The directory holds none, so it is no run or one that never started.
        """
        if not self.classes.is_file():
            raise UserError(f"{self.path}: holds no classes.json, so it is not a run directory of vision-train")
        try:
            return json.loads(self.classes.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{self.classes}: is damaged ({error}); restore it from a copy of the run") from error

    def recorded_threads(self) -> int | None:
        """With how many threads the run was begun; None where its record is gone or of a version that noted none.

        Raises:
            UserError: The record is damaged.
        """
        if not self.environment.is_file():
            return None
        threads = read_mapping(self.environment, "restore it from a copy of the run, or delete it").get("threads")
        return threads if isinstance(threads, int) else None

    @property
    def described_metrics(self) -> Path:
        """What a reader needs to know of each metric."""
        return self.path / "metrics.json"

    def write_metrics(self, metrics: Sequence[Metric]) -> None:
        """Add descriptions of metrics, each once, so that readers need not know the tasks."""
        file = self.described_metrics
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        described = {metric["name"]: metric for metric in [*known, *map(asdict, metrics)]}
        write_json(self.described_metrics, list(described.values()))

    def read_described(self) -> dict[str, Metric]:
        """What the tasks of the run say of their metrics, by name; nothing in runs that kept no such file."""
        file = self.described_metrics
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
        return {each["name"]: Metric(**each) for each in known}

    def write_artefacts(self, artefacts: Sequence[Artefact], codecs: Mapping[str, Codec] | None = None) -> None:
        """Write artefacts for the report; ``codecs`` store those of a kind of data."""
        for artefact in artefacts:
            write_artefact(self.artefacts, artefact, codecs)

    def held(self) -> AbstractContextManager[None]:
        """Keep other processes from training this run meanwhile; a UserError if another one trains it."""
        return alone(
            self.path / LOCK, f"{self.path}: another process is training this run; wait until it ends, or stop it"
        )

    def clear(self) -> None:
        """Remove what lies here, for a process that holds the run; the folder itself may be a link to another disk."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK:  # without it, another process could hold the run as well
                entry.unlink()

    def discard(self) -> None:
        """Remove a new run that failed before its first checkpoint, so that nothing half-made is left.

        One that had trained for a while is kept all the same: its log says what happened.
        """
        if self.seconds_so_far() < WORTH_KEEPING and not any(self.path.rglob("*.ckpt")):
            if self.path.is_symlink():
                self.clear()
                return
            shutil.rmtree(self.path, ignore_errors=True)
            for folder in self.made:
                with suppress(OSError):  # another run has come to lie in it
                    if {entry.name for entry in folder.iterdir()} <= {OUTPUT_MARK}:
                        (folder / OUTPUT_MARK).unlink(missing_ok=True)
                    folder.rmdir()

    def seconds_so_far(self) -> float:
        """Wall-clock seconds that the log covers."""
        if not self.metrics.exists():
            return 0.0
        lines = [line for line in self.metrics.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        return float(json.loads(lines[-1])["time"]) if lines else 0.0


def relative(path: Path) -> Path:
    """A path below the working directory without that one's."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def open_run(path: Path, *, with_weights: bool = False) -> RunDirectory:
    """Open an existing run directory.

    Args:
        path: The directory.
        with_weights: Demand the weights of a best epoch.

    Raises:
        UserError: There is no run at this place, or it has not come so far.
    """
    if not path.is_dir():
        above = (each for each in path.parents if path.exists() and (each / "classes.json").is_file())
        run = next(above, None)
        hint = "" if run is None else f"; it is a file of the run {run}, name that"
        raise UserError(f"{path}: no such run directory{hint}")
    directory = RunDirectory(path.absolute())
    if not directory.recipe.is_file():
        raise UserError(f"{path}: holds no recipe.yaml, so it is not a run directory of vision-train")
    if with_weights and not directory.best.is_file():
        raise UserError(f"{path}: has no weights yet; finish it with `vision-train fit --resume {path}`")
    return directory


def open_unfinished(path: Path) -> RunDirectory:
    """Open a run to go on with it.

    Raises:
        UserError: There is no run at this place, or it is finished.
    """
    directory = open_run(path)
    if directory.summary.exists() and launched_rank() == 0:
        raise UserError(f"{path}: is finished; start from its weights with model.checkpoint={path}")
    return directory


@contextmanager
def create_run(
    recipe: Recipe,
    classes: list[str],
    run_dir: Path | None,
    command: list[str],
    threads: Count,
    precision: Precision,
) -> Iterator[RunDirectory]:
    """Create and fill the directory of a new run, and hold it in this context.

    Only the first process creates and holds; those it starts are told the name.

    Args:
        recipe: The resolved recipe; its name and the next free number make the path ``runs/<name>/<n>``.
        classes: The label map.
        run_dir: Use this path instead; it must not exist or be empty.
        command: The command line, for the record.
        threads: With how many each process computes, for the record.
        precision: In which number format, for the record.

    Raises:
        UserError: The path is taken or cannot be written, another process has just begun a run there, or processes
            started by someone else were not told a path.
    """
    if launched_rank() > 0:
        told = run_dir or os.environ.get(PASSED_ON)
        if told is None:
            raise UserError("processes started from outside must share one directory; name it with --run-dir")
        yield RunDirectory(Path(told).absolute())
        return
    made = _absent((run_dir or RUNS / recipe.name / "0").absolute().parent)
    directory = RunDirectory(_claim(recipe.name, run_dir), made)
    # From before the first file on: another process would take a run that nobody holds for one that was killed.
    with directory.held():
        if run_dir is not None:
            refuse_taken(run_dir)
        os.environ[PASSED_ON] = str(directory.path)
        if RUNS.absolute() in made:
            mark_output(RUNS)  # it may lie among images, and is left out of them while it is empty too
        mark_output(directory.path)
        write_recipe(directory.recipe, recipe)
        write_json(directory.classes, classes)
        write_json(directory.environment, environment(recipe, command, threads, precision))
        yield directory


def _absent(folder: Path) -> tuple[Path, ...]:
    """A folder and those around it, as far as they are not there yet."""
    return tuple(place for place in (folder, *folder.parents) if not place.exists())


def is_empty(folder: Path) -> bool:
    """Whether nothing lies in a folder, or the lock alone of a run that was cleared away."""
    return all(entry.name == LOCK for entry in folder.iterdir())


def refuse_taken(run_dir: Path) -> None:
    """Refuse a place for a run where something lies already, or that lies inside another run.

    Raises:
        UserError: It is there and is not an empty folder, or a folder around it is a run.
    """
    if run_dir.exists() and not (run_dir.is_dir() and is_empty(run_dir)):
        raise UserError(f"{run_dir}: exists and is not empty; name another --run-dir, or continue with --resume")
    around = [RunDirectory(folder) for folder in run_dir.absolute().parents if (folder / OUTPUT_MARK).exists()]
    if inside := [other.path for other in around if other.recipe.is_file() and other.environment.is_file()]:
        raise UserError(f"{run_dir}: lies inside the run {inside[0]}; name a --run-dir outside of it")


def _claim(name: str, run_dir: Path | None) -> Path:
    try:
        if run_dir is not None:
            refuse_taken(run_dir)
            run_dir.mkdir(parents=True, exist_ok=True)
            return run_dir.absolute()
        parent = (RUNS / name).absolute()
        parent.mkdir(parents=True, exist_ok=True)
        taken = [int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal()]
        number = max(taken, default=-1) + 1
        while True:  # another run may claim the number first; making the folder decides
            try:
                (parent / str(number)).mkdir()
            except FileExistsError:
                number += 1
            else:
                return parent / str(number)
    except OSError as error:
        place = run_dir or RUNS / name
        raise UserError(
            f"{place}: cannot be created ({error.strerror}); name a writable place with --run-dir"
        ) from error
