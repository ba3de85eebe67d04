"""What a folder or list of images without labels holds, in words."""

from __future__ import annotations

from vision_train.data.described import splits_in_words
from vision_train.data.sources import read_samples
from vision_train.recipe.recipe import Recipe
from vision_train.wording import count_of


def look(recipe: Recipe) -> list[str]:
    """Count images and splits; as :meth:`vision_train.data.kind.KindOfData.looked`."""
    found = read_samples(recipe.data, labelled=False)
    return [count_of(len(found.samples), "images"), splits_in_words(found.samples, cut=("val",)), *found.notes]
