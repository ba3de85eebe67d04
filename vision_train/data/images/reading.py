"""The samples of images that bear any number of labels each, wherever they stand."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from vision_train.data.image_section import FILES, STORED
from vision_train.data.image_tables import FoundImages
from vision_train.data.images import Section
from vision_train.data.label_set_tables import read_label_sets
from vision_train.data.sources import image_root, stored_root
from vision_train.data.stored_tables import Wanted, read_stored
from vision_train.data.toy.signs import signs_samples


def read_multi_label(section: Section, declared: Collection[str] = ()) -> FoundImages:
    """List the samples that a recipe's ``data`` names, with their sets of labels.

    Args:
        section: What to read.
        declared: Names that are those of classes, besides ``data.classes``.

    Raises:
        UserError: As :func:`vision_train.data.label_set_tables.read_label_sets`.
    """
    if section.source == STORED:
        wanted = Wanted(section.label_column, several=True, declared=[*(section.classes or declared)])
        return read_stored(stored_root(section), section.on_bad, wanted)
    if section.source != FILES:
        return FoundImages([*signs_samples()])
    root = image_root(section)
    assert section.labels is not None, "the section refuses folders"
    return read_label_sets(Path(section.labels), root, section.on_bad, declared=[*(section.classes or declared)])
