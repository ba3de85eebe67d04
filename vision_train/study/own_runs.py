"""Whether what lies in the place of a run was trained as the study says, by what the run itself has written down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from vision_train.errors import UserError
from vision_train.recipe import Recipe, load_recipe, to_plain
from vision_train.recipe.layers import show
from vision_train.recipe.trainer_keys import AUTO
from vision_train.run.differences import HARMLESS
from vision_train.run.directory import RunDirectory
from vision_train.run.precision import FULL, MIXED
from vision_train.study.plan import differing_keys
from vision_train.study.runs import Run, read_record
from vision_train.study.used import AUTOMATIC_KEYS, BATCH, PARTS, RATE
from vision_train.wording import listed

FREE = tuple(key for key in HARMLESS if key != "trainer.limit_test_batches")
"""Keys that may differ: a machine may need its own workers or accelerator. What is tested on may not."""
CLOCK = "%Y-%m-%d %H:%M:%S %Z"


def refuse_others(runs: Sequence[Run], pretrained: Path) -> None:
    """Refuse results, and runs that would be gone on with, that are not those of the study.

    Args:
        runs: All runs of the study.
        pretrained: Folder of the runs that others start from.

    Raises:
        UserError: Some were trained by another recipe, seed, fold or start, or from a start that had not ended.
    """
    others = {run: "; ".join(found) for run in runs if (found := list(_other(run, pretrained)))}
    if not others:
        return
    raise UserError(
        listed(
            f"{len(others)} of {len(runs)} runs were not trained as this study says; delete their folders, and train "
            "them by the commands of --emit as they stand:",
            [f"{run.name}: {found} ({run.folder})" for run, found in others.items()],
        )
    )


def _other(run: Run, pretrained: Path) -> Iterator[str]:
    """What is otherwise in the folder of a run than the study says; nothing where there is no run."""
    if not run.finished and not run.resumable:
        return
    file = RunDirectory(run.folder).recipe
    if not file.is_file():
        yield "holds no recipe.yaml, so nothing says what was trained"
        return
    used = load_recipe(file, runnable=False)
    for key, (wanted, other) in _differing(run, used, pretrained).items():
        yield f"{key} is {show(other)}, in the study {show(wanted)}"
    if run.start and not _names_weights(used.model.checkpoint) and (late := _ended_late(run, run.start)):
        yield late


def _differing(run: Run, used: Recipe, pretrained: Path) -> dict[str, list[Any]]:
    """Keys by which the recipe of a run differs, where a run does not fill them in itself."""
    study = load_recipe(run.recipe, run.overrides, runnable=False)
    automatic, free = study.run.automatic, list(FREE)
    if automatic and not used.run.automatic:
        free.append(AUTOMATIC_KEYS)
    if RATE in automatic:
        free.append(RATE)
    if BATCH in automatic and _whole_batch(used) == _whole_batch(study):
        free += [BATCH, PARTS]
    if study.trainer.get("precision") == AUTO and used.trainer.get("precision") in (MIXED, FULL):
        free.append("trainer.precision")
    if run.start and _is_start(used.model.checkpoint, run.start, pretrained):
        free.append("model.checkpoint")
    return differing_keys([to_plain(study), to_plain(used)], free)


def _whole_batch(recipe: Recipe) -> int:
    """What a batch comes to that is accumulated of parts: the machine chooses the parts alone."""
    parts: int = recipe.trainer.get(PARTS.rpartition(".")[2], 1)
    return recipe.data.batch_size * parts


def _is_start(checkpoint: object, start: Run, pretrained: Path) -> bool:
    """Whether a run names the run that it is to start from, or the weights of that, in a study that may have moved."""
    if not isinstance(checkpoint, str):
        return False
    folder = Path(checkpoint).parent if _names_weights(checkpoint) else Path(checkpoint)
    inside = start.folder.relative_to(pretrained.parent).parts
    return folder.parts[-len(inside) :] == inside


def _names_weights(checkpoint: object) -> bool:
    """Whether a start is the file that a run writes as it ends, which is whole whatever the clocks say."""
    return isinstance(checkpoint, str) and Path(checkpoint).name == RunDirectory(Path()).weights.name


def _ended_late(run: Run, start: Run) -> str:
    """Says that what a run starts from was still being trained when the run began; empty where the records do not."""
    began, start_began = _began(run), _began(start)
    if began is None or start_began is None:
        return ""
    # It ended then, or later if it was cut short in between.
    ended = start_began + timedelta(seconds=RunDirectory(start.folder).seconds_so_far())
    if ended <= began:
        return ""
    return f"began at {began:{CLOCK}}, before {start.title} had ended ({ended:{CLOCK}})"


def _began(run: Run) -> datetime | None:
    """When a run began; None for runs that kept no such record."""
    file = RunDirectory(run.folder).environment
    began = read_record(file, run.folder).get("began") if file.is_file() else None
    return datetime.fromisoformat(began) if isinstance(began, str) else None
