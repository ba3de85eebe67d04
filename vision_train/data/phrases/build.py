"""Expressions, from a recipe to batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from augment.geometry import mirrored_text
from vision_train.data.dataset import SampleLoader, sample_loader
from vision_train.data.findings import Findings
from vision_train.data.image_files import check_start, picture_sources
from vision_train.data.module import POOL_SPLIT
from vision_train.data.phrases import Section
from vision_train.data.phrases.annotations import PhraseSample
from vision_train.data.phrases.dataset import PhraseDataset, Preparation
from vision_train.data.phrases.few import divide_phrases, few, one_split
from vision_train.data.phrases.module import PhraseDataModule, evaluation_transform
from vision_train.data.phrases.pool import pool_of, splits_of_pool, told_in
from vision_train.data.phrases.read import read_phrases
from vision_train.data.phrases.tokens import WordPieces, learn_vocabulary, read_tokenizer, tokenizer_of
from vision_train.data.sampler import EvaluationSampler
from vision_train.data.splits import Splits
from vision_train.data.unlabelled import streams_of
from vision_train.errors import UserError
from vision_train.files import first_named, printable
from vision_train.recipe.recipe import Recipe
from vision_train.recipe.sections import Augment

__all__ = ["all_samples", "build", "check_start", "loose", "picture_sources"]

NOUN = "expressions and images"
LAST_LATIN = "\u024f"
"""Letters behind this one belong to other scripts."""


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> PhraseDataModule:
    """Read and check the expressions that a recipe names; as for every kind (:mod:`vision_train.data.kind`)."""
    section, findings = recipe.data, Findings()
    found = read_phrases(section, findings)
    splits, cut = (one_split(found.samples, only), []) if only else divide_phrases(found.samples, section)
    all_of_train, pool, of_pool = splits["train"], list[PhraseSample](), list[str]()
    if not only:
        splits["train"] = few(all_of_train, section, recipe.seed)
        pool, of_pool = pool_of(section, splits["train"], all_of_train)
    section = _with_vocabulary(section, [sample.text for sample in [*(all_of_train or found.samples), *pool]])
    tokenizer = tokenizer_for(section)
    splits = _readable(splits | {POOL_SPLIT: pool}, tokenizer, findings)
    beside = splits_of_pool(section, splits.pop(POOL_SPLIT))
    left_out = findings.settle(section.on_bad, NOUN)
    if not splits[only or "train"]:
        raise UserError(f"{section.named()}: not one expression is left to use; {'; '.join(left_out)}")
    together = splits | beside
    module = PhraseDataModule(section, recipe.augment, recipe.seed, together, tokenizer, **streams_of(recipe, beside))
    if section.share < 1 and not only:
        module.drawn_from["train"] = all_of_train
    module.notes += [*found.notes, *cut, *left_out, *of_pool]
    module.warnings += _hardly_read(together.values(), section, tokenizer)
    learnt = [sample for name in ("train", POOL_SPLIT) for sample in together.get(name, [])]
    module.warnings += _wrongly_mirrored(learnt, recipe.augment)
    return module


def _with_vocabulary(section: Section, texts: Sequence[str]) -> Section:
    """The section with how many word pieces its tokenizer knows, and with a vocabulary where it has no tokenizer."""
    if section.tokenizer is None and section.vocabulary is None:
        # With `left` comes `right`, which a mirrored image needs.
        section = replace(section, vocabulary=learn_vocabulary([*texts, *map(mirrored_text, texts)]))
    return replace(section, pieces=len(tokenizer_for(section).vocabulary))


def all_samples(recipe: Recipe) -> list[PhraseSample]:
    """Every expression that a recipe names, whatever the seed draws of them."""
    return read_phrases(recipe.data, Findings()).samples


def loose(recipe: Recipe, inputs: Sequence[Path], *, learner: str) -> SampleLoader:
    """Load expressions without boxes from csv files with the columns `path,text`; as for every kind."""
    section: Section = recipe.data
    samples: list[PhraseSample] = []
    for table in inputs:
        if table.suffix.lower() != ".csv":
            raise UserError(
                f"{printable(str(table))}: an image says nothing without an expression; name a csv with the columns "
                f"path,text for {learner}"
            )
        samples += told_in(table)
    if not samples:
        raise UserError(f"{first_named([str(table) for table in inputs])}: no lines below the header")
    preparation = Preparation(
        evaluation_transform(section, recipe.augment), tokenizer_for(section), section.max_tokens, recipe.seed
    )
    dataset = PhraseDataset(samples, preparation, section.on_bad)
    return sample_loader(dataset, EvaluationSampler(len(dataset)), section.evaluation_batch_size, section.workers)


def tokenizer_for(section: Section) -> WordPieces:
    """The tokenizer of a recipe: that of its folder, or of the vocabulary that was made of its expressions.

    Raises:
        UserError: The folder holds none.
    """
    if section.tokenizer is not None:
        return read_tokenizer(Path(section.tokenizer))
    assert section.vocabulary is not None, "it is made of the expressions when data are built"
    return tokenizer_of(section.vocabulary)


def _readable(splits: Splits, tokenizer: WordPieces, findings: Findings) -> Splits:
    """The expressions of which the tokenizer knows some piece; the others are noted."""
    readable = set()
    for sample in {sample.id: sample for members in splits.values() for sample in members}.values():
        unknown, pieces = tokenizer.unknown(sample.text)
        if unknown < pieces:
            readable.add(sample.id)
        else:
            findings.mend(
                "expressions that the tokenizer knows nothing of (data.tokenizer names another one)",
                f"`{printable(sample.text)}` ({printable(sample.id)})",
            )
    return {split: [sample for sample in members if sample.id in readable] for split, members in splits.items()}


def _hardly_read(splits: Iterable[Sequence[PhraseSample]], section: Section, tokenizer: WordPieces) -> list[str]:
    """Say of how many expressions some pieces are unknown, and how many are cut."""
    texts = list(dict.fromkeys(sample.text for members in splits for sample in members))
    counts = {text: tokenizer.unknown(text) for text in texts}
    partly = [f"`{text}`" for text, (unknown, _) in counts.items() if unknown]
    cut = [f"`{text[:80]}`" for text, (_, pieces) in counts.items() if pieces > section.max_tokens - 2]
    told = []
    if partly:
        told.append(f"the tokenizer does not know all words of {first_named(partly)}")
    if cut:
        told.append(
            f"longer than data.max_tokens={section.max_tokens}, start and end among them, and cut there: "
            f"{first_named(cut)}"
        )
    return told


def _wrongly_mirrored(train: Sequence[PhraseSample], augment: Augment) -> list[str]:
    """Say where images are mirrored whose expressions are in other letters than English ones."""
    foreign = [sample.text for sample in train if any(each.isalpha() and each > LAST_LATIN for each in sample.text)]
    if not foreign or not augment.train.horizontal_flip:
        return []
    return [
        "augment.train.horizontal_flip exchanges left and right in English alone; set it to 0 for expressions such as "
        f"{first_named([f'`{text}`' for text in foreign])}"
    ]
