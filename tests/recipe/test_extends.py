"""`extends`: where a name is looked up, in which order files are laid over one another, what goes wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.recipe.layers import Layer, LayeredValues, Origin

VALUES = st.one_of(st.integers(), st.booleans(), st.text(st.characters(codec="ascii", exclude_characters="${}")))
# Keys in capitals hold mappings, the others values or lists, so that no two layers disagree about the kind.
MAPPINGS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), VALUES | st.lists(VALUES, max_size=2)),
    lambda inner: st.builds(
        lambda values, mappings: values | mappings,
        st.dictionaries(st.sampled_from("abc"), VALUES),
        st.dictionaries(st.sampled_from("ABC"), inner),
    ),
    max_leaves=6,
)


def laid_over(*layers: dict[str, Any]) -> LayeredValues:
    layered = LayeredValues(Origin("test"))
    for layer in layers:
        layered.add(Layer(Origin("test"), layer))
    return layered


def leaves(mapping: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in mapping.items():
        found |= leaves(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return found


@given(st.lists(MAPPINGS, max_size=4))
def test_the_last_layer_that_sets_a_value_wins(layers: list[dict[str, Any]]):
    layered = laid_over(*layers)
    expected: dict[tuple[str, ...], Any] = {}
    for layer in layers:
        expected |= leaves(layer)
    assert layered.mistakes == []
    assert leaves(layered.merged.values) == expected
    assert layered.merged.values == OmegaConf.to_container(OmegaConf.merge({}, *layers))


def test_layers_are_left_as_they_were():
    below, above = {"A": {"a": 1}}, {"A": {"b": 2}}
    laid_over(below, above)
    assert (below, above) == ({"A": {"a": 1}}, {"A": {"b": 2}})


@pytest.mark.parametrize("shape", ["extends: one", "extends: one.yaml", "extends: [one]", "extends: ../shared/one"])
def test_a_file_is_looked_up_beside_the_one_that_names_it(folder: Path, shape: str):
    (folder / "shared").mkdir()
    (folder / "shared" / "one.yaml").write_text("extends: quickstart\nseed: 5\n")
    (folder / "shared" / "mine.yaml").write_text(shape)
    assert load_recipe("shared/mine.yaml").seed == 5


def test_beside_comes_before_built_in(folder: Path):
    (folder / "quickstart.yaml").write_text("extends: _parts/digits\ntask: classification\nmodel: {name: vit}\n")
    (folder / "mine.yaml").write_text("extends: quickstart\ntrainer: {max_epochs: 1}\n")
    assert load_recipe("mine").trainer == {"max_epochs": 1}


def test_left_to_right_and_the_file_itself_last(folder: Path):
    (folder / "left.yaml").write_text("seed: 1\ndata: {workers: 1, batch_size: 1}\n")
    (folder / "right.yaml").write_text("data: {workers: 2, batch_size: 2}\naugment: {std: [1, 1, 1]}\n")
    (folder / "mine.yaml").write_text("extends: [quickstart, left, right]\ndata: {batch_size: 3}\n")
    recipe = load_recipe("mine")
    assert (recipe.seed, recipe.data.workers, recipe.data.batch_size) == (1, 2, 3)
    assert recipe.augment.std == (1, 1, 1)  # a list replaces, it is not appended to
    assert recipe.augment.mixing.mixup > 0  # a mapping is added to


def test_a_circle_is_named(folder: Path):
    (folder / "a.yaml").write_text("seed: 1\nextends: b\n")
    (folder / "b.yaml").write_text("extends: a\n")
    with pytest.raises(UserError, match=r"^b\.yaml:1: extends: goes in a circle: a\.yaml -> b\.yaml -> a\.yaml$"):
        load_recipe("a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nextends: quickstrt\n", "mine.yaml:2: extends: no recipe `quickstrt` beside this file or built in; "),
        ("extends: [quickstart, 3]\n", "mine.yaml:1: extends: is "),
        ("extends: {a: b}\n", "mine.yaml:1: extends: is a mapping; name one recipe, or a list of them"),
        ("extends: neighbor\n", "did you mean neighbour?"),
    ],
)
def test_a_name_that_leads_nowhere(folder: Path, text: str, message: str):
    (folder / "neighbour.yaml").write_text("seed: 1\n")
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe("mine")
    assert message in str(caught.value)


def test_a_mapping_and_a_value_never_replace_one_another(folder: Path, mistakes: Callable[..., list[str]]):
    (folder / "base.yaml").write_text("extends: quickstart\nseed: 1\noptim: {lr: 0.1}\n")
    (folder / "mine.yaml").write_text(
        "extends: base\nseed:\n  value: 2\noptim: 0.1\nmodel: {args: {depth: {min: 1}}}\n"
    )
    found = mistakes("mine", "data.workers.count=1", "augment.train=none", "augment.mixing=[]")
    assert found[0] == "mine.yaml:2: seed: is a mapping, but 1 in base.yaml:2"
    assert found[1] == "mine.yaml:4: optim: is 0.1, but a mapping in base.yaml:3; set keys inside it, or null"
    assert found[2].startswith("mine.yaml:5: model.args.depth: is a mapping, but 4 in ")
    assert found[3].startswith("command line: data.workers: is a mapping, but 0 in ")
    assert found[4] == "command line: augment.train: is `none`; expected a mapping"
    assert found[5].startswith("command line: augment.mixing: is [], but a mapping in ")
    assert len(found) == 6


def test_null_and_empty_mappings_may_be_replaced_by_anything():
    layered = laid_over({"a": None, "b": {"c": 1}, "d": {}}, {"a": {"b": 1}, "b": None, "d": 1})
    assert layered.mistakes == []
    assert layered.merged.values == {"a": {"b": 1}, "b": None, "d": 1}


def test_extending_a_run_gives_a_recipe_of_its_own_name(folder: Path):
    (folder / "recipe.yaml").write_text("name: classification/vit_small\nextends: quickstart\n")
    (folder / "mine.yaml").write_text("extends: recipe\n")
    assert load_recipe("recipe.yaml").name == "classification/vit_small"
    assert load_recipe("mine.yaml").name == "mine"
