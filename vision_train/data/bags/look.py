"""What a folder of bags and a table of labels hold, in words."""

from __future__ import annotations

from vision_train.data.described import classes_in_words, splits_in_words
from vision_train.recipe.recipe import Recipe


def look(recipe: Recipe) -> list[str]:
    """Count bags, classes and splits; as :meth:`vision_train.data.kind.KindOfData.looked`."""
    # Files of features are read by libraries that take seconds to load.
    from vision_train.data.bags.build import all_samples
    from vision_train.data.bags.samples import feature_kind

    samples = all_samples(recipe)
    kind = feature_kind(samples)
    encoder = f", of {kind.encoder}" if kind.encoder else ""
    return [
        classes_in_words(samples, "bags"),
        f"{kind.width} features an instance{encoder}",
        splits_in_words(samples),
    ]
