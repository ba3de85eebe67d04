"""What annotations of boxes hold, in words."""

from __future__ import annotations

from collections import Counter

from vision_train.data.boxes.layout import sources
from vision_train.data.boxes.read import read_boxes
from vision_train.data.described import counts_in_words, splits_in_words
from vision_train.data.findings import Findings
from vision_train.files import printable
from vision_train.recipe.recipe import Recipe
from vision_train.wording import count_of, first_named

FORMATS = {"coco": "a COCO json", "yolo": "a YOLO data set", "voc": "Pascal VOC xml"}


def look(recipe: Recipe) -> list[str]:
    """Count images, boxes and classes, and name the format; as :meth:`vision_train.data.kind.KindOfData.looked`."""
    findings = Findings()
    found = read_boxes(recipe.data, findings)
    classes = Counter(label for sample in found.samples for label in sample.truth.labels)
    formats = dict.fromkeys(FORMATS[source.format] for source in sources(recipe.data))
    places = first_named([printable(str(source.path)) for source in sources(recipe.data)])
    said = f"{count_of(len(found.samples), 'images')} with {count_of(classes.total(), 'boxes')}"
    return [
        f"{' and '.join(formats)}: {places}",
        f"{said} of {counts_in_words(classes)}",
        splits_in_words(found.samples),
        *found.notes,
        *findings.settle("skip"),
    ]
