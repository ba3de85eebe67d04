"""What a folder or list of labelled images holds, in words."""

from __future__ import annotations

from collections import Counter

from vision_train.data.described import classes_in_words, counts_in_words, splits_in_words
from vision_train.data.images.reading import read_multi_label
from vision_train.data.label_sets import label_set_map
from vision_train.data.sources import read_samples
from vision_train.recipe.recipe import Recipe
from vision_train.wording import count_of


def look(recipe: Recipe) -> list[str]:
    """Count images, classes and splits; as :meth:`vision_train.data.kind.KindOfData.looked`."""
    if recipe.data.multi_label:
        found = read_multi_label(recipe.data)
        label_set_map({"train": [sample for sample in found.samples if sample.split in (None, "train")]})
        counts = Counter(name for sample in found.samples for name in sample.truth.present)
        held = f"{count_of(len(found.samples), 'images')} that bear any of {counts_in_words(counts)}"
        return [held, splits_in_words(found.samples), *found.notes]
    found = read_samples(recipe.data)
    return [classes_in_words(found.samples, "images"), splits_in_words(found.samples), *found.notes]
