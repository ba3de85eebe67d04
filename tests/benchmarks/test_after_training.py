"""What a run does after its last epoch (test, pictures, tables, report) beside a plain loop over the test images.

    pytest tests/benchmarks/test_after_training.py --benchmark-enable -s

The loop is what timm's validate.py does: load, run the network, take loss and accuracy. Both read the same files with
the same loader; the time of the processor is taken, in turn, from the beginning of the test to the end of `fit`.
"""

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from vision_train.data.toy.folder import natural_image
from vision_train.recipe import load_recipe
from vision_train.run import phase as phase_module
from vision_train.run.best_weights import load_best
from vision_train.run.fit import fit
from vision_train.run.phase import prepare, scan

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES, SIZE, ROUNDS = 1_000, 128, 3
CLASSES = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand test JPEGs of 320 x 240, and a few to train and validate on."""
    folder = tmp_path_factory.mktemp("after_training")
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 16), ("test", IMAGES)):
        for index in range(count):
            path = folder / split / f"class_{index % CLASSES}" / f"{index:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            natural_image((320, 240), generator).save(path, quality=90)
    return folder


def plain_loop(run: Path) -> float:
    """Seconds of the processor for loss and accuracy of the test images, by a loop of a few lines."""
    prepared = prepare(scan(load_recipe(run / "recipe.yaml", runnable=False)))
    load_best(prepared.task, run)
    network = prepared.task.network.eval()
    start, loss, right, images = time.process_time(), 0.0, 0, 0
    with torch.inference_mode():
        for batch in prepared.data.evaluation_loaders("test")[0]:
            logits = network(batch["image"])
            loss += torch.nn.functional.cross_entropy(logits, batch["label"], reduction="sum").item()
            right += int((logits.argmax(dim=1) == batch["label"]).sum())
            images += len(logits)
    assert images == IMAGES
    return time.process_time() - start


def test_beside_a_plain_loop(benchmark: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[float] = []
    call = phase_module.call_trainer

    def timed(trainer: Any, verb: str, *args: Any, **kwargs: Any) -> None:
        if verb == "test":
            began.append(time.process_time())
        call(trainer, verb, *args, **kwargs)

    monkeypatch.setattr(phase_module, "call_trainer", timed)
    of_data = [f"data.root={root}", f"data.image_size={SIZE}", "data.batch_size=16", "data.workers=0"]
    of_run = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.precision=32-true", "run.threads=1"]
    recipe = load_recipe("classification/vit_tiny", [*of_data, *of_run, "optim.warmup_epochs=0"])
    ours: list[float] = []
    plain: list[float] = []

    def both() -> None:
        run = tmp_path / str(len(ours))
        fit(recipe, run_dir=run, command=[], console=Console(quiet=True))
        ours.append(time.process_time() - began[-1])
        plain.append(plain_loop(run))

    benchmark.pedantic(both, rounds=ROUNDS)
    ratios = [whole / alone for whole, alone in zip(ours, plain, strict=True)]
    benchmark.extra_info |= {"ratios": [round(ratio, 2) for ratio in ratios]}
    own, loop, ratio = (statistics.median(values) for values in (ours, plain, ratios))
    said = f"{own:.1f} s of the processor after the last epoch, a plain loop {loop:.1f} s; {ratio:.2f} x"
    print(f"\n{IMAGES:,} test images: {said} ({min(ratios):.2f} to {max(ratios):.2f})")
