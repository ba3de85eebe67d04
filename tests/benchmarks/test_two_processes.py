"""Two gloo processes on one machine against one process with twice the batch: the same figures, and the cost.

    pytest tests/benchmarks/test_two_processes.py --benchmark-enable -s

Both train the quickstart recipe for five epochs with an effective batch of 64, through the command line.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROUNDS = 3
SAME = ("augment.mixing={maskmix: 0, mixup: 0, cutmix: 0, labels: area}", "trainer.max_epochs=5")
ONE = ("data.batch_size=64",)
TWO = ("data.batch_size=32", "trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu")


def fit(folder: Path, *overrides: str) -> dict[str, float]:
    command = [sys.executable, "-m", "vision_train", "fit", "quickstart", *SAME, *overrides, "--run-dir", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "summary.json").read_text())


def test_two_processes_against_one(benchmark: Any, tmp_path: Path) -> None:
    ones: list[dict[str, float]] = []
    twos: list[dict[str, float]] = []
    benchmark.pedantic(
        lambda: twos.append(fit(tmp_path / f"two{len(twos)}", *TWO)),
        setup=lambda: ones.append(fit(tmp_path / f"one{len(ones)}", *ONE)),
        rounds=ROUNDS,
    )
    print()
    for name, runs in (("one process", ones), ("two processes", twos)):
        seconds = statistics.median(run["train/seconds"] for run in runs)
        accuracy = ", ".join(f"{run['val/accuracy']:.3f}" for run in runs)
        print(f"{name:14} {seconds:5.1f} s of training, val/accuracy {accuracy}, test/loss {runs[0]['test/loss']:.4f}")
    ratio = statistics.median(two["train/seconds"] / one["train/seconds"] for one, two in zip(ones, twos, strict=True))
    print(f"two processes take {ratio:.2f} x the time of one")
