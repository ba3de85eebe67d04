"""A recipe small enough to train whole in a second or two, and bags."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from vision_train.recipe import load_recipe
from vision_train.run.fit import fit
from vision_train.tasks.base import Task

TINY = """
description: A tiny ViT on digits, with everything random that a run can hold.
extends: quickstart
seed: 3
data: {batch_size: 32, labels_per_class: 10}
augment: {train: {color_jitter: 0.2}}
model: {args: {embed_dim: 24, depth: 2, num_heads: 2, drop_path_rate: 0.1, proj_drop_rate: 0.1}}
optim: {warmup_epochs: 1, ema: {decay: 0.9}}
trainer: {max_epochs: 4, log_every_n_steps: 1}
"""

PRETRAINING = """
task: pretraining
data: {root: pool, image_size: 16, batch_size: 4, workers: 0}
model: {name: vit, args: {patch_size: 4, embed_dim: 12, depth: 1, num_heads: 1}}
method: {decoder: {width: 12, depth: 1, heads: 1}}
trainer: {max_epochs: 1, accelerator: cpu}
run: {select: {metric: val/acc1, mode: max}}
"""


@pytest.fixture(scope="session")
def tiny_text() -> str:
    """The tiny recipe itself, for those who keep its runs longer than a test."""
    return TINY


@pytest.fixture(scope="session")
def pretraining_text() -> str:
    """A recipe that pre-trains a tiny network on the images below `pool`."""
    return PRETRAINING


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Path of the tiny recipe; the working directory is a fresh one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture
def cut_short(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Task], int], AbstractContextManager[None]]:
    """Within ``cut_short(TASK, STEP)`` training stops with an error at that step, counted from 0."""

    @contextmanager
    def cut(task: type[Task], step: int) -> Iterator[None]:
        original, done = task.training_step, 0

        def training_step(self: Task, batch: Any, batch_idx: int) -> Any:
            nonlocal done
            if done == step:
                raise RuntimeError("cut short")
            done += 1
            return original(self, batch, batch_idx)

        with monkeypatch.context() as patch:
            patch.setattr(task, "training_step", training_step)
            with pytest.raises(RuntimeError, match="cut short"):
                yield

    return cut


@pytest.fixture(scope="session")
def bags_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has trained for two bags of digits; it is only read."""
    recipe = load_recipe("acmil/digit_bags", smoke=True)
    return fit(recipe, run_dir=tmp_path_factory.mktemp("bags") / "run", command=[], console=Console(quiet=True)).path


@pytest.fixture
def write_features() -> Callable[..., None]:
    """Write bags of random pixels, 20 x 64 in float16, as TRIDENT would: a file for each id."""

    def write(folder: Path, *ids: str, encoder: str | None = "pixels", width: int = 64, **arrays: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, bag_id in enumerate(ids):
            random = np.random.default_rng(number)
            coords = np.stack(np.divmod(np.arange(20), 5), axis=1)[:, ::-1] * 16
            with h5py.File(folder / f"{bag_id}.h5", "w") as file:
                file["features"] = random.random((20, width), dtype=np.float32).astype(np.float16)
                file["coords"] = coords
                for name, values in arrays.items():
                    del file[name]
                    file[name] = values
                file["coords"].attrs["patch_size_level0"] = 16
                file["features"].attrs["encoder"] = str(encoder)

    return write


@pytest.fixture
def quiet() -> Console:
    return Console(quiet=True)


@pytest.fixture(scope="session")
def write_coco() -> Callable[[Path, Sequence[Any]], None]:
    """Write scenes of shapes as images beside a COCO json."""

    def write(folder: Path, scenes: Sequence[Any]) -> None:
        folder.mkdir()
        names = sorted({label for scene in scenes for label in scene.labels})
        images, boxes = [], []
        for number, scene in enumerate(scenes, start=1):
            Image.fromarray(scene.pixels).save(folder / f"{scene.name}.png")
            height, width = scene.pixels.shape[:2]
            images.append({"id": number, "file_name": f"{scene.name}.png", "width": width, "height": height})
            for (left, top, right, bottom), label in zip(scene.boxes, scene.labels, strict=True):
                box = {"bbox": [left, top, right - left, bottom - top], "category_id": names.index(label) + 1}
                boxes.append({"id": len(boxes), "image_id": number, **box})
        categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (folder / "annotations.json").write_text(json.dumps(content))

    return write


def same(first: Any, second: Any, place: str = "") -> None:
    """Compare bit for bit, and say where they differ."""
    assert type(first) is type(second), place
    if isinstance(first, dict):
        assert first.keys() == second.keys(), place
        for key in first:
            same(first[key], second[key], f"{place}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), place
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            same(one, other, f"{place}/{index}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first.nan_to_num(7), second.nan_to_num(7)), place
    else:
        assert first == second or (first != first and second != second), f"{place}: {first!r} {second!r}"
