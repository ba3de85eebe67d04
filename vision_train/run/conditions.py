"""What a phase is trained under besides its recipe: samples, versions, steps; kept so that it can be resumed."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vision_train import __version__
from vision_train.data.module import SampleDataModule
from vision_train.data.sample import brief_truth
from vision_train.files import written_whole
from vision_train.run.directory import package_versions
from vision_train.run.steps import TrainingSteps

Listed = dict[str, dict[str, str | None]]
"""Split -> id of a sample -> its truth, in the order of the samples."""
SAMPLES_FILE = "samples.jsonl.gz"
"""Name of the list of samples in the folder of a phase."""


def conditions(data: SampleDataModule, steps: TrainingSteps, processes: int) -> dict[str, Any]:
    """Plain values for a checkpoint."""
    listed = list_samples(data)
    return {
        "samples": {split: {"count": len(truths), "digest": digest_of(truths)} for split, truths in listed.items()},
        "versions": versions(),
        "steps_per_epoch": steps.per_epoch,
        "processes": processes,
    }


def versions() -> dict[str, str | None]:
    """Versions of ours and of the packages that a result depends on."""
    return {"vision-train": __version__, **package_versions()}


def list_samples(data: SampleDataModule) -> Listed:
    """The samples of all splits. Where they lie does not count, so that data can be moved."""
    return {
        split: {sample.id: brief_truth(sample.truth) for sample in data.samples(split)}
        for split, count in data.counts.items()
        if count
    }


def digest_of(truths: Mapping[str, str | None]) -> str:
    """Digest of the ids and truths of a split, in their order."""
    return hashlib.sha256(json.dumps(list(truths.items())).encode()).hexdigest()


def write_samples(path: Path, data: SampleDataModule) -> None:
    """Write a line ``[split, id, truth]`` for each sample."""
    with written_whole(path) as temporary, gzip.open(temporary, "wt", encoding="ascii") as file:
        for split, truths in list_samples(data).items():
            file.writelines(json.dumps([split, name, truth]) + "\n" for name, truth in truths.items())


def read_samples(path: Path) -> Listed:
    """Read what :func:`write_samples` wrote; nothing where there is no such file."""
    listed: Listed = {}
    if path.is_file():
        with gzip.open(path, "rt", encoding="ascii") as file:
            for split, name, truth in map(json.loads, file):
                listed.setdefault(split, {})[name] = truth
    return listed
