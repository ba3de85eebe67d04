"""The recipes that ship with the package: found on disk, never listed by hand."""

from functools import cache

import pytest

from vision_train.errors import UserError
from vision_train.recipe import Recipe, builtin_recipes, explain, load_recipe
from vision_train.recipe.catalogue import builtin_files, find_recipe, recipes_folder, recipes_to_start_from
from vision_train.recipe.read import read_file


@cache
def loaded(name: str, smoke: bool) -> Recipe:
    """A recipe, which several tests look at."""
    return load_recipe(name, smoke=smoke, runnable=False)


def test_names_are_sorted_and_leave_parts_out():
    names = builtin_recipes()
    assert names == sorted(names)
    assert {"quickstart", "classification/vit_small"} <= set(names)
    assert not [name for name in names if "_parts" in name]
    assert len(names) < len(builtin_files())


def test_arms_of_studies_are_recipes_that_nobody_starts_from():
    start, studies = recipes_to_start_from(), [name for name in builtin_recipes() if name.startswith("studies/")]
    assert sorted([*start, *studies]) == builtin_recipes()
    assert {"quickstart", "mixpro/digits", "droppos/finetune_digits", "acmil/digit_bags"} <= set(start)
    assert "studies/acmil/digit_bags_abmil" in studies


@pytest.mark.parametrize("name", recipes_to_start_from())
def test_extends_no_arm_of_a_study(name: str):
    extended = read_file(builtin_files()[name]).values.get("extends") or []
    assert not [each for each in ([extended] if isinstance(extended, str) else extended) if "studies" in each]


def test_the_former_name_of_an_arm_leads_to_it():
    with pytest.raises(UserError, match=r"did you mean studies/acmil/digit_bags_abmil\b"):
        find_recipe("acmil/digit_bags_abmil")


@pytest.mark.parametrize("smoke", [False, True], ids=["full", "smoke"])
@pytest.mark.parametrize("name", builtin_recipes())
def test_resolves(name: str, smoke: bool):
    assert loaded(name, smoke).name == name


@pytest.mark.parametrize("name", builtin_recipes())
def test_describes_itself_on_one_line_and_is_small_for_smoke_tests(name: str):
    layer = read_file(builtin_files()[name])
    description = layer.values["description"]
    assert 20 < len(description) < 120
    assert "\n" not in description
    small, full = loaded(name, True), loaded(name, False)
    assert small.trainer["max_epochs"] == 1
    assert small.trainer["limit_train_batches"] == 2
    assert getattr(small.data, "image_size", 0) <= 32
    assert small.data.workers == 0
    assert small.model.args != full.model.args or full.model.name == "test_resnet"  # which is small as it is


def test_every_file_is_yaml_with_known_sections():
    sections = {key.path[0] for key in explain("classification")}
    unknown = {name: read_file(file).values.keys() - sections for name, file in builtin_files().items()}
    assert {name: keys for name, keys in unknown.items() if keys} == {}


def test_a_builtin_file_given_as_a_path_keeps_its_name():
    assert load_recipe(recipes_folder() / "quickstart.yaml").name == "quickstart"
    path = recipes_folder() / "classification" / "vit_tiny.yaml"
    assert load_recipe(path, runnable=False).name == "classification/vit_tiny"
