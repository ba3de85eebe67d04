"""Expressions without boxes, to predict on: those of csv files, or texts about images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vision_train.data.dataset import SampleLoader, sample_loader
from vision_train.data.image_files import list_images
from vision_train.data.phrases import Section
from vision_train.data.phrases.annotations import PhraseSample
from vision_train.data.phrases.dataset import PhraseDataset, Preparation
from vision_train.data.phrases.module import evaluation_transform
from vision_train.data.phrases.pool import asked, told_in
from vision_train.data.phrases.texts import hardly_read, tokenizer_for
from vision_train.data.sampler import EvaluationSampler
from vision_train.data.tables import read_table
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.recipe.recipe import Recipe
from vision_train.wording import first_named

TEXT = "text"
"""Column of the expressions."""


def loose(recipe: Recipe, inputs: Sequence[Path], *, learner: str) -> SampleLoader:
    """Load expressions without boxes from csv files with the columns `path,text`; as for every kind."""
    samples: list[PhraseSample] = []
    notes: list[str] = []
    for table in inputs:
        if table.suffix.lower() != ".csv":
            raise UserError(
                f"{printable(str(table))}: an image says nothing without an expression; say what is looked for with "
                f"--text, or name a csv with the columns path,text for {learner}"
            )
        found, remarks = told_in(table)
        samples += found
        notes += remarks
    if not samples:
        raise UserError(f"{first_named([str(table) for table in inputs])}: no lines below the header")
    return _loader(recipe, samples, notes)


def loose_with_texts(recipe: Recipe, inputs: Sequence[Path], texts: Sequence[str], *, learner: str) -> SampleLoader:
    """Load each image with each of the texts; as for every kind that takes them.

    Raises:
        UserError: There is no image, a csv has texts of its own, or the tokenizer knows nothing of a text.
    """
    for table in inputs:
        if table.suffix.lower() == ".csv" and table.is_file() and TEXT in read_table(table).columns:
            raise UserError(f"{printable(str(table))}: has a column {TEXT} of its own; leave --text out")
    paths, notes = list_images(inputs)
    tokenizer, wanted = tokenizer_for(recipe.data), [" ".join(text.split()) for text in texts]
    for text in wanted:
        unknown, pieces = tokenizer.unknown(text)
        if unknown == pieces:
            raise UserError(
                f"--text '{printable(text)}': {learner} knows none of its words; use words that its expressions have"
            )
    samples = [asked(path, number, text) for path in paths for number, text in enumerate(wanted, start=1)]
    return _loader(recipe, samples, notes)


def _loader(recipe: Recipe, samples: Sequence[PhraseSample], notes: Sequence[str]) -> SampleLoader:
    section: Section = recipe.data
    tokenizer = tokenizer_for(section)
    transform = evaluation_transform(section, recipe.augment)
    dataset = PhraseDataset(samples, Preparation(transform, tokenizer, section.max_tokens, recipe.seed), section.on_bad)
    dataset.notes += [*notes, *hardly_read((sample.text for sample in samples), section, tokenizer)]
    return sample_loader(dataset, EvaluationSampler(len(dataset)), section.evaluation_batch_size, section.workers)
