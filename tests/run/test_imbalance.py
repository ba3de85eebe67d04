"""Rare classes: drawn more often or weighed more, and metrics in which every class counts alike."""

import json
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from vision_train.data.toy.folder import make_image_folder
from vision_train.recipe import load_recipe
from vision_train.run.fit import fit
from vision_train.run.phase import scan

QUIET = Console(quiet=True)


@pytest.fixture
def rare(tiny, tmp_path) -> str:
    """The tiny recipe on 60 images, of which 6 belong to one of two classes."""
    folder = tmp_path / "photos"
    make_image_folder(folder, classes=2, per_class=66, size=(16, 16))
    first = sorted(folder.iterdir())[0]
    for file in sorted(first.iterdir())[8:]:
        file.unlink()
    recipe = tmp_path / "rare.yaml"
    recipe.write_text(f"extends: {tiny}\ndata: {{source: images, root: {folder}, labels_per_class: null}}\n")
    return str(recipe)


def drawn(recipe: str, *overrides: str) -> Counter[int]:
    data = scan(load_recipe(recipe, overrides)).data
    return Counter(int(label) for batch in data.train_dataloader() for label in batch["label"])


def test_classes_are_drawn_alike_where_asked(rare):
    assert drawn(rare)[0] < 10
    balanced = drawn(rare, "data.balance=classes")
    assert abs(balanced[0] - balanced[1]) <= 8
    assert sum(balanced.values()) >= sum(drawn(rare).values())


@pytest.mark.parametrize("key", ["data.balance=classes", "method.class_weights=balanced"])
@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy"])
def test_a_run_with_either_chooses_its_epoch_by_either_metric(rare, key, metric):
    keys = [key, f"run.select.metric=val/{metric}", "trainer.max_epochs=2"]
    directory = fit(load_recipe(rare, keys), run_dir=Path("run"), command=[], console=QUIET)
    summary = json.loads(directory.summary.read_text())
    assert 0 <= summary[f"val/{metric}"] <= 1
    assert 0 <= summary[f"test/{metric}"] <= 1


def test_bags_take_both(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for key in ("data.balance=classes", "method.class_weights=balanced"):
        recipe = load_recipe("acmil/digit_bags", [key, "run.select.metric=val/balanced_accuracy"], smoke=True)
        summary = json.loads(fit(recipe, run_dir=None, command=[], console=QUIET).summary.read_text())
        assert 0 <= summary["test/balanced_accuracy"] <= 1
