"""Expressions without boxes, to predict on: those of csv files, or texts about images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vision_train.data.dataset import SampleLoader, sample_loader
from vision_train.data.image_files import list_images
from vision_train.data.image_tables import listed_files
from vision_train.data.phrases import Section
from vision_train.data.phrases.annotations import PhraseSample
from vision_train.data.phrases.dataset import PhraseDataset, Preparation
from vision_train.data.phrases.module import evaluation_transform
from vision_train.data.phrases.texts import hardly_read, tokenizer_for
from vision_train.data.sampler import EvaluationSampler
from vision_train.data.tables import read_table
from vision_train.errors import UserError
from vision_train.files import first_named, printable
from vision_train.recipe.recipe import Recipe

TEXT = "text"
"""Column of the expressions."""


def loose(recipe: Recipe, inputs: Sequence[Path], *, learner: str) -> SampleLoader:
    """Load expressions without boxes from csv files with the columns `path,text`; as for every kind."""
    samples: list[PhraseSample] = []
    notes: list[str] = []
    told: Counter[str] = Counter()
    for table in inputs:
        if table.suffix.lower() != ".csv":
            raise UserError(
                f"{printable(str(table))}: an image says nothing without an expression; say what is looked for with "
                f"--text, or name a csv with the columns path,text for {learner}"
            )
        files, remarks = listed_files(table, None, TEXT)
        notes += remarks
        for file in files:
            if not file.cells[TEXT]:
                raise UserError(f"{table} line {file.line}: the text is empty; write an expression, or drop the line")
            told[file.path] += 1
            samples.append(_asked(file.path, told[file.path], file.cells[TEXT]))
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
    tokenizer, asked = tokenizer_for(recipe.data), [" ".join(text.split()) for text in texts]
    for text in asked:
        unknown, pieces = tokenizer.unknown(text)
        if unknown == pieces:
            raise UserError(
                f"--text '{printable(text)}': {learner} knows none of its words; use words that its expressions have"
            )
    samples = [_asked(path, number, text) for path in paths for number, text in enumerate(asked, start=1)]
    return _loader(recipe, samples, notes)


def _asked(path: str, number: int, text: str) -> PhraseSample:
    return PhraseSample(f"{path}#{number}", path, None, None, path, text)


def _loader(recipe: Recipe, samples: Sequence[PhraseSample], notes: Sequence[str]) -> SampleLoader:
    section: Section = recipe.data
    tokenizer = tokenizer_for(section)
    transform = evaluation_transform(section, recipe.augment)
    dataset = PhraseDataset(samples, Preparation(transform, tokenizer, section.max_tokens, recipe.seed), section.on_bad)
    dataset.notes += [*notes, *hardly_read((sample.text for sample in samples), section, tokenizer)]
    return sample_loader(dataset, EvaluationSampler(len(dataset)), section.evaluation_batch_size, section.workers)
