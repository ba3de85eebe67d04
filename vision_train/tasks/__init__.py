"""Which tasks there are. A new task adds its folder, and one line here or one entry point of another package."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from vision_train.errors import UserError

if TYPE_CHECKING:
    from vision_train.data.kind import KindOfData
    from vision_train.recipe.recipe import Recipe
    from vision_train.tasks.augmented_views import AugmentedViews

Views = Literal["flips", "five-crop"]
"""Views of an image, over which a task may average its answers."""
ENTRY_POINTS = "vision_train.tasks"
"""Group of the entry points by which other packages add tasks: ``NAME = "PACKAGE"``."""
OWN = {
    "classification": "vision_train.tasks.classification",
    "pretraining": "vision_train.tasks.pretraining",
    "bags": "vision_train.tasks.bags",
    "detection": "vision_train.tasks.detection",
    "dense_detection": "vision_train.tasks.dense_detection",
    "grounding": "vision_train.tasks.grounding",
    "regression": "vision_train.tasks.regression",
}


@cache
def task_packages() -> dict[str, str]:
    """Name in a recipe -> package with ``options`` (light: ``Method``, ``DATA``) and ``task`` (heavy: ``build``).

    Raises:
        UserError: Two packages add a task of the same name.
    """
    packages = dict(OWN)
    for entry in entry_points(group=ENTRY_POINTS):
        if packages.setdefault(entry.name, entry.value) != entry.value:
            raise UserError(
                f"the packages {packages[entry.name]} and {entry.value} both add a task called {entry.name}; "
                "uninstall one"
            )
    return packages


def task_options(task: str) -> ModuleType:
    """Import the options of a task.

    ``Method`` is the type of the recipe's section and ``DATA`` the task's kind of data. ``GOAL``, if it is there, says
    what training makes of the data, such as ``a classifier``, and ``SUGGESTED`` names a built-in recipe to start from.
    ``WEIGHTS``, if it is there, names a function as ``module:function`` that describes weights of the task's networks,
    and ``SETTLE`` one that fills in a recipe what files say of the network. ``VIEWS``, if it is there, names one that
    makes the views of test-time augmentation. ``SEMI_METHODS``, if it is there, lists the methods by which the task
    learns from unlabelled samples. ``OF_TIMM``, if it is there and true, says that its networks may be exported as
    models of timm. ``NOT_TRACED`` maps globs of ``model.name`` to the reason why those networks cannot be programs.

    Raises:
        UserError: The package that adds the task cannot be imported.
    """
    package = task_packages()[task]
    try:
        return importlib.import_module(f"{package}.options")
    except ImportError as error:
        if task in OWN:
            raise
        raise UserError(
            f"task={task}: {package}.options cannot be imported ({error}); mend or uninstall the package that adds it"
        ) from error


def describe_weights(state: Mapping[str, Any]) -> dict[str, str]:
    """What the tasks recognise in weights: titles and texts to show, none for weights that they do not know.

    Args:
        state: Weights by name.
    """
    facts: dict[str, str] = {}
    for task in task_packages():
        if place := getattr(task_options(task), "WEIGHTS", None):
            facts |= _function(place)(state)
    return facts


def settle_network(recipe: Recipe) -> Recipe:
    """Fill in what files that a recipe names say of its network, where its task knows such files.

    Raises:
        UserError: They do not agree with the recipe.
    """
    place = getattr(task_options(recipe.task), "SETTLE", None)
    settled: Recipe = _function(place)(recipe) if place else recipe
    return settled


def augmented_views(recipe: Recipe, name: str) -> AugmentedViews:
    """The views of test-time augmentation by name, as the task of a recipe defines them.

    Raises:
        UserError: The task averages over no views.
    """
    views: AugmentedViews = _function(check_views(recipe, name))(recipe, name)
    return views


def check_views(recipe: Recipe, name: str) -> str:
    """Refuse views of test-time augmentation that are none, or over which the task of a recipe averages nothing.

    Returns:
        The function that makes them, as ``module:function``.

    Raises:
        UserError: It is so.
    """
    if name not in get_args(Views):
        raise UserError(f"--tta {name}: is unknown; there are {', '.join(get_args(Views))}")
    if (place := getattr(task_options(recipe.task), "VIEWS", None)) is None:
        raise UserError(
            f"--tta {name}: task={recipe.task} does not say what its answers on several views are averaged to; "
            "evaluate without --tta"
        )
    return str(place)


def _function(place: str) -> Callable[..., Any]:
    """Import what ``module:function`` names."""
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def semi_methods(task: str) -> tuple[str, ...]:
    """The values of ``semi.method`` that a task knows."""
    return ("none", *getattr(task_options(task), "SEMI_METHODS", ()))


def is_of_timm(recipe: Recipe) -> bool:
    """Whether the networks of a recipe's task may be models of timm."""
    return bool(getattr(task_options(recipe.task), "OF_TIMM", False))


def why_not_traced(recipe: Recipe) -> str:
    """The reason why a recipe's network cannot be exported as a program, as the end of a sentence; empty if it can."""
    reasons: Mapping[str, str] = getattr(task_options(recipe.task), "NOT_TRACED", {})
    return next((reason for names, reason in reasons.items() if fnmatchcase(recipe.model.name, names)), "")


def kind_of_data(task: str) -> KindOfData:
    """The kind of data that a task trains on."""
    kind: KindOfData = task_options(task).DATA
    return kind


def goal_of(task: str) -> str:
    """What training makes of the data, in words."""
    goal: str = getattr(task_options(task), "GOAL", task)
    return goal


def suggested_recipe(task: str) -> str | None:
    """The built-in recipe that a task suggests to start from."""
    name: str | None = getattr(task_options(task), "SUGGESTED", None)
    return name


def kinds_of_data() -> list[KindOfData]:
    """The kinds of data of all tasks, each once."""
    return list(dict.fromkeys(kind_of_data(task) for task in task_packages()))
