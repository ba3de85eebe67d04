"""What a run ran on and with: versions, platform, device, threads, number format, command."""

from __future__ import annotations

import os
import platform
import shlex
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_train import __version__
from vision_train.recipe import Recipe
from vision_train.threads import Count, waiting

if TYPE_CHECKING:
    from vision_train.run.precision import Precision

RECORDED_PACKAGES = (
    *("torch", "torchvision", "xformers", "pytorch-lightning", "timm", "albumentations", "torchmetrics"),
    *("omegaconf", "numpy", "pillow", "scikit-learn"),
)


def package_versions() -> dict[str, str | None]:
    """Versions of the packages that a result depends on; None for one that is not installed, such as an extra."""
    packages: dict[str, str | None] = {}
    for package in RECORDED_PACKAGES:
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            packages[package] = None
    return packages


def environment(recipe: Recipe, command: list[str], threads: Count, precision: Precision) -> dict[str, Any]:
    """What the run ran on: versions, platform, devices asked for, threads, command line."""
    import torch

    accelerated = torch.cuda.is_available() and recipe.trainer.get("accelerator") != "cpu"
    return {
        "vision_train": __version__,
        "began": datetime.now(UTC).isoformat(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
        "device": torch.cuda.get_device_name() if accelerated else _processor(),
        "processors": os.cpu_count(),
        "threads": threads.count,
        "threads_by": threads.because,
        "waiting_threads": waiting(),
        "precision": precision.name,
        "precision_by": precision.because,
        "command": shlex.join(["vision-train", *command]) if command else "",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
