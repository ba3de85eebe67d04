"""Every recipe that ships, found on disk: it resolves, builds at full size and trains at the small size it declares."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from vision_train.data.bags import digits
from vision_train.data.toy.folder import make_image_folder
from vision_train.recipe import Recipe, builtin_recipes, load_recipe
from vision_train.run.fit import fit
from vision_train.run.phase import build_task

RECIPES = builtin_recipes()
PER_CLASS = 12


def test_recipes_are_found():
    files = Path(__file__).parents[2].glob("recipes/**/*.yaml")
    assert sorted(RECIPES) == sorted(
        str(file.relative_to(Path(__file__).parents[2] / "recipes").with_suffix(""))
        for file in files
        if "_parts" not in file.parts
    )


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_builds_at_full_size(name):
    recipe = load_recipe(name, runnable=False)
    with torch.device("meta"):
        task = build_task(recipe, [f"class_{index}" for index in range(1000)])
    assert {parameter.device.type for parameter in task.network.parameters()} == {"meta"}


def small(name: str, data: Path, *overrides: str) -> Recipe:
    """The recipe at the size it declares for this test, on data of its format."""
    bags = data / "bags"
    of_source = {
        "images": [f"data.root={data / 'images'}"],
        "table": [f"data.labels={data / 'numbers.csv'}"],
        "bags": [f"data.root={bags}", f"data.labels={bags / 'labels.csv'}", f"data.splits={bags / 'splits_0.csv'}"],
    }
    recipe = load_recipe(name, runnable=False)
    keys = of_source.get(recipe.data.source, [])
    if getattr(recipe.data, "multi_label", False) and keys:
        keys = [*keys, f"data.labels={data / 'several.csv'}"]
    if recipe.semi.method != "none" and recipe.data.unlabelled is None and keys:
        keys = [*keys, f"data.unlabelled={data / 'pool'}"]
    return load_recipe(name, [*keys, *overrides], smoke=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_image_folder(folder / "images", classes=3, per_class=PER_CLASS, size=(48, 40))
    files = sorted(file.relative_to(folder / "images") for file in (folder / "images").rglob("*.*"))
    lines = [f"{file.as_posix()},{['a', 'b', 'a|b', ''][number % 4]}" for number, file in enumerate(files)]
    numbers = [f"images/{file.as_posix()},{number % 7}" for number, file in enumerate(files)]
    (folder / "numbers.csv").write_text("\n".join(["path,number", *numbers]))
    (folder / "several.csv").write_text("\n".join(["path,label", *lines]))
    make_image_folder(folder / "pool", classes=1, per_class=PER_CLASS, size=(48, 40), seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "BAGS", {"train": 12, "val": 6, "test": 6})  # reading hundreds of files takes longest
        digits.make_digit_bags(folder / "bags", "rare")
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_two_steps(name, data, tmp_path):
    directory = fit(small(name, data), run_dir=tmp_path / "run", command=[], console=Console(quiet=True))
    summary = json.loads(directory.summary.read_text())
    assert summary["train/steps"] == 2
    assert (directory.path / "report.html").stat().st_size > 0


def _trained_in_two() -> list[str]:
    """One recipe for each task, family of models and method: the size of a model is nothing that processes share."""
    kinds = dict[tuple[str, str, str, bool], str]()
    for name in sorted(RECIPES, key=lambda name: name.startswith("studies/")):
        recipe = load_recipe(name, runnable=False)
        family = recipe.model.name.partition("_")[0]
        several = bool(getattr(recipe.data, "multi_label", False))
        kinds.setdefault((recipe.task, family, recipe.semi.method, several), name)
    return list(kinds.values())


KINDS = _trained_in_two()


def _with_a_page_of_its_own() -> list[str]:
    """One recipe for each task and each method, since the models of a task share its page."""
    pages = dict[tuple[str, str], str]()
    for name in KINDS:
        recipe = load_recipe(name, runnable=False)
        several = " of several" if getattr(recipe.data, "multi_label", False) else ""
        pages.setdefault((recipe.task + several, recipe.semi.method), name)
    return list(pages.values())


@pytest.fixture(scope="module")
def trained_in_two(data: Path, tmp_path_factory: pytest.TempPathFactory, two_processes: Callable[..., None]) -> Path:
    """Runs of every kind of recipe, each by its name."""
    folder = tmp_path_factory.mktemp("in_two")
    two_processes(_train_all, KINDS, data, folder)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_recipes_of_every_kind_train_in_two_processes(trained_in_two: Path, name: str):
    summary = json.loads((trained_in_two / name / "summary.json").read_text())
    assert summary["train/steps"] == 2


@pytest.mark.parametrize("name", _with_a_page_of_its_own())
def test_pages_of_every_kind_fit_a_browser(trained_in_two: Path, opened: Callable[..., Any], name: str):
    for width, scheme in ((420, "dark"), (1280, "light")):
        page = opened(trained_in_two / name / "report.html", width, scheme)
        for details in page.query_selector_all("details"):
            details.evaluate("each => (each.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        undrawn = "[...document.images].filter(image => !image.naturalWidth).length"
        assert page.evaluate(undrawn) == 0


def _train_all(rank: int, names: list[str], data: Path, folder: Path) -> None:
    for name in names:
        meet_at_another_port()
        recipe = small(name, data, "trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu")
        fit(recipe, run_dir=folder / name, command=[], console=Console(quiet=True))


def meet_at_another_port() -> None:
    """The one before may still be open in the other process, which writes the report of the last run."""
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
