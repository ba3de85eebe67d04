"""The light table of Trainer arguments against Lightning itself."""

import inspect
from typing import Any, get_args, get_type_hints

import pytest

from vision_train.recipe.kinds import union_members
from vision_train.recipe.layers import Origin
from vision_train.recipe.trainer_keys import (
    AUTO,
    OWNED,
    REFUSED_STRATEGIES,
    Accelerator,
    Precision,
    Strategy,
    TrainerKeys,
)
from vision_train.recipe.validate import Validator

KINDS = get_type_hints(TrainerKeys)


@pytest.fixture(scope="module")
def lightning() -> Any:
    import pytorch_lightning

    return pytorch_lightning


@pytest.fixture(scope="module")
def parameters(lightning: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(lightning.Trainer).parameters)


def test_every_argument_is_in_the_table_or_owned_with_a_reason(parameters: dict[str, inspect.Parameter]):
    assert not KINDS.keys() & OWNED.keys()
    assert KINDS.keys() | OWNED.keys() == parameters.keys()
    assert all(OWNED.values())


def test_the_table_accepts_every_default_of_lightning(parameters: dict[str, inspect.Parameter]):
    defaults = {name: parameters[name].default for name in KINDS}
    defaults["max_epochs"] = 1  # Lightning's None would train for 1,000 epochs
    validator = Validator(lambda path: Origin("test"), runnable=True)
    recipe = validator.recipe({"task": "classification", "model": {"name": "vit"}, "trainer": defaults})
    assert [str(mistake) for mistake in validator.mistakes if mistake.path[0] == "trainer"] == []
    assert recipe.trainer == defaults


def test_the_names_are_those_that_lightning_knows(lightning: Any, parameters: dict[str, inspect.Parameter]):
    from pytorch_lightning.accelerators import AcceleratorRegistry
    from pytorch_lightning.strategies import StrategyRegistry

    assert set(get_args(Accelerator)) == {*AcceleratorRegistry.available_accelerators(), "auto", "gpu"}
    assert not REFUSED_STRATEGIES.keys() & set(get_args(Strategy))
    assert REFUSED_STRATEGIES.keys() | set(get_args(Strategy)) == {*StrategyRegistry.available_strategies(), "auto"}
    choices = union_members(get_type_hints(lightning.Trainer.__init__)["precision"])
    assert set(get_args(Precision)) - {AUTO} == {value for literal in choices for value in get_args(literal)}
