"""Test samples that a phase or run must not learn from, or has learned from."""

from __future__ import annotations

from pathlib import Path

from vision_train.data.module import SampleDataModule
from vision_train.data.sample import Sample
from vision_train.recipe import load_recipe
from vision_train.run.plan import LAST

DEEPEST = 4
"""Folders between a weights file and the run directory: ``phases/<name>/checkpoints``, and the run itself."""


def keep_apart(earlier: SampleDataModule, later: SampleDataModule) -> None:
    """Take the samples that the later phase of a run is measured on out of those that the earlier one learns from.

    Pre-training on a pool that holds the labelled images too would otherwise learn from those that fine-tuning is
    tested on, and its probe from their labels. Images are known by their files: a copy under another name is not.

    Raises:
        UserError: Nothing would be left to learn from.
    """
    validated, tested = (_identities(later, split) for split in ("val", "test"))
    trained_on = {stream.split for stream in earlier.streams.values()}
    for split in earlier.counts:
        if split != "test":  # nothing is learnt from that
            earlier.leave_out(split, validated | tested if split in trained_on else tested)


def learnt_before(data: SampleDataModule, checkpoint: str) -> list[Sample]:
    """Test samples among those that an earlier run was trained on or chosen by.

    Args:
        data: Data of the phase that starts from the checkpoint.
        checkpoint: A run directory, or a weights file. Of a file that lies in no run directory nothing is known.

    Raises:
        UserError: The samples of the earlier run are there, but no longer as its recipe says.
    """
    tested = {sample.identity: sample for sample in data.samples("test")} if "test" in data.counts else {}
    found: dict[str, Sample] = {}
    for learnt in _data_of_run(Path(checkpoint)) if tested else []:
        for split in learnt.counts.keys() - {"test"}:
            for sample in learnt.samples(split):
                if sample.identity in tested:
                    found[sample.identity] = tested[sample.identity]
    return list(found.values())


def _data_of_run(checkpoint: Path) -> list[SampleDataModule]:
    """What the phases of a run learned from, without the samples that they left out."""
    places = [checkpoint, *checkpoint.absolute().parents[:DEEPEST]]
    phases = next((found for place in places if (found := sorted(place.glob("phases/*/recipe.yaml")))), [])
    built: dict[str, SampleDataModule] = {}
    for file in phases:
        recipe = load_recipe(file, runnable=False)
        # Samples that are gone are none of those at hand.
        if all(Path(place).exists() for place in recipe.data.paths()):
            built[file.parent.name] = recipe.kind.load().build(recipe)
    if result := built.get(LAST):
        for name in built.keys() - {LAST}:
            keep_apart(built[name], result)
    return list(built.values())


def _identities(data: SampleDataModule, split: str) -> set[str]:
    return {sample.identity for sample in data.samples(split)} if split in data.counts else set()
