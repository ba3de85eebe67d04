"""Resolved recipes of an earlier version, whose section `data` served every kind of data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vision_train.recipe import load_recipe, to_plain

KEYS = ("source", "root", "labels", "probe", "splits", "label_map", "variant", "feature_width", "encoder")
EARLIER = dict.fromkeys((*KEYS, "labels_per_class")) | {"on_bad_image": "error", "on_bad_bag": "error"}
"""All keys of that section."""


def earlier(recipe: str, **data: Any) -> dict[str, Any]:
    """A recipe as an earlier version resolved it."""
    plain = to_plain(load_recipe(recipe, runnable=False))
    del plain["data"]["on_bad"]
    return plain | {"data": {**EARLIER, "image_size": 224, **plain["data"], **data}}


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("quickstart", "on_bad_image"),
        ("droppos/digits", "on_bad_image"),
        ("acmil/digit_bags", "on_bad_bag"),
        ("acmil/slides", "on_bad_bag"),
    ],
)
def test_a_resolved_recipe_loads(folder: Path, name: str, policy: str):
    (folder / "recipe.yaml").write_text(yaml.safe_dump(earlier(name, **{policy: "skip"})))
    expected = load_recipe(name, ["data.on_bad=skip"], runnable=False)
    assert load_recipe(folder / "recipe.yaml", runnable=False) == expected


def test_keys_of_other_sections_that_came_later_have_their_defaults(folder: Path):
    plain = earlier("quickstart")
    for section, keys in {"model": ("fresh", "freeze"), "optim": ("lr_factors", "milestones", "gamma")}.items():
        for key in keys:
            del plain[section][key]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(plain))
    assert load_recipe(folder / "recipe.yaml") == load_recipe("quickstart")


@pytest.mark.parametrize("value", [None, 4])
def test_the_least_length_of_a_training_never_acted_and_is_left_out(folder: Path, value: int | None):
    plain = to_plain(load_recipe("quickstart"))
    plain["trainer"] |= {"min_epochs": value, "min_steps": value}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(plain))
    assert load_recipe(folder / "recipe.yaml") == load_recipe("quickstart")


@pytest.mark.parametrize("key", ["min_epochs", "min_steps"])
def test_asked_for_today_it_is_refused(folder: Path, mistakes: Callable[..., list[str]], key: str):
    (folder / "mine.yaml").write_text(f"extends: quickstart\ntrainer: {{{key}: 4}}\n")
    (found,) = mistakes("mine.yaml")
    assert found.startswith(f"mine.yaml:2: trainer.{key}: ")
    assert "max_epochs" in found


def test_a_resolved_recipe_can_be_changed(folder: Path):
    (folder / "recipe.yaml").write_text(yaml.safe_dump(earlier("quickstart", on_bad_image="skip")))
    assert load_recipe(folder / "recipe.yaml", ["data.on_bad=error"]).data.on_bad == "error"


def test_a_mistake_in_a_resolved_recipe_names_its_line(folder: Path, mistakes: Callable[..., list[str]]):
    text = yaml.safe_dump(earlier("quickstart", on_bad_image="ignore"))
    (folder / "recipe.yaml").write_text(text)
    line = next(number for number, line in enumerate(text.splitlines(), start=1) if "on_bad_image" in line)
    (found,) = mistakes("recipe.yaml")
    assert found.startswith(f"recipe.yaml:{line}: data.on_bad: ")


@pytest.mark.parametrize(
    ("name", "key"),
    [("quickstart", "on_bad_image"), ("droppos/digits", "on_bad_image"), ("acmil/slides", "on_bad_bag")],
)
def test_a_recipe_that_someone_wrote_is_refused_with_the_new_name(
    folder: Path, mistakes: Callable[..., list[str]], name: str, key: str
):
    (folder / "mine.yaml").write_text(f"extends: {name}\ndata:\n  {key}: skip\n")
    (found,) = mistakes("mine.yaml", runnable=False)
    assert found.startswith(f"mine.yaml:3: data.{key}: unknown key")
    assert "data.on_bad?" in found
