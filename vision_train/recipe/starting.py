"""A first recipe of one's own: what can be chosen, and the file that the choices make."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from vision_train.errors import UserError
from vision_train.recipe.catalogue import nearest_names
from vision_train.recipe.comments import Comments, with_comments
from vision_train.recipe.keys import section_keys
from vision_train.recipe.layers import KeyPath, Layer, LayeredValues, Origin, join_keys
from vision_train.recipe.load import load_recipe
from vision_train.recipe.overview import Entry
from vision_train.recipe.plain import to_yaml
from vision_train.recipe.read import override_layer
from vision_train.recipe.recipe import Recipe
from vision_train.tasks import kind_of_data, semi_methods, suggested_recipe

WIDTH = 100
"""Columns of the file that is written."""
DRAWN = ("share", "labels_per_class")
"""Keys by which a recipe draws few of the samples that have labels."""


@dataclass(frozen=True)
class Choices:
    """What somebody wants to train on what."""

    recipe: str
    """The built-in recipe to start from."""
    root: str | None
    labels: str | None
    unlabelled: str | None
    """Samples without labels; None where there are none."""
    checkpoint: str | None
    """Weights to start from; None for random ones."""
    overrides: tuple[str, ...] = ()
    """`key.path=value` each, which is to stand in the recipe as well."""

    def values(self, base: Recipe) -> dict[str, Any]:
        """What they say in a recipe that extends ``base``: one level of keys inside the sections.

        Args:
            base: The recipe to start from.
        """
        named = {each.name for each in fields(base.data)}
        places = {"root": self.root, "labels": self.labels, "unlabelled": self.unlabelled}
        data: dict[str, Any] = {key: value for key, value in places.items() if value is not None}
        semi: dict[str, Any] = {}
        if self.unlabelled is None and base.semi.method != "none":
            usual = {each.name: each.default for each in fields(base.data)}
            data |= {key: usual[key] for key in DRAWN if key in named and getattr(base.data, key) != usual[key]}
            data["unlabelled"], semi["method"] = None, "none"
        data["batch_size"] = base.data.batch_size
        model: dict[str, Any] = {"checkpoint": self.checkpoint}
        if self.checkpoint is None and base.model.freeze:
            model["freeze"] = []  # random weights are not to stay as they are
        length = "max_epochs" if base.trainer.get("max_epochs") else "max_steps"
        trainer = {length: base.trainer[length]} if base.trainer.get(length) else {}
        sections = {"data": data, "model": model, "semi": semi, "optim": {"lr": base.optim.lr}, "trainer": trainer}
        return {name: values for name, values in sections.items() if values}


def offered_tasks(listed: Sequence[Entry]) -> dict[str, str]:
    """Tasks that a recipe for one's own data is there for -> what one has and wants, in words.

    Left out are those whose kind of data nobody can look at without training.
    """
    own = [entry for entry in listed if not entry.bundled and kind_of_data(entry.task).look]
    plain = sorted(own, key=lambda entry: entry.uses_pool)
    titles = {entry.task: entry.group for entry in reversed(plain)}
    return {entry.task: titles[entry.task] for entry in own}


def candidates(listed: Sequence[Entry], task: str, *, pool: bool) -> list[Entry]:
    """Recipes of a task for one's own data, the suggested one first.

    A task that has recipes with a pool alone gives those: they learn without one, too.

    Args:
        listed: The built-in recipes.
        task: The task.
        pool: Whether there are samples without labels.
    """
    own = [entry for entry in listed if entry.task == task and not entry.bundled]
    fitting = [entry for entry in own if entry.uses_pool == pool] or own
    return sorted(fitting, key=lambda entry: entry.name != suggested_recipe(task))


def takes_pool(task: str) -> bool:
    """Whether the task learns from samples without labels beside those with."""
    return len(semi_methods(task)) > 1


def chosen_task(listed: Sequence[Entry], task: str) -> str:
    """A task by its name.

    Raises:
        UserError: It is none of those that recipes for one's own data are there for.
    """
    known = offered_tasks(listed)
    if task not in known:
        raise UserError(
            f"--task {task}: there is no recipe of this task for data of your own{nearest_names(task, known)}; "
            f"choose one of {', '.join(known)}"
        )
    return task


def starts_random(choices: Choices) -> bool:
    """Whether a network that is to tell something of images would start from random weights."""
    base = load_recipe(choices.recipe, choices.overrides, runnable=False)
    of_images = bool(base.data.left_to_weights) and base.kind.judged == "test"
    return of_images and (choices.checkpoint or base.model.checkpoint) is None


def composed(choices: Choices, file: str, found: Sequence[str]) -> str:
    """The text of a recipe: what was chosen, each key with what it means, and what to do next.

    Args:
        choices: What was chosen.
        file: The file that it is written to, for the commands that it names.
        found: What the data are, in sentences.
    """
    base = load_recipe(choices.recipe, choices.overrides, runnable=False)
    layered = LayeredValues(Origin(file))
    layered.add(Layer(Origin(file), choices.values(base)))
    for place, override in enumerate(choices.overrides, start=1):
        layered.add(override_layer(override, place))
    meanings = {key.path: key.text for key in section_keys(base.task)}

    def stands_with(path: KeyPath) -> Comments:
        if path == ("extends",):
            return Comments(beside=f"# all that is not said here: `vision-train recipes {choices.recipe}`")
        return Comments(above=_comment(_first_sentence(meanings.get(path, "")), 2)) if len(path) == 2 else Comments()

    return with_comments(to_yaml({"extends": choices.recipe, **layered.merged.values}), _head(file, found), stands_with)


def _head(file: str, found: Sequence[str]) -> list[str]:
    lines = ["# Written by `vision-train new`, which found:"]
    for sentence in found:
        lines += [f"#   {line}" for line in textwrap.wrap(sentence, WIDTH - 4)]
    commands = {
        f"vision-train fit {file} --dry-run": "what it would do, and how long it takes; writes nothing",
        f"vision-train fit {file}": "train and test; the report is runs/.../report.html",
        f"vision-train recipes {file}": "every key with its value",
        "vision-train recipes --explain KEY": "what a key means, and what other recipes set it to",
    }
    width = max(map(len, commands))
    return [*lines, "# Next:", *(f"#   {command:{width}}  {text}" for command, text in commands.items()), ""]


def _comment(text: str, indent: int) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH - indent - 2, break_on_hyphens=False)]


def _first_sentence(text: str) -> str:
    head, stop, _ = text.partition(". ")
    return head + "." if stop else text


def overrides_of(choices: Choices) -> list[str]:
    """The same as keys of a command line, such as to look at the data before a file is there."""
    data = {"root": choices.root, "labels": choices.labels}
    named = [f"{join_keys(('data', key))}={value}" for key, value in data.items() if value is not None]
    return [*named, *choices.overrides]
