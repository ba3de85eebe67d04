"""Which tokenizer reads the expressions of a recipe, and what it does not know of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vision_train.data.phrases import Section
from vision_train.data.phrases.tokens import WordPieces, read_tokenizer, tokenizer_of
from vision_train.files import printable
from vision_train.wording import first_named

MOST_SHOWN = 80
"""Letters of an expression that a message shows."""


def tokenizer_for(section: Section) -> WordPieces:
    """The tokenizer of a recipe: that of its folder, or of the vocabulary that was made of its expressions.

    Raises:
        UserError: The folder holds none.
    """
    if section.tokenizer is not None:
        return read_tokenizer(Path(section.tokenizer))
    assert section.vocabulary is not None, "it is made of the expressions when data are built"
    return tokenizer_of(section.vocabulary)


def quoted(text: str) -> str:
    """An expression in a message: on one line, and of a long one the beginning."""
    return f"`{printable(text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN].rstrip() + ' ...')}`"


def hardly_read(expressions: Iterable[str], section: Section, tokenizer: WordPieces) -> list[str]:
    """Say of which expressions some pieces are unknown, and which are cut."""
    texts = list(dict.fromkeys(expressions))
    counts = {text: tokenizer.unknown(text) for text in texts}
    partly = [quoted(text) for text, (unknown, _) in counts.items() if unknown]
    cut = [quoted(text) for text, (_, pieces) in counts.items() if pieces > section.max_tokens - 2]
    told = []
    if partly:
        told.append(f"the tokenizer does not know all words of {first_named(partly)}")
    if cut:
        told.append(
            f"longer than data.max_tokens={section.max_tokens}, start and end among them, and cut there: "
            f"{first_named(cut)}"
        )
    return told
