"""What a table of images with numbers holds, in words."""

from __future__ import annotations

from vision_train.data.described import splits_in_words
from vision_train.data.measurements.reading import ranges_in_words, read_measurements, refuse_alike
from vision_train.recipe.recipe import Recipe
from vision_train.wording import count_of


def look(recipe: Recipe) -> list[str]:
    """Count images, and say how far their numbers reach; as :meth:`vision_train.data.kind.KindOfData.looked`."""
    samples, names, notes = read_measurements(recipe.data)
    refuse_alike([sample for sample in samples if sample.split in (None, "train")], names, recipe.data.named())
    return [count_of(len(samples), "images"), *ranges_in_words(samples, names), splits_in_words(samples), *notes]
