"""Whatever the files of unlabelled images say of their classes changes no bit of a run.

Items are those of the specification of learning from unlabelled images.
"""

import io
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.run.conftest import same
from vision_train.data.toy.folder import make_image_folder
from vision_train.recipe import load_recipe
from vision_train.recipe.semi_section import IN_STEPS
from vision_train.run.fit import fit
from vision_train.tasks import semi_methods

RECIPE = """
task: classification
data: {root: photos, unlabelled: pool, image_size: 16, batch_size: 4, workers: 0}
augment: {mixing: {mixup: 0.5, cutmix: 0.5}}
model: {name: vit, args: {patch_size: 8, embed_dim: 12, depth: 1, num_heads: 1}}
optim: {ema: {half_life: run}}
semi: {method: freematch, burn_in: 0.3, threshold: 0.2, rounds: {count: 2}}
trainer: {max_epochs: 3, accelerator: cpu}
"""
CLASSES, IMAGES = 3, 7
CLOCK = {
    "time",
    "train/samples_per_second",
    "train/data_wait",
    "train/seconds",
    "run/seconds",
    "run/samples_per_second",
}
"""Figures that are never the same twice."""
CLOCKS = re.compile(r"[\d,.]+ samples/s|\d+ % waiting for data|  [\d minsh]+ left|-> \w+$|^\w+/report.html$")
"""Words that are never the same twice."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labelled images, and unlabelled ones that lie in folders of their classes."""
    monkeypatch.chdir(tmp_path)
    Path("fit.yaml").write_text(RECIPE)
    for seed, (split, count) in enumerate({"train": 3, "val": 3, "test": 3}.items()):
        make_image_folder(Path("photos", split), classes=CLASSES, per_class=count, size=(20, 20), seed=seed)
    make_image_folder(Path("pool"), classes=CLASSES, per_class=IMAGES, size=(20, 20), seed=9)
    for file in Path("pool").glob("*/*"):
        # Names of their own, as cameras give them; and some that stand in every folder.
        if int(file.stem) < IMAGES - 2:
            file.rename(
                file.with_name(f"{(int(file.stem) * CLASSES + int(file.parent.name[-1])) * 7 % 23}{file.suffix}")
            )


def trained(name: str, *overrides: str) -> dict[str, Any]:
    """What a run leaves: weights, averages and states, figures, artefacts, and what it said."""
    console = Console(file=io.StringIO(), width=300)
    run = fit(load_recipe("fit.yaml", overrides), run_dir=Path(name), command=[], console=console)
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    files = Path(name).glob("phases/*/checkpoints/*.ckpt")
    kept = {f"{file.parent.parent.name}/{file.name}": torch.load(file, weights_only=True) for file in files}
    return {
        "checkpoints": {key: without_clock(content) for key, content in kept.items()},
        "metrics": [{key: value for key, value in line.items() if key not in CLOCK} for line in lines],
        "artefacts": {file.name: file.read_text() for file in sorted(Path(name, "artefacts").glob("*.json"))},
        "said": [CLOCKS.sub("", line) for line in console.file.getvalue().splitlines() if not line.startswith(name)],
    }


