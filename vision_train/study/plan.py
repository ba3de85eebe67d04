"""What a study compares: recipes, seeds and the values of one key, and where recipes differ; nothing is built."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from vision_train.data.fold_section import FEWEST_FOLDS, Fold
from vision_train.errors import UserError
from vision_train.recipe import Recipe, load_recipe, to_plain
from vision_train.recipe.catalogue import builtin_recipes, with_yaml
from vision_train.recipe.run_section import Select

UNSEEN = ("name", "description", "seed")
"""Keys that change nothing in a run of a given seed."""
OVERRIDE = re.compile(r"[A-Za-z_][\w.-]*\s*=")
"""How ``dotted.key=value`` begins."""


USUAL_SEEDS = 10
"""Seeds of a study without folds; one with folds has a single one, which draws them."""


class Draw(NamedTuple):
    """What chance decides in a run; runs of all arms with one draw make a pair."""

    seed: int
    fold: int | None = None
    """The fold that is tested on, from 1 on; None without folds."""

    @property
    def title(self) -> str:
        """For messages."""
        return f"seed {self.seed}" + ("" if self.fold is None else f" fold {self.fold}")

    @property
    def name(self) -> str:
        """For files: one or two parts of a path."""
        return str(self.seed) if self.fold is None else f"{self.seed}/{self.fold}"


@dataclass(frozen=True)
class Grid:
    """The key that a study varies, and its values as typed."""

    key: str
    values: tuple[str, ...]

    @property
    def folders(self) -> list[str]:
        """A folder name for each value."""
        return folder_names(f"{self.key.rpartition('.')[2]}={value}" for value in self.values)


@dataclass(frozen=True)
class Arm:
    """One of the things compared: a recipe, resolved once for each value of the grid."""

    name: str
    recipes: tuple[Recipe, ...]
    """One for each cell; their seed and the number of their fold are replaced in each run."""


@dataclass(frozen=True)
class Plan:
    """A whole study. Without a grid it has one cell."""

    arms: tuple[Arm, ...]
    seeds: int
    grid: Grid | None = None
    folds: int | None = None
    """How many folds each seed divides the samples into; None tests every run on one test split."""

    @property
    def draws(self) -> list[Draw]:
        """All draws, seed by seed."""
        folds = [None] if self.folds is None else range(1, self.folds + 1)
        return [Draw(seed, fold) for seed in range(self.seeds) for fold in folds]

    @property
    def draws_noun(self) -> str:
        """What the draws are, in the plural."""
        return "seeds" if self.folds is None else "folds"

    @property
    def cells(self) -> list[str]:
        """Title of each cell; a study without a grid has one, without a title."""
        return [f"{self.grid.key}={value}" for value in self.grid.values] if self.grid else [""]

    @property
    def comparisons(self) -> int:
        """How many differences are judged together: every further arm against the first, in every cell."""
        return (len(self.arms) - 1) * len(self.cells)

    @property
    def select(self) -> Select:
        """The headline metric, the same in every arm."""
        return self.arms[0].recipes[0].run.select

    @property
    def metric(self) -> str:
        """The headline metric as measured on the test split."""
        return f"test/{self.select.metric.partition('/')[2]}"


def make_plan(arguments: Sequence[str], seeds: int | None, grid: str | None, folds: int | None = None) -> Plan:
    """Read what was typed: recipes, and overrides for all of them.

    Args:
        arguments: Recipes and overrides, in any order.
        seeds: Seeds 0 to ``seeds - 1``; None takes 10, or with folds a single one.
        grid: ``KEY=a,b,c``, or None.
        folds: Folds of a cross-validation for each seed, or None.

    Raises:
        UserError: There is nothing to compare, or something that cannot be compared.
    """
    overrides = [argument for argument in arguments if _is_override(argument)]
    names = [argument for argument in arguments if not _is_override(argument)]
    if len(names) < 2:
        raise UserError(f"compare needs two recipes or more, got {', '.join(names) or 'none'}; name the other one too")
    seeds = (USUAL_SEEDS if folds is None else 1) if seeds is None else seeds
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: a study needs at least 2 seeds; 10 are a good start")
    if folds is not None and folds < FEWEST_FOLDS:
        raise UserError(f"--folds {folds}: must be at least {FEWEST_FOLDS}; 5 are a good start")
    read_grid = _read_grid(grid, overrides) if grid else None
    _refuse_drawn([*overrides, *([grid] if grid else [])])
    cells = [[f"{read_grid.key}={value}"] for value in read_grid.values] if read_grid else [[]]
    recipes = [tuple(_load(name, [*overrides, *cell]) for cell in cells) for name in names]
    arms = [Arm(*parts) for parts in zip(_titles(names, recipes), recipes, strict=True)]
    if folds is not None:
        arms = [_folded(arm, folds) for arm in arms]
    if read_grid:
        _refuse_alike_cells(arms, read_grid)
    _refuse_duplicates(arms)
    assert len({arm.name for arm in arms}) == len(arms), "arms of one title"
    _refuse_other_metrics(arms)
    return Plan(tuple(arms), seeds, read_grid, folds)


def folder_names(titles: Iterable[str]) -> list[str]:
    """A file name of plain characters for each title; those that would meet are numbered."""
    names: list[str] = []
    for title in titles:
        plain = re.sub(r"[^\w.=+-]+", "-", title).strip("-.") or "arm"
        taken = sum(name == plain or re.fullmatch(re.escape(plain) + r"~\d+", name) is not None for name in names)
        names.append(f"{plain}~{taken + 1}" if taken else plain)
    return names


def split_values(text: str) -> list[str]:
    """Split at commas outside brackets and quotes: ``1,[2,3]`` holds two values."""
    values, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "[{(") - (character in "]})")
        if character == "," and not depth and not quote:
            values.append("")
        else:
            values[-1] += character
    return [value.strip() for value in values]


def flatten(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys; lists and empty mappings are values."""
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differing_keys(recipes: Sequence[Mapping[str, Any]], ignored: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Keys whose values differ, in the order in which recipes hold them.

    Args:
        recipes: Plain values, nested.
        ignored: Dotted keys to leave out.

    Returns:
        Dotted key -> its value in each recipe. None stands where it is not set, which for every key that may be absent
        means the same as null.
    """
    flat = [flatten(recipe) for recipe in recipes]
    keys = dict.fromkeys(key for recipe in flat for key in recipe)
    # A section that is null in one recipe and a mapping in another differs by what the mapping holds.
    sections = {key for key in keys if any(other.startswith(f"{key}.") for other in keys)}
    rows = {key: [recipe.get(key) for recipe in flat] for key in keys if key not in {*ignored, *sections}}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def _is_override(argument: str) -> bool:
    """A recipe's path may hold an ``=`` too: a file that exists is one."""
    path = Path(argument).expanduser()
    a_recipe = argument in builtin_recipes() or path.is_file() or with_yaml(path).is_file()
    return not a_recipe and OVERRIDE.match(argument) is not None


def _load(name: str, overrides: Sequence[str]) -> Recipe:
    return replace(load_recipe(name, overrides), seed=0)


def _read_grid(text: str, overrides: Sequence[str]) -> Grid:
    key, equals, values = text.partition("=")
    found = split_values(values)
    if not equals or not key.strip() or not all(found):
        raise UserError(f"--grid {text}: write KEY=a,b,c, such as data.labels_per_class=5,10,20")
    if len(found) < 2:
        raise UserError(f"--grid {text}: is a single value; give it as {text} without --grid, or name more")
    if len(set(found)) < len(found):
        raise UserError(f"--grid {text}: a value stands there twice")
    if any(override.partition("=")[0] == key for override in overrides):
        raise UserError(f"{key}: is set for all arms and varied by --grid; leave out one of the two")
    return Grid(key.strip(), tuple(found))


def _refuse_drawn(assignments: Iterable[str]) -> None:
    keys = {assignment.partition("=")[0].strip() for assignment in assignments}
    if "seed" in keys:
        raise UserError("seed: a study runs every recipe with the same seeds from 0 on; say how many with --seeds")
    if any(key == "data.fold" or key.startswith("data.fold.") for key in keys):
        raise UserError("data.fold: a study tests on every fold; say how many with --folds")


def _folded(arm: Arm, folds: int) -> Arm:
    """An arm that is tested on the first of so many folds."""
    for recipe in arm.recipes:
        if not recipe.kind.takes_folds:
            raise UserError(
                f"{arm.name}: --folds: task={recipe.task} cannot cut its {recipe.kind.noun} into folds; compare it "
                "without"
            )
    first = Fold(number=1, of=folds)
    return replace(arm, recipes=tuple(replace(each, data=replace(each.data, fold=first)) for each in arm.recipes))


def _titles(names: Sequence[str], recipes: Sequence[tuple[Recipe, ...]]) -> list[str]:
    """The recipes' own names; where two have the same, the arguments as typed, which only the same recipe shares."""
    for titles in ([cells[0].name for cells in recipes], [name.removesuffix(".yaml") for name in names]):
        if len(set(titles)) == len(titles):
            return titles
    return list(names)


def _refuse_alike_cells(arms: Sequence[Arm], grid: Grid) -> None:
    for one, other in combinations(range(len(grid.values)), 2):
        if all(_meaning(arm.recipes[one]) == _meaning(arm.recipes[other]) for arm in arms):
            raise UserError(
                f"--grid {grid.key}: {grid.values[one]} and {grid.values[other]} make the same recipes; leave out one"
            )


def _refuse_duplicates(arms: Sequence[Arm]) -> None:
    for one, other in combinations(arms, 2):
        if all(_meaning(a) == _meaning(b) for a, b in zip(one.recipes, other.recipes, strict=True)):
            raise UserError(
                f"{one.name} and {other.name}: are the same recipe once resolved, so every run of one would repeat the "
                "other; name recipes that differ"
            )


def _meaning(recipe: Recipe) -> dict[str, object]:
    return {key: value for key, value in flatten(to_plain(recipe)).items() if key not in UNSEEN}


def _refuse_other_metrics(arms: Sequence[Arm]) -> None:
    first = arms[0]
    for arm, recipe in _all_recipes(arms):
        if recipe.semi.verdict is not None:
            raise UserError(
                f"{arm.name}: semi.verdict: trains arms of its own on seeds of its own, within one run; set "
                "semi.verdict=null and name the arms to be compared, or use `vision-train fit`"
            )
        if recipe.kind.judged != "test":
            raise UserError(
                f"{arm.name}: task={recipe.task}: has no test samples to be compared on; compare recipes that "
                "fine-tune from it and name it as run.pretrain"
            )
        select, wanted = recipe.run.select, first.recipes[0].run.select
        if select != wanted:
            raise UserError(
                f"run.select: the headline metric is {wanted.metric} ({wanted.mode}) in {first.name} and "
                f"{select.metric} ({select.mode}) in {arm.name}; set run.select.metric and run.select.mode for all"
            )
        if select.metric.partition("/")[0] != "val":
            raise UserError(
                f"run.select.metric={select.metric}: has no counterpart on the test split; choose one of val/..."
            )


def _all_recipes(arms: Sequence[Arm]) -> Iterator[tuple[Arm, Recipe]]:
    for arm in arms:
        for recipe in arm.recipes:
            yield arm, recipe
