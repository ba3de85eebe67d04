"""Runs that nothing was trained for, and studies that nothing was built for."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from vision_train.artefacts import Items, Metric, write_artefact
from vision_train.files import write_json
from vision_train.recipe import Recipe, load_recipe, write_recipe
from vision_train.study.plan import make_plan
from vision_train.study.resolved import Phase, ResolvedArm
from vision_train.study.study import Study

ARMS = ("plain.yaml", "mixed.yaml")
ITEMS = [f"scan {index}" for index in range(100)]


@dataclass
class MadeUpRuns:
    """Stands for training: every run of recipe ``name`` and a seed scores ``accuracy(name, seed)``."""

    accuracy: Callable[[str, int], float | None]
    failing: set[tuple[str, int]] = field(default_factory=set)
    trained: list[tuple[str, int]] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)
    items: Callable[[int], list[str]] = lambda seed: ITEMS
    """Seed -> ids of its test items."""
    warnings: Callable[[str, int], list[str]] = lambda name, seed: []
    """Recipe and seed -> what its run warns of."""

    def __call__(self, arguments: Sequence[str], log: BinaryIO) -> int:
        self.commands.append(list(arguments))
        if arguments[1] == "--resume":
            folder = Path(arguments[2])
            name, seed = folder.parent.name, int(folder.name)
        else:
            recipe = load_recipe(arguments[1], arguments[2:-2], runnable=False)
            name, seed, folder = recipe.name, recipe.seed, Path(arguments[-1])
        self.trained.append((name, seed))
        if (name, seed) in self.failing:
            log.write(b"epoch 1/40\nError: the training loss is no longer finite;\n  lower optim.lr\n")
            return 2
        if arguments[1] != "--resume":
            begin_run(folder, recipe)
        phase = {"figures": {}, "skipped": [], "warnings": self.warnings(name, seed)}
        (folder / "phases" / "fit").mkdir(parents=True, exist_ok=True)
        write_json(folder / "phases" / "fit" / "phase.json", phase)
        write_run(folder, self.accuracy(name, seed), self.steps.get(name, 100), self.items(seed))
        return 0


def begin_run(folder: Path, recipe: Recipe) -> None:
    """What a run leaves as it begins, of that which ``compare`` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"vision_train": "0.1.0", "packages": {"torch": "2.10.0"}, "device": "a CPU", "threads": 1}
    (folder / "environment.json").write_text(json.dumps(environment | {"began": datetime.now(UTC).isoformat()}))
    write_recipe(folder / "recipe.yaml", recipe)


def write_run(folder: Path, accuracy: float | None, steps: int, items: list[str]) -> None:
    """What ``compare`` reads of a finished run."""
    if accuracy is not None:
        hits = [float(index < round(accuracy * len(items))) for index in range(len(items))]
        write_artefact(folder / "artefacts", Items("test_items", items, {"accuracy": hits}))
        lines = [
            {"phase": "fit", "epoch": e, "step": 10 * e + 10, "time": 0.0, "val/accuracy": accuracy / (3 - e)}
            for e in range(3)
        ]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "weights.safetensors").write_bytes(b"")
    figures = {"test/accuracy": accuracy, "train/steps": steps, "train/samples": 64 * steps, "train/seconds": 12.5}
    figures |= {"train/peak_memory_bytes": 2**30, "model/parameters": 1000}
    write_json(folder / "summary.json", figures)  # whole or not at all, as runs do: others look while they train


def phase(name: str, recipe, images: str = "images", weights: str = "") -> Phase:
    return Phase(name, recipe, 100, images, weights)


METRICS = (Metric("accuracy", "accuracy", "percent"), Metric("loss", "loss", better="less"))


def setting(recipe, phases=()) -> ResolvedArm:
    """A setting that nothing was built for."""
    return ResolvedArm((*phases, phase("fit", recipe)), 100, recipe.optim.lr, ("0", "1"), len(ITEMS), "digest", METRICS)


def study_of(
    *arguments: str, seeds: int = 3, grid: str | None = None, folder: str = "study", folds: int | None = None
) -> Study:
    """A study that nothing was built for, without pre-training."""
    plan = make_plan(arguments, seeds, grid, folds)
    return Study(Path(folder).absolute(), plan, [[setting(recipe) for recipe in arm.recipes] for arm in plan.arms])


def with_pretraining(study: Study, *recipes: tuple[int, str]) -> Study:
    """The study with a pre-training phase before some of its arms: pairs of an arm's place and a recipe."""
    settings = [list(of_arm) for of_arm in study.resolved]
    for arm, name in recipes:
        settings[arm] = [setting(s.recipe, [phase("pretrain", load_recipe(name))]) for s in settings[arm]]
    return replace(study, resolved=settings)


def accuracy(name: str, seed: int) -> float:
    gain = {"plain": 0.0, "mixed": 0.1, "fast": 0.05}.get(name, 0.0)
    return round(0.5 + 0.05 * (seed % 4) + gain * (1 + 0.1 * (seed % 3)), 4)


def table() -> dict:
    return json.loads(Path("study/table.json").read_text())


def retold(folder: str, *overrides: str) -> None:
    """Let a run say that it was trained with other keys."""
    file = Path(folder, "recipe.yaml")
    write_recipe(file, load_recipe(file, overrides, runnable=False))
