"""What a folder or list of labelled images holds, in words."""

from __future__ import annotations

from vision_train.data.described import classes_in_words, splits_in_words
from vision_train.data.sources import read_samples
from vision_train.recipe.recipe import Recipe


def look(recipe: Recipe) -> list[str]:
    """Count images, classes and splits; as :meth:`vision_train.data.kind.KindOfData.looked`."""
    found = read_samples(recipe.data)
    return [classes_in_words(found.samples, "images"), splits_in_words(found.samples), *found.notes]
