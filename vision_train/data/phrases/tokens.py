"""Expressions as word pieces, as BERT without capital letters reads them.

A tokenizer is read from a folder on this machine, or made of the expressions themselves; nothing is ever downloaded.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from vision_train.data.phrases import VOCABULARY, WHOLE_TOKENIZER
from vision_train.errors import UserError
from vision_train.files import printable, read_mapping, write_json, write_text
from vision_train.wording import first_named

if TYPE_CHECKING:
    from torch import Tensor

PADDING, UNKNOWN, START, END, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Pieces that no text holds, in the order of their ids in a vocabulary of our own."""
CONTINUES = "##"
"""Begins a piece that goes on within a word."""
LONGEST_WORD = 100
"""A word of more characters is unknown, as for BERT."""
MOST_PIECES = 2000
"""Size of a vocabulary of our own; the rarest words beyond it are spelled."""
SETTINGS = "tokenizer_config.json"
"""File of a folder that says how text is cleaned."""
_DAMAGED = "download the folder again"


class Tokens(NamedTuple):
    """Texts as a network reads them."""

    ids: Tensor
    """B L, int64: `[CLS]`, the pieces, `[SEP]`, then padding."""
    padding: Tensor
    """B L, True on padding."""


class WordPieces:
    """Turns texts into ids of word pieces.

    Args:
        tokenizer: Of the package tokenizers; divides a text into pieces of its vocabulary.
        named: Where it comes from, for messages.

    Attributes:
        vocabulary: The pieces, in the order of their ids.

    Raises:
        UserError: The vocabulary lacks one of the pieces that frame a text.
    """

    def __init__(self, tokenizer: Any, named: str) -> None:
        self._tokenizer = tokenizer
        ids: dict[str, int] = tokenizer.get_vocab()
        self.vocabulary = sorted(ids, key=lambda piece: ids[piece])
        if missing := [piece for piece in SPECIAL[:4] if piece not in ids]:
            raise UserError(f"{named}: its vocabulary lacks {', '.join(missing)}; name the tokenizer of a BERT")
        self._padding, self._unknown, self._start, self._end = (ids[piece] for piece in SPECIAL[:4])

    def pieces(self, text: str) -> list[int]:
        """The ids of all pieces of a text, without those that frame it."""
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def unknown(self, text: str) -> tuple[int, int]:
        """How many pieces of a text are unknown, and how many there are."""
        pieces = self.pieces(text)
        return pieces.count(self._unknown), len(pieces)

    def encode(self, texts: Sequence[str], length: int) -> Tokens:
        """Frame, cut and pad texts.

        Args:
            texts: B texts. Nothing in them has a meaning of its own: `[SEP]` is three pieces, `a ||| b` is plain text.
            length: L; the first L - 2 pieces of a text are kept.
        """
        import torch

        ids = torch.full((len(texts), length), self._padding)
        for row, text in zip(ids, texts, strict=True):
            framed = [self._start, *self.pieces(text)[: length - 2], self._end]
            row[: len(framed)] = torch.tensor(framed)
        return Tokens(ids, ids == self._padding)

    def save(self, folder: Path) -> None:
        """Write the vocabulary as a folder that :func:`read_tokenizer` and transformers read.

        Args:
            folder: Is created.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / VOCABULARY, "".join(f"{piece}\n" for piece in self.vocabulary))
        write_json(folder / SETTINGS, {"tokenizer_class": "BertTokenizer", "do_lower_case": True})


def read_tokenizer(folder: Path) -> WordPieces:
    """Read the tokenizer of a BERT without capital letters.

    Args:
        folder: Holds `tokenizer.json`, or `vocab.txt` and perhaps `tokenizer_config.json`.

    Raises:
        UserError: There is none, or it is of another kind.
    """
    named = f"data.tokenizer={printable(str(folder))}"
    if not folder.is_dir():
        raise UserError(
            f"{named}: no such folder. Nothing is downloaded for it: name a folder on this machine with {VOCABULARY} "
            f"or {WHOLE_TOKENIZER}, or leave data.tokenizer out to make one of the expressions"
        )
    settings = read_mapping(folder / SETTINGS, _DAMAGED) if (folder / SETTINGS).is_file() else {}
    if (folder / WHOLE_TOKENIZER).is_file():
        return WordPieces(_whole(folder / WHOLE_TOKENIZER, named), named)
    if not (folder / VOCABULARY).is_file():
        raise UserError(
            f"{named}: holds neither {VOCABULARY} nor {WHOLE_TOKENIZER}; name the folder of a BERT's tokenizer"
        )
    _refuse_capitals(settings.get("do_lower_case", True), named)
    cleaning = {key: settings[key] for key in ("strip_accents",) if isinstance(settings.get(key), bool)}
    return WordPieces(_tokenizer(_listed_pieces(folder / VOCABULARY), named, **cleaning), named)


def tokenizer_of(vocabulary: Sequence[str]) -> WordPieces:
    """The tokenizer of a vocabulary that :func:`learn_vocabulary` has made."""
    named = "data.vocabulary"
    return WordPieces(_tokenizer(vocabulary, named), named)


def learn_vocabulary(texts: Iterable[str], most: int = MOST_PIECES) -> list[str]:
    """Make a vocabulary of texts: their characters, at the beginning of a word and within, then their words.

    The frequent words come first, those of one count by the alphabet, so that the same texts give the same vocabulary
    anywhere. (The trainer of the package tokenizers gives another one at each call.)

    Args:
        texts: All that may be read, such as the expressions of the training split.
        most: Most pieces; characters are always kept.
    """
    normalizer, division = _cleaning()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in division.pre_tokenize_str(normalizer.normalize_str(text)))
    characters = sorted({character for word in words for character in word})
    pieces = dict.fromkeys([*SPECIAL, *characters, *(CONTINUES + character for character in characters)])
    frequent = sorted((word for word in words if word not in pieces), key=lambda word: (-words[word], word))
    return [*pieces, *frequent[: max(0, most - len(pieces))]]


def _package() -> ModuleType:
    try:
        import tokenizers
    except ImportError as error:
        raise UserError("expressions need the package tokenizers; pip install 'vision-train[text]'") from error
    return tokenizers


def _cleaning(strip_accents: bool | None = None) -> tuple[Any, Any]:
    """How BERT cleans a text and divides it into words: small letters, each punctuation and each Chinese sign alone."""
    package = _package()
    normalizer = package.normalizers.BertNormalizer(lowercase=True, strip_accents=strip_accents)
    return normalizer, package.pre_tokenizers.BertPreTokenizer()


def _tokenizer(vocabulary: Sequence[str], named: str, strip_accents: bool | None = None) -> Any:
    if repeated := [piece for piece, count in Counter(vocabulary).items() if count > 1]:
        raise UserError(f"{named}: its vocabulary lists {first_named(repeated)} more than once; {_DAMAGED}")
    package = _package()
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    model = package.models.WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD)
    made = package.Tokenizer(model)
    made.normalizer, made.pre_tokenizer = _cleaning(strip_accents)
    return made


def _whole(file: Path, named: str) -> Any:
    """The tokenizer of a `tokenizer.json`, without what frames, cuts and pads texts."""
    described = read_mapping(file, _DAMAGED)
    model, normalizer = (described.get(key) or {} for key in ("model", "normalizer"))
    if not (isinstance(model, dict) and isinstance(normalizer, dict)):
        raise UserError(f"{printable(str(file))}: is damaged (model or normalizer is no mapping); {_DAMAGED}")
    kind = model.get("type")
    if kind != "WordPiece":
        raise UserError(f"{named}: its model is {kind}, and expressions are read as WordPiece; name one of a BERT")
    _refuse_capitals(normalizer.get("lowercase", True), named)
    try:
        read = _package().Tokenizer.from_str(json.dumps(described))
    except Exception as error:
        raise UserError(f"{printable(str(file))}: is damaged ({error}); {_DAMAGED}") from error
    read.no_truncation()
    read.no_padding()
    read.encode_special_tokens = True  # `[SEP]` in a text is no end of it
    return read


def _listed_pieces(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{printable(str(file))}: cannot be read as text ({error}); {_DAMAGED}") from error


def _refuse_capitals(in_small_letters: Any, named: str) -> None:
    if in_small_letters is False:
        raise UserError(
            f"{named}: tells capital letters from small ones, and expressions are read in small letters; name the "
            "tokenizer of an uncased BERT"
        )
