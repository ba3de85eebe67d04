"""The folder of a study: its plan, the resolved recipes, the runs and how far each of them is.

How far a study is stands nowhere but in its runs: a run with a result is finished, one with a checkpoint goes on,
anything else starts again. So a study that was killed at any moment continues.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vision_train import __version__
from vision_train.files import mark_output, write_json
from vision_train.locks import alone
from vision_train.recipe import load_recipe, to_plain, write_recipe
from vision_train.study.begun import FACTS, read_begun, refuse_differences, refuse_folder, refuse_foreign
from vision_train.study.plan import UNSEEN, Draw, Plan, differing_keys, flatten, folder_names
from vision_train.study.resolved import ResolvedArm, ResolvedArms, is_folded
from vision_train.study.runs import Run, chain


@dataclass(frozen=True)
class Study:
    """A folder and what is planned in it.

    The folder may hold more arms than the plan asks for, in another order: which of them is the first is a matter of
    reading.
    """

    path: Path
    plan: Plan
    resolved: ResolvedArms

    @property
    def noun(self) -> str:
        """What the samples are, in the plural."""
        return self.resolved[0][0].recipe.kind.noun

    @property
    def facts(self) -> Path:
        """What the study was begun with."""
        return self.path / FACTS

    @property
    def pretrained(self) -> Path:
        """Folder of the runs that others start from."""
        return self.path / "pretrained"

    @cached_property
    def begun(self) -> dict[str, Any]:
        """What earlier commands left in ``study.json``; what they did not know is absent.

        Raises:
            UserError: It is damaged.
        """
        return read_begun(self.path)

    @cached_property
    def titles(self) -> list[str]:
        """Every arm that was ever asked for, in the order of their coming."""
        return list(dict.fromkeys([*self.begun.get("arms", []), *(arm.name for arm in self.plan.arms)]))

    def run(self, arm: int, cell: int, draw: Draw) -> Run:
        """The run of an arm in a cell with a draw, behind it those that pre-train for it."""
        place = self._place(arm, cell)
        phases = self.resolved[arm][cell].phases
        start: Run | None = None
        for phase, digest in zip(phases[:-1], pretraining_digests(self.resolved[arm][cell]), strict=True):
            # Folds of a seed share pre-training that divides its samples otherwise.
            drawn = draw if is_folded(phase) else Draw(draw.seed)
            start = Run(
                f"{self.plan.arms[arm].name} {phase.name}",
                self.path / "recipes" / place / f"{phase.name}.yaml",
                drawn,
                self.pretrained / digest / drawn.name,
                self.path / "logs" / "pretrained" / digest / f"{drawn.name}.txt",
                None,
                start,
            )
        title = " ".join(filter(None, (self.plan.arms[arm].name, self.plan.cells[cell])))
        log = self.path / "logs" / place / f"{draw.name}.txt"
        recipe = self.path / "recipes" / place / "fit.yaml"
        return Run(title, recipe, draw, self.path / "runs" / place / draw.name, log, self.plan.metric, start)

    def runs(self) -> list[Run]:
        """Every run in the order of training: seed by seed, so that a study cut short has pairs to compare.

        What pre-trains for others stands before them, and once even if several start from it.
        """
        ordered: dict[Path, Run] = {}
        for draw in self.plan.draws:
            for cell in range(len(self.plan.cells)):
                for arm in range(len(self.plan.arms)):
                    for run in chain(self.run(arm, cell, draw)):
                        ordered.setdefault(run.folder, run)
        return list(ordered.values())

    def _place(self, arm: int, cell: int) -> Path:
        grid = self.plan.grid
        # By the order of their coming, so that an arm keeps its folder whatever is asked for beside it.
        folder = dict(zip(self.titles, folder_names(self.titles), strict=True))[self.plan.arms[arm].name]
        return Path(folder, *([grid.folders[cell]] if grid else []))

    def _places(self) -> Iterator[tuple[str, int, ResolvedArm, Path]]:
        """Title, cell, resolved and folder of each arm in each cell."""
        for arm, of_arm in enumerate(self.resolved):
            for cell, resolved in enumerate(of_arm):
                yield self.plan.arms[arm].name, cell, resolved, self._place(arm, cell)

    @contextmanager
    def opened(self, command: str) -> Iterator[None]:
        """Hold the folder for one command and see to it that it holds this plan.

        Args:
            command: The command line, for the record.

        Raises:
            UserError: The folder belongs to another plan, or another command is at work in it.
        """
        refuse_foreign(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        mark_output(self.path)
        with alone(self.path / ".lock", f"{self.path}: another compare is at work here; wait for it, or name --out"):
            self._refuse_other_plan()
            self._write_recipes()
            self._write_facts(command=command)
            yield

    def note_reading(self) -> None:
        """Record that this plan was judged with all of its seeds."""
        reading = {"arms": [arm.name for arm in self.plan.arms], "seeds": self.plan.seeds}
        if reading not in self.readings():
            self._write_facts(looks=[*self.readings(), reading])

    def readings(self) -> list[dict[str, Any]]:
        """Arms, the first one first, and seeds with which the study was judged so far."""
        return self.begun.get("looks", [])

    def _write_recipes(self) -> None:
        for _, _, resolved, place in self._places():
            folder = self.path / "recipes" / place
            folder.mkdir(parents=True, exist_ok=True)
            for phase in resolved.phases:
                # Recipes without runs are leftovers: of a first attempt, or of runs that were deleted.
                if not (self._has_runs(place) and (folder / f"{phase.name}.yaml").exists()):
                    write_recipe(folder / f"{phase.name}.yaml", phase.recipe)

    def _write_facts(self, **changed: Any) -> None:
        plan, grid = self.plan, self.plan.grid
        digests = dict(self.begun.get("digests", {}))
        for arm, of_arm in zip(plan.arms, self.resolved, strict=True):
            digests[arm.name] = [_digests(resolved) for resolved in of_arm]
        facts = {
            **self.begun,
            "vision_train": __version__,
            "arms": self.titles,
            "seeds": plan.seeds,
            "folds": plan.folds,
            "grid": {"key": grid.key, "values": list(grid.values)} if grid else None,
            "test_images": [resolved.test_digest for resolved in self.resolved[0]],
            "digests": digests,
            **changed,
        }
        write_json(self.facts, facts)
        self.begun.clear()
        self.begun.update(facts)

    def _refuse_other_plan(self) -> None:
        if self.facts.exists():
            refuse_folder(self.path, self.plan)  # what follows would only follow from that
            refuse_differences(self.path, [*self._other_test(), *self._other_arms()])

    def _other_test(self) -> Iterator[str]:
        before = zip(self.begun["test_images"], self.resolved[0], strict=False)
        if any(was != resolved.test_digest for was, resolved in before):
            yield "the test samples: some came, went or moved since"

    def _other_arms(self) -> Iterator[str]:
        """What changed in arms that have runs; an arm alone is trained anew where its runs are deleted."""
        for title, cell, resolved, place in self._places():
            if self._has_runs(place):
                changes = [*self._other_recipes(resolved, place), *self._other_content(title, cell, resolved)]
                if changes:
                    runs = self.path / "runs" / place
                    yield f"{title}: {'; '.join(changes)} (to train it anew and keep the others, delete {runs})"

    def _other_recipes(self, resolved: ResolvedArm, place: Path) -> Iterator[str]:
        for phase in resolved.phases:
            file = self.path / "recipes" / place / f"{phase.name}.yaml"
            if file.exists():
                stored = load_recipe(file, runnable=False)
                changed = differing_keys([to_plain(stored), to_plain(phase.recipe)], UNSEEN)
                prefix = "" if phase.name == "fit" else f"{phase.name}: "
                yield from (f"{prefix}{key} was {was}, is {now}" for key, (was, now) in changed.items())

    def _other_content(self, title: str, cell: int, resolved: ResolvedArm) -> Iterator[str]:
        cells = self.begun.get("digests", {}).get(title, [])
        before = cells[cell] if cell < len(cells) else {}
        for phase in resolved.phases:
            was, now = before.get(phase.name), _digests(resolved)[phase.name]
            if was and was["images"] != now["images"]:
                yield f"the samples of phase {phase.name}: some came, went or moved since"
            if was and was["weights"] != now["weights"]:
                yield f"model.checkpoint={phase.recipe.model.checkpoint}: holds other weights now"

    def _has_runs(self, place: Path) -> bool:
        return any((self.path / "runs" / place).glob("*"))


def pretraining_digests(resolved: ResolvedArm) -> list[str]:
    """A name for each pre-training phase that depends on all that was trained up to it, the seed aside.

    Arms whose pre-training resolves to the same recipes, samples and weights have the same digests, and so share its
    runs.
    """
    digests, before = [], ""
    for phase in resolved.phases[:-1]:
        plain = flatten(to_plain(phase.recipe))
        meaning = sorted((key, value) for key, value in plain.items() if key not in (*UNSEEN, "run.pretrain"))
        text = json.dumps([before, meaning, phase.samples, phase.weights], ensure_ascii=False)
        before = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        digests.append(before)
    return digests


def _digests(resolved: ResolvedArm) -> dict[str, dict[str, str]]:
    return {phase.name: {"images": phase.samples, "weights": phase.weights} for phase in resolved.phases}
