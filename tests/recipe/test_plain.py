"""A recipe written and read back is the same recipe."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from vision_train.recipe import builtin_recipes, load_recipe, to_plain, write_recipe
from vision_train.recipe.plain import to_yaml
from vision_train.recipe.sections import Model

SECTIONS = [
    "name",
    "description",
    "task",
    "seed",
    "data",
    "augment",
    "model",
    "method",
    "optim",
    "trainer",
    "semi",
    "run",
]
TREACHEROUS = [
    "1e-3",
    "${seed}",
    "\\${seed}",
    "a: b",
    "yes",
    "null",
    "0x1",
    "12:30",
    "# no",
    "",
    "'",
    "café",
    "a\nb",
    "???",
]


@pytest.mark.parametrize("name", builtin_recipes())
def test_a_builtin_recipe_survives(folder: Path, name: str):
    recipe = load_recipe(name, ["optim.betas=[0.9, 0.95]", "data.root=null"], runnable=False)
    write_recipe(folder / "recipe.yaml", recipe)
    assert load_recipe(folder / "recipe.yaml", runnable=False) == recipe  # its name too


def test_plain_values_only_in_the_order_of_the_sections():
    plain = to_plain(load_recipe("quickstart", ["optim.betas=[0.9, 0.95]"]))
    assert list(plain) == SECTIONS
    assert list(yaml.safe_load(to_yaml(plain))) == SECTIONS
    assert plain["optim"]["betas"] == [0.9, 0.95]
    assert yaml.safe_load(to_yaml(plain)) == plain


def test_plain_values_are_a_copy():
    recipe = load_recipe("quickstart")
    to_plain(recipe)["model"]["args"]["depth"] = 99
    assert recipe.model.args["depth"] == 4


@given(st.text(st.sampled_from("\\${}:ab1e-.#' \n")) | st.text(st.characters(codec="utf-8", exclude_categories=["C"])))
@settings(max_examples=300)
def test_text_that_looks_like_something_else_stays_text(text: str):
    read = OmegaConf.create(to_yaml({"text": text, "list": [text]}))
    assert OmegaConf.to_container(read, resolve=True) == {"text": text, "list": [text]}


@pytest.mark.parametrize("text", TREACHEROUS)
def test_text_that_looks_like_something_else_survives_the_file(folder: Path, text: str):
    model = Model(name="vit", args={"pool": text})
    recipe = replace(load_recipe("quickstart"), description=text, model=model)
    write_recipe(folder / "recipe.yaml", recipe)
    assert load_recipe(folder / "recipe.yaml") == recipe
