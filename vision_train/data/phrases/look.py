"""What a list of expressions holds, in words."""

from __future__ import annotations

from vision_train.data.described import splits_in_words
from vision_train.data.findings import Findings
from vision_train.data.phrases.read import read_phrases
from vision_train.recipe.recipe import Recipe
from vision_train.wording import count_of


def look(recipe: Recipe) -> list[str]:
    """Count expressions and images; as :meth:`vision_train.data.kind.KindOfData.looked`."""
    findings = Findings()
    found = read_phrases(recipe.data, findings)
    images = len({sample.group for sample in found.samples})
    return [
        f"{count_of(len(found.samples), 'expressions')} of {count_of(images, 'images')}",
        splits_in_words(found.samples),
        *found.notes,
        *findings.settle("skip"),
    ]