def without_clock(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint without what it says of time, and without the digest of the source."""
    own = {key: value for key, value in checkpoint.items() if key != "conditions"}
    own["callbacks"] = {key: value for key, value in checkpoint["callbacks"].items() if key != "Meter"}
    return own


def moved(files: dict[Path, str]) -> None:
    """Move files of the pool, each to a place below it."""
    Path("pool").rename("before")
    for file, target in files.items():
        place = Path("pool", target)
        place.parent.mkdir(parents=True, exist_ok=True)
        assert not place.exists()
        shutil.copyfile(Path("before", *file.parts[1:]), place)
    shutil.rmtree("before")


def listed() -> list[Path]:
    return sorted(Path("pool").glob("*/*"))


def rename_folders() -> None:
    moved(
        {
            file: f"{'zebra' if file.parent.name == 'class_0' else 'ant' + file.parent.name}/{file.name}"
            for file in listed()
        }
    )


def swap_labels() -> None:
    """Give each file another folder, among those that lack its name."""
    files = listed()
    targets: dict[Path, str] = {}
    draw = random.Random(3)
    for file in draw.sample(files, len(files)):
        folders = [
            folder
            for folder in ("class_0", "class_1", "class_2", "other")
            if f"{folder}/{file.name}" not in targets.values()
        ]
        targets[file] = f"{draw.choice(folders)}/{file.name}"
    moved(targets)


def split_folders() -> None:
    """Folders called like splits, which mean nothing in a pool."""
    names = {"class_0": "train", "class_1": "test", "class_2": "deep/er"}
    moved({file: f"{names[file.parent.name]}/{file.name}" for file in listed()})


def delete_folders() -> None:
    """All files side by side; of those that stand in every folder there is one by now."""
    moved({file: file.name for file in listed()})


CHANGES = (rename_folders, swap_labels, split_folders)


def check_unchanged(change: Callable[[], None], *overrides: str) -> None:
    first, method = trained("run", *overrides), load_recipe("fit.yaml", overrides).semi.method
    Path("run").rename("before_the_change")  # both in one place, which recipes of phases name
    learnt = any("val/pool_accepted" in line for line in first["metrics"])
    assert learnt or method not in IN_STEPS, "else the test shows nothing"
    change()
    same(first, trained("run", *overrides))


@pytest.mark.parametrize("change", CHANGES)
def test_item_7_folders_of_a_pool_change_no_bit(change: Callable[[], None]):
    check_unchanged(change)


def test_item_7_deleted_folders_of_a_pool_change_no_bit():
    seen: set[str] = set()
    for file in listed():
        if file.name in seen:
            file.unlink()
        seen.add(file.name)
    check_unchanged(delete_folders)


def test_item_7_labels_of_the_test_change_nothing_but_what_is_said_of_the_test():
    """Rates, thresholds and what stops the pool follow from validation images."""

    def but_for_the_test(found: dict[str, Any]) -> dict[str, Any]:
        lines = [{key: value for key, value in line.items() if "test/" not in key} for line in found["metrics"]]
        return {"checkpoints": found["checkpoints"], "metrics": lines}

    first = trained("run")
    Path("run").rename("before_the_change")
    folders = [Path("photos/test", name) for name in ("class_0", "class_1", "class_2")]
    for number, folder in enumerate(folders):
        folder.rename(folder.with_name(f"moved_{number}"))
    for number, folder in enumerate(folders):
        Path(f"photos/test/moved_{(number + 1) % 3}").rename(folder)
    second = trained("run")
    same(but_for_the_test(first), but_for_the_test(second))
    assert first["artefacts"] != second["artefacts"], "else the test shows nothing"


@pytest.mark.parametrize("method", semi_methods("classification"))
def test_item_7_labels_of_a_pool_change_no_bit_whatever_the_method(method: str):
    check_unchanged(swap_labels, f"semi.method={method}")


def write_table(labels: Callable[[int], str] | None, order: Callable[[Path], Any]) -> None:
    files = sorted(listed(), key=order)
    rows = ["path" if labels is None else "path,label"]
    rows += [str(file) if labels is None else f"{file},{labels(index)}" for index, file in enumerate(files)]
    Path("pool.csv").write_text("\n".join(rows) + "\n")


TABLES: dict[str, tuple[Callable[[int], str] | None, Callable[[Path], Any]]] = {
    "shuffled labels": (lambda index: f"class_{index * 5 % CLASSES}", lambda file: str(file)),
    "other labels": (lambda index: f"what {index}", lambda file: str(file)),
    "no labels": (None, lambda file: str(file)),
    "sorted by class": (lambda index: f"class_{index // IMAGES}", lambda file: (file.parent.name, file.name)),
    "backwards": (lambda index: f"class_{index // IMAGES}", lambda file: [-ord(letter) for letter in str(file)]),
}


@pytest.mark.parametrize("table", TABLES)
def test_item_7_labels_and_order_of_a_table_change_no_bit(table: str):
    write_table(lambda index: f"class_{index // IMAGES}", lambda file: random.Random(str(file)).random())
    check_unchanged(lambda: write_table(*TABLES[table]), "data.unlabelled=pool.csv")


def test_item_7_the_order_of_a_list_changes_no_bit():
    def write(files: list[Path]) -> None:
        Path("pool.txt").write_text("".join(f"{file}\n" for file in files))

    write(listed())
    check_unchanged(lambda: write(listed()[::-1]), "data.unlabelled=pool.txt")
