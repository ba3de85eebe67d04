"""How long a user waits: whole processes, warm disk.

    pytest tests/benchmarks/test_start_up.py --benchmark-enable -s

Asked for: the first line of any verb within 1 s; the first step of `fit quickstart` within 1.3 times what importing its
libraries alone takes; the export of a ViT-S within 20 s. The machine has to be idle. Without --benchmark-enable each is
tried once, to see that it runs.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROUNDS = 5
LIBRARIES = "torch, torchvision, timm, pytorch_lightning, torchmetrics.functional, albumentations, sklearn.datasets"
FIRST_LINE, FIRST_STEP, EXPORT = 1.0, 1.3, 20.0
"""At most: seconds, times what the libraries take, seconds."""
VERBS = {
    "fit": "fit quickstart --run-dir new",
    "fit --resume": "fit --resume unfinished",
    "fit --dry-run": "fit quickstart --dry-run",
    "evaluate": "evaluate run",
    "predict": "predict run photos/test --out new.jsonl",
    "compare": "compare quickstart other.yaml --out new_study",
    "export": "export run --out new.onnx",
    "preview": "preview quickstart --out new.png",
    "inspect": "inspect run",
    "new": "new new.yaml --yes --task classification --data photos",
    "doctor": "doctor",
    "recipes": "recipes",
    "data make": "data make digits new_digits",
    "data check": "data check shapes",
    "data correlation": "data correlation shapes/train.json",
    "data repack": "data repack bags new_bags",
    "data embed": "data embed photos/test new_bags --checkpoint run",
}
PREPARED = (
    "data make digits photos",
    "data make shapes shapes",
    "data make digit_bags bags",
    "fit classification/vit_small data.root=photos trainer.max_epochs=1 trainer.limit_train_batches=1 "
    "trainer.limit_val_batches=1 trainer.limit_test_batches=1 data.batch_size=8 data.workers=0 --run-dir run",
)
"""What verbs need that is there already: toy data, and a run of ViT-S at its full size of one step."""
AFTER_FIRST_STEP = """
import os
from vision_train import progress

def changed(self, work):
    if work.text.startswith("epoch "):
        os._exit(0)

progress.Lines.changed = changed
from vision_train.cli import app
app(["fit", "quickstart"])
"""
"""`fit quickstart` that ends once its progress says that a step is taken, which is after the first."""
OURS = "vision_train.run.fit, vision_train.tasks.classification.task, vision_train.data.images"


def seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


@pytest.mark.parametrize("verb", [("--help",), ("recipes",)], ids=lambda verb: verb[0])
def test_verb_starts(benchmark: Any, verb: tuple[str, ...]) -> None:
    benchmark.pedantic(seconds, args=("-m", "vision_train", *verb), rounds=ROUNDS, warmup_rounds=1)
    print(f"\nvision-train {verb[0]}: {benchmark.stats['median']:.2f} s, median of {ROUNDS}")


def test_imports_beside_those_of_the_libraries(benchmark: Any) -> None:
    taken: dict[str, list[float]] = {"libraries": [], "ours": []}
    benchmark.pedantic(
        lambda: taken["ours"].append(seconds("-c", f"import {OURS}")),
        setup=lambda: taken["libraries"].append(seconds("-c", f"import {LIBRARIES}")),
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    medians = {name: statistics.median(values) for name, values in taken.items()}
    benchmark.extra_info.update(medians)
    print(f"\nimports: ours {medians['ours']:.2f} s, the libraries alone {medians['libraries']:.2f} s")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start_up")
    for line in PREPARED:
        subprocess.run([sys.executable, "-m", "vision_train", *line.split()], check=True, cwd=folder)
    (folder / "other.yaml").write_text("extends: quickstart\noptim: {lr: 1.0e-4}\n")
    shutil.copytree(folder / "run", folder / "unfinished")
    (folder / "unfinished/summary.json").unlink()
    return folder


def seconds_to_first_line(line: str, place: Path) -> float:
    """From the start of a verb to the first line that it prints, to either stream; it is ended then."""
    command = [sys.executable, "-m", "vision_train", *line.split()]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert process.stdout is not None
    first = process.stdout.readline().decode()
    taken = time.perf_counter() - start
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # a session of its own: with the workers that it has started
    process.communicate()
    for made in place.glob("new*"):
        shutil.rmtree(made) if made.is_dir() else made.unlink()
    assert first.strip()
    assert not first.startswith(("Error", "Traceback", "Usage"))
    return taken


@pytest.mark.parametrize("verb", VERBS)
def test_first_line(benchmark: Any, place: Path, verb: str) -> None:
    taken: list[float] = []
    benchmark.pedantic(lambda: taken.append(seconds_to_first_line(VERBS[verb], place)), rounds=ROUNDS, warmup_rounds=1)
    said = f"{statistics.median(taken):.2f} s, median; {max(taken):.2f} s, longest"
    print(f"\nvision-train {verb}: first line after {said} (at most {FIRST_LINE:g} s is asked for)")


def test_first_step_beside_the_imports_of_the_libraries(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taken: dict[str, list[float]] = {"libraries": [], "first step": []}
    benchmark.pedantic(
        lambda: taken["first step"].append(seconds("-c", AFTER_FIRST_STEP)),
        setup=lambda: taken["libraries"].append(seconds("-c", f"import {LIBRARIES}")),
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    ratios = [step / alone for step, alone in zip(taken["first step"], taken["libraries"], strict=True)]
    benchmark.extra_info |= {name: statistics.median(values) for name, values in taken.items()}
    medians = ", ".join(f"{name} {statistics.median(values):.2f} s" for name, values in taken.items())
    said = f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"\nfit quickstart: {medians}, {said} (at most {FIRST_STEP:g} x is asked for)")


def test_export_of_vit_small(benchmark: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    taken: list[float] = []
    benchmark.pedantic(
        lambda: taken.append(seconds("-m", "vision_train", "export", "run", "--out", "vit_small.onnx", "--force")),
        rounds=ROUNDS,
    )
    said = f"{statistics.median(taken):.1f} s, median; {max(taken):.1f} s, longest"
    print(f"\nvision-train export of ViT-S as ONNX: {said} (at most {EXPORT:g} s is asked for)")
