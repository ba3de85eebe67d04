"""Which samples the weights that a file or a run holds were trained on or chosen by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vision_train.data.module import SampleDataModule
from vision_train.data.sample import Sample
from vision_train.errors import UserError
from vision_train.metrics_log import part_of
from vision_train.recipe import load_recipe
from vision_train.recipe.remote import is_remote
from vision_train.run.directory import PSEUDO_LABELS
from vision_train.run.leakage import keep_apart
from vision_train.run.plan import LAST
from vision_train.run.sample_lists import (
    SAMPLES_FILE,
    SampleLists,
    known_by,
    learnt_of,
    list_samples,
    listed,
    read_samples,
)

DEEPEST = 4
"""Folders between a weights file and the run directory: ``phases/<name>/checkpoints``, and the run itself."""


def learnt_before(tested: Sequence[Sample], checkpoint: str) -> tuple[list[Sample], list[str]]:
    """Find the samples that earlier training has seen, under whatever name.

    Args:
        tested: Samples that weights are to be measured on.
        checkpoint: A run directory, or a weights file. Of a file that lies in no run directory nothing is known. What
            the run itself started from counts, as long as it is there.

    Returns:
        Those of the samples, and what could not be found out, in sentences.
    """
    notes: list[str] = []
    if not tested:
        return [], notes
    known = known_by(sample for phase in _phases_behind(checkpoint, notes) for sample in learnt_of(phase))
    found = [sample for sample, each in zip(tested, listed(tested), strict=True) if each.known_by & known]
    return found, notes


def _phases_behind(checkpoint: str, notes: list[str]) -> Iterator[SampleLists]:
    """The samples of each phase that led to the weights, those of the runs before among them."""
    ahead, seen = [checkpoint], set[Path]()
    while ahead:
        file = ahead.pop()
        folders = [] if is_remote(file) else _phase_folders(Path(file))
        if not folders or folders[0].parent in seen:
            continue
        seen.add(folders[0].parent)
        lists = [_whole_list(folder) for folder in folders]
        try:
            recipes = [load_recipe(folder / "recipe.yaml", runnable=False) for folder in folders]
            ahead += [start for recipe in recipes for start in recipe.model.start.values()]
            lists += _rebuilt(folders, file, notes) if None in lists else []
        except UserError as error:
            notes.append(f"cannot tell all samples that {file} learnt from: {error}")
        yield from (each for each in lists if each)


def _whole_list(folder: Path) -> SampleLists | None:
    """The list of a phase; None where it is gone or damaged, or does not say what the samples are known by."""
    lists = read_samples(folder / SAMPLES_FILE)
    known = lists is not None and all(sample.place is not None for sample in learnt_of(lists))
    return lists if known else None


def _phase_folders(checkpoint: Path) -> list[Path]:
    places = [checkpoint, *checkpoint.absolute().parents[:DEEPEST]]
    found = (sorted(place.glob("phases/*/recipe.yaml")) for place in places)
    begun = [file.parent for file in next((files for files in found if files), [])]
    # Weights of a run owe nothing to what was trained beside it.
    folders = [folder for folder in begun if not part_of(folder.name) or folder in places]
    own = [folder for folder in folders if folder in places]
    # A new run writes the recipes of all phases at once: the weights of one owe nothing to those that have not begun.
    return [folder for folder in folders if folder in own or _has_begun(folder)] if own else folders


def _has_begun(folder: Path) -> bool:
    return any(file.name not in ("recipe.yaml", PSEUDO_LABELS) for file in folder.iterdir())


def _rebuilt(folders: list[Path], run: str, notes: list[str]) -> list[SampleLists]:
    """What the recipes of a run without lists of samples find today, without what its phases left out.

    Raises:
        UserError: The data are no longer as the recipes say.
    """
    built: dict[str, SampleDataModule] = {}
    for folder in folders:
        recipe = load_recipe(folder / "recipe.yaml", runnable=False)
        if gone := [place for place in recipe.data.paths() if not Path(place).exists()]:
            raise UserError(f"it keeps no whole list of them, and {gone[0]} is gone")
        built[folder.name] = recipe.kind.load().build(recipe)
    if result := built.get(LAST):
        for name in built.keys() - {LAST}:
            keep_apart(built[name], result)
    notes.append(
        f"{run} keeps no whole list of the samples that it learnt from, as an earlier version left it; those that its "
        "recipe finds today are taken for them"
    )
    return [list_samples(data) for data in built.values()]
