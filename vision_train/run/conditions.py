"""What a phase is trained under besides its recipe: samples, versions, steps; kept so that it can be resumed."""

from __future__ import annotations

from typing import Any

from vision_train import __version__
from vision_train.data.module import SampleDataModule
from vision_train.data.sample import brief_truth
from vision_train.run.environment import package_versions
from vision_train.run.sample_lists import digest_of_truths
from vision_train.run.steps import TrainingSteps


def conditions(data: SampleDataModule, steps: TrainingSteps, processes: int) -> dict[str, Any]:
    """Plain values for a checkpoint."""
    truths = {
        split: {sample.id: brief_truth(sample.truth) for sample in data.samples(split)}
        for split, count in data.counts.items()
        if count
    }
    return {
        "samples": {split: {"count": len(of), "digest": digest_of_truths(of)} for split, of in truths.items()},
        "versions": versions(),
        "steps_per_epoch": steps.per_epoch,
        "processes": processes,
    }


def versions() -> dict[str, str | None]:
    """Versions of ours and of the packages that a result depends on."""
    return {"vision-train": __version__, **package_versions()}
