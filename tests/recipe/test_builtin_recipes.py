"""The recipes that ship with the package: found on disk, never listed by hand."""

from pathlib import Path

import pytest

from vision_train.recipe import builtin_recipes, explain, load_recipe
from vision_train.recipe.catalogue import builtin_files, recipes_folder
from vision_train.recipe.read import read_file

FILES = [pytest.param(file, id=name) for name, file in builtin_files().items()]


def test_names_are_sorted_and_leave_parts_out():
    names = builtin_recipes()
    assert names == sorted(names)
    assert {"quickstart", "classification/vit_small"} <= set(names)
    assert not [name for name in names if "_parts" in name]
    assert len(names) < len(builtin_files())


@pytest.mark.parametrize("smoke", [False, True], ids=["full", "smoke"])
@pytest.mark.parametrize("name", builtin_recipes())
def test_resolves(name: str, smoke: bool):
    recipe = load_recipe(name, smoke=smoke, runnable=False)
    assert recipe.name == name


@pytest.mark.parametrize("name", builtin_recipes())
def test_describes_itself_on_one_line_and_is_small_for_smoke_tests(name: str):
    layer = read_file(builtin_files()[name])
    description = layer.values["description"]
    assert 20 < len(description) < 120
    assert "\n" not in description
    small, full = (load_recipe(name, smoke=smoke, runnable=False) for smoke in (True, False))
    assert small.trainer["max_epochs"] == 1
    assert small.trainer["limit_train_batches"] == 2
    assert small.data.image_size <= 32 or small.task == "bags"
    assert small.data.workers == 0
    assert small.model.args != full.model.args


@pytest.mark.parametrize("file", FILES)
def test_every_file_is_yaml_with_known_sections(file: Path):
    sections = {key.path[0] for key in explain("classification")}
    assert read_file(file).values.keys() <= sections


def test_a_builtin_file_given_as_a_path_keeps_its_name():
    assert load_recipe(recipes_folder() / "quickstart.yaml").name == "quickstart"
    path = recipes_folder() / "classification" / "vit_tiny.yaml"
    assert load_recipe(path, runnable=False).name == "classification/vit_tiny"
