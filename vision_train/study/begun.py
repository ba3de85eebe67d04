"""What a folder says of the study that was begun in it, compared with a plan before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vision_train.errors import UserError
from vision_train.files import OUTPUT_MARK, read_mapping
from vision_train.study.plan import Plan
from vision_train.wording import listed

FACTS = "study.json"
"""What the study was begun with."""


def read_begun(folder: Path) -> dict[str, Any]:
    """What earlier commands left in the folder of a study; what they did not know is absent.

    Raises:
        UserError: It is damaged.
    """
    facts, remedy = folder / FACTS, "restore it, or name a new folder as --out"
    if not facts.exists():
        return {}
    begun = read_mapping(facts, remedy)
    if not {"arms", "seeds", "grid", "test_images"} <= begun.keys():
        raise UserError(f"{facts}: is damaged; {remedy}")
    return begun


def refuse_folder(folder: Path, plan: Plan) -> None:
    """Refuse a folder of other things, or of a study of another shape.

    Raises:
        UserError: It is one.
    """
    refuse_foreign(folder)
    if begun := read_begun(folder):
        refuse_differences(folder, list(_other_shape(begun, plan)))


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder of other things before anything is put into it.

    Raises:
        UserError: It is one, or it cannot be read.
    """
    if not folder.exists() or (folder / FACTS).exists():
        return
    ours = {folder / ".lock", folder / OUTPUT_MARK, folder / "recipes", *folder.glob(f".{FACTS}.*.tmp")}
    try:
        held = set(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); name another folder as --out") from error
    if foreign := sorted(held - ours):
        name = foreign[0].name
        raise UserError(f"{folder}: holds {name} and is no study; name a new or empty folder as --out")


def refuse_differences(folder: Path, differences: Sequence[str]) -> None:
    """Refuse a study for what differs from the one that was begun; nothing where nothing does."""
    if differences:
        head = f"{folder}: holds another study; runs of the two must not be mixed. Name another --out, or undo:"
        raise UserError(listed(head, differences))


def _other_shape(begun: dict[str, Any], plan: Plan) -> Iterator[str]:
    """Seeds, and values at the end of the grid, may be added; none may go."""
    grid = plan.grid
    if plan.seeds < begun["seeds"]:
        yield f"--seeds: were {begun['seeds']}, are {plan.seeds}"
    if (folds := begun.get("folds")) != plan.folds:
        yield f"--folds: {f'were {folds}' if folds else 'were not given'}, are {plan.folds or 'not given'}"
    old, values = begun["grid"], list(grid.values) if grid else []
    if (old["key"] if old else None) != (grid.key if grid else None):
        yield f"--grid: was {old['key'] if old else 'not given'}, is {grid.key if grid else 'not given'}"
    elif old and values[: len(old["values"])] != old["values"]:
        yield f"--grid: values were {', '.join(old['values'])}, are {', '.join(values)}"
