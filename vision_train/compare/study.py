"""The folder of a study: its plan, the resolved recipes, the runs and how far each of them is.

How far a study is stands nowhere but in its runs: a run with a ``summary.json`` is finished, one with a checkpoint goes
on, anything else starts again. So a study that was killed at any moment continues.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_train import __version__
from vision_train.compare.plan import UNSEEN, Plan
from vision_train.compare.recipe_diff import differing_keys, flatten
from vision_train.compare.settings import Setting, Settings
from vision_train.errors import UserError
from vision_train.files import write_json
from vision_train.recipe import load_recipe, to_plain, write_recipe

MOST_NAMED = 5
"""Differences between two plans that a message lists."""


@dataclass(frozen=True)
class Run:
    """One run of the study: a recipe and a seed."""

    title: str
    recipe: Path
    """The resolved recipe in the study folder."""
    seed: int
    folder: Path
    """The run directory."""
    log: Path
    """What the run printed."""
    start: Run | None = None
    """The run, on the same seed, whose best weights this one begins with."""

    @property
    def finished(self) -> bool:
        """Whether it has its result."""
        return (self.folder / "summary.json").is_file()

    @property
    def begun(self) -> bool:
        """Whether it has a checkpoint to go on from."""
        return any(self.folder.glob("phases/*/checkpoints/last.ckpt"))


@dataclass(frozen=True)
class Study:
    """A folder and what is planned in it."""

    path: Path
    plan: Plan
    settings: Settings

    @property
    def facts(self) -> Path:
        """What the study was begun with."""
        return self.path / "study.json"

    def run(self, arm: int, cell: int, seed: int) -> Run:
        """The run of an arm in a cell with a seed, behind it those that pre-train for it."""
        place = self._place(arm, cell)
        phases = self.settings[arm][cell].phases
        start: Run | None = None
        for (name, _), digest in zip(phases[:-1], pretraining_digests(self.settings[arm][cell]), strict=True):
            start = Run(
                f"{self.plan.arms[arm].name} {name}",
                self.path / "recipes" / place / f"{name}.yaml",
                seed,
                self.path / "pretrained" / digest / str(seed),
                self.path / "logs" / "pretrained" / digest / f"{seed}.txt",
                start,
            )
        title = " ".join(filter(None, (self.plan.arms[arm].name, self.plan.cells[cell])))
        log = self.path / "logs" / place / f"{seed}.txt"
        recipe = self.path / "recipes" / place / "fit.yaml"
        return Run(title, recipe, seed, self.path / "runs" / place / str(seed), log, start)

    def runs(self) -> list[Run]:
        """Every run in the order of training: seed by seed, so that a study cut short has pairs to compare.

        What pre-trains for others stands before them, and once even if several start from it.
        """
        ordered: dict[Path, Run] = {}
        for seed in range(self.plan.seeds):
            for cell in range(len(self.plan.cells)):
                for arm in range(len(self.plan.arms)):
                    for run in _chain(self.run(arm, cell, seed)):
                        ordered.setdefault(run.folder, run)
        return list(ordered.values())

    def _place(self, arm: int, cell: int) -> Path:
        grid = self.plan.grid
        return Path(self.plan.arms[arm].folder, *([grid.folders[cell]] if grid else []))

    @contextmanager
    def opened(self, command: str) -> Iterator[None]:
        """Hold the folder for one command and see to it that it holds this plan.

        Args:
            command: The command line, for the record.

        Raises:
            UserError: The folder cannot be written, belongs to another plan, or another command is at work in it.
        """
        _refuse_unwritable(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"{self.path}: another compare is at work here; wait for it, or name --out") from error
            self._refuse_other_plan()
            self._write_plan(command)
            yield

    def _write_plan(self, command: str) -> None:
        for arm, of_arm in enumerate(self.settings):
            for cell, setting in enumerate(of_arm):
                folder = self.path / "recipes" / self._place(arm, cell)
                folder.mkdir(parents=True, exist_ok=True)
                for name, recipe in setting.phases:
                    # Without its facts a study has no runs yet: recipes that lie here are leftovers of a first attempt.
                    if not (self.facts.exists() and (folder / f"{name}.yaml").exists()):
                        write_recipe(folder / f"{name}.yaml", recipe)
        plan, grid = self.plan, self.plan.grid
        facts = {
            "vision_train": __version__,
            "command": command,
            "arms": [arm.name for arm in plan.arms],
            "seeds": plan.seeds,
            "grid": {"key": grid.key, "values": list(grid.values)} if grid else None,
            "test_images": [setting.test_digest for setting in self.settings[0]],
        }
        write_json(self.facts, facts)

    def _refuse_other_plan(self) -> None:
        if not self.facts.exists():
            foreign = [entry.name for entry in self.path.iterdir() if entry.name not in (".lock", "recipes")]
            if foreign:
                raise UserError(f"{self.path}: holds {foreign[0]} and is no study; name a new or empty folder as --out")
            return
        try:
            begun = json.loads(self.facts.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{self.facts}: is damaged ({error}); name a new folder as --out") from error
        differences = [*self._other_shape(begun), *self._other_recipes()]
        if differences:
            rest = len(differences) - MOST_NAMED
            named = "\n  ".join(differences[:MOST_NAMED] + ([f"and {rest} more"] if rest > 0 else []))
            raise UserError(
                f"{self.path}: holds another study; runs of the two must not be mixed. Name another --out, or undo:\n"
                f"  {named}"
            )

    def _other_shape(self, begun: dict[str, Any]) -> Iterator[str]:
        """Arms, values and seeds may be added at the end; none may go or change places."""
        plan, grid = self.plan, self.plan.grid
        arms, stored = [arm.name for arm in plan.arms], begun["arms"]
        if arms[: len(stored)] != stored:
            yield f"recipes: were {', '.join(stored)}, are {', '.join(arms)} (further ones go to the end)"
        if plan.seeds < begun["seeds"]:
            yield f"--seeds: were {begun['seeds']}, are {plan.seeds}"
        old = begun["grid"]
        if (old is None) != (grid is None) or (old and grid and old["key"] != grid.key):
            yield f"--grid: was {old['key'] if old else 'not given'}, is {grid.key if grid else 'not given'}"
        elif old and grid and list(grid.values[: len(old["values"])]) != old["values"]:
            yield f"--grid: values were {', '.join(old['values'])}, are {', '.join(grid.values)}"
        elif any(
            was != setting.test_digest for was, setting in zip(begun["test_images"], self.settings[0], strict=False)
        ):
            yield "the test images: some came, went or moved since"

    def _other_recipes(self) -> Iterator[str]:
        for arm, of_arm in enumerate(self.settings):
            for cell, setting in enumerate(of_arm):
                for name, recipe in setting.phases:
                    file = self.path / "recipes" / self._place(arm, cell) / f"{name}.yaml"
                    if file.exists():
                        stored = load_recipe(file, runnable=False)
                        changed = differing_keys([to_plain(stored), to_plain(recipe)], UNSEEN)
                        phase = "" if name == "fit" else f" {name}"
                        for key, (was, now) in changed.items():
                            yield f"{self.plan.arms[arm].name}{phase}: {key} was {was}, is {now}"


def pretraining_digests(setting: Setting) -> list[str]:
    """A name for each pre-training phase that depends on all that was trained up to it, the seed aside.

    Arms whose pre-training resolves to the same recipes have the same digests, and so share its runs.
    """
    digests, before = [], ""
    for _, recipe in setting.phases[:-1]:
        plain = {key: value for key, value in flatten(to_plain(recipe)).items() if key not in (*UNSEEN, "run.pretrain")}
        text = json.dumps([before, sorted(plain.items())], ensure_ascii=False)
        before = hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]
        digests.append(before)
    return digests


def _chain(run: Run) -> list[Run]:
    return [*(_chain(run.start) if run.start else []), run]


def _refuse_unwritable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: is a file; name a folder")
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({os.strerror(error.errno or 0)})") from error
