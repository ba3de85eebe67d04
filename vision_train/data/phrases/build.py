"""Expressions, from a recipe to batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from augment.geometry import mirrored_text
from vision_train.data.findings import Findings
from vision_train.data.folds import with_fold
from vision_train.data.image_files import picture_sources
from vision_train.data.module import POOL_SPLIT
from vision_train.data.phrases import Section
from vision_train.data.phrases.annotations import PhraseSample
from vision_train.data.phrases.few import divide_phrases, few, one_split
from vision_train.data.phrases.loose import loose, loose_with_texts
from vision_train.data.phrases.module import PhraseDataModule
from vision_train.data.phrases.pool import pool_of, splits_of_pool
from vision_train.data.phrases.read import read_phrases
from vision_train.data.phrases.seen import check_start
from vision_train.data.phrases.texts import hardly_read, quoted, tokenizer_for
from vision_train.data.phrases.tokens import WordPieces, learn_vocabulary
from vision_train.data.splits import Splits
from vision_train.data.unlabelled import streams_of
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.recipe.recipe import Recipe
from vision_train.recipe.sections import Augment
from vision_train.wording import first_named

__all__ = ["all_samples", "build", "check_start", "loose", "loose_with_texts", "picture_sources"]

NOUN = "expressions and images"
LAST_LATIN = "\u024f"
"""Letters behind this one belong to other scripts."""


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> PhraseDataModule:
    """Read and check the expressions that a recipe names; as for every kind (:mod:`vision_train.data.kind`)."""
    section, findings = recipe.data, Findings()
    found = read_phrases(section, findings)
    try:
        if only:
            splits, cut = one_split(found.samples, only), list[str]()
        else:
            splits, cut = divide_phrases(with_fold(found.samples, section, recipe.seed), section)
    except UserError as error:
        if not findings.wrong:
            raise
        kinds = "; ".join(f"{kind}: {first_named(examples)}" for kind, examples in findings.wrong.items())
        raise UserError(f"{error}. What could not be used: {kinds}") from error
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
    read = (sample.text for members in together.values() for sample in members)
    module.warnings += hardly_read(read, section, tokenizer)
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
                f"{quoted(sample.text)} ({printable(sample.id)})",
            )
    return {split: [sample for sample in members if sample.id in readable] for split, members in splits.items()}


def _wrongly_mirrored(train: Sequence[PhraseSample], augment: Augment) -> list[str]:
    """Say where images are mirrored whose expressions are in other letters than English ones."""
    foreign = [sample.text for sample in train if any(each.isalpha() and each > LAST_LATIN for each in sample.text)]
    if not foreign or not augment.train.horizontal_flip:
        return []
    return [
        "augment.train.horizontal_flip exchanges left and right in English alone; set it to 0 for expressions such as "
        f"{first_named([quoted(text) for text in foreign])}"
    ]
