"""The folds of a study, all of them cut before the first run: what one of them lacks is not to come up hours later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from vision_train.data.module import SampleDataModule
from vision_train.data.sample import Sample
from vision_train.errors import UserError
from vision_train.progress import doing
from vision_train.recipe import Recipe
from vision_train.run.leakage import check_overlap
from vision_train.study.plan import Draw


@dataclass
class Folds:
    """Cuts the samples of recipes into the folds of all seeds; no sample is decoded for it.

    Recipes that name the same samples are cut once.
    """

    draws: Sequence[Draw]
    """Every fold of every seed."""
    _tested: dict[str, list[Sample]] = field(default_factory=dict)

    def check(self, recipe: Recipe) -> list[Sample]:
        """Cut every fold as its run will, splits and label map included.

        Args:
            recipe: Names a fold, and leaves nothing open that its weights say.

        Returns:
            The samples that some fold tests. Together they are all but those of a ``val`` that the data name.

        Raises:
            UserError: A fold cannot be trained on, or is tested on copies of what it learns from; names seed and fold.
        """
        # What the lists of samples depend on: the streams of a recipe that learns from a pool are of `semi`.
        key = repr((recipe.task, recipe.data, recipe.semi))
        if key not in self._tested:
            self._tested[key] = self._cut(recipe)
        return self._tested[key]

    def _cut(self, recipe: Recipe) -> list[Sample]:
        tested: dict[str, Sample] = {}
        with doing(f"cutting {recipe.kind.noun} into folds", len(self.draws), "folds") as work:
            for draw in self.draws:
                try:
                    data = _build(recipe, draw)
                    check_overlap(data)
                except UserError as error:
                    raise UserError(f"{draw.title}: {error}") from error
                tested |= {sample.id: sample for sample in data.samples("test")}
                work.advance()
        return list(tested.values())


def _build(recipe: Recipe, draw: Draw) -> SampleDataModule:
    fold = replace(recipe.data.fold, number=draw.fold)
    drawn = replace(recipe, seed=draw.seed, data=replace(recipe.data, fold=fold))
    data: SampleDataModule = recipe.kind.load().build(drawn)
    return data
