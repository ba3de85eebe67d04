"""Sorting samples into train, val and test, and cutting what no source names; no rule here knows classes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from vision_train.data.kind import SPLITS
from vision_train.data.sample import Divisible
from vision_train.errors import UserError

DEFAULT_SHARE = 0.1
"""Share of the training samples for a split that neither the source nor ``data.splits`` defines."""

NAMES = {
    "train": ("train", "training", "trn", "trainval", "traindev"),
    "val": ("val", "valid", "validate", "validation", "dev", "devel", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "holdout", "hold out"),
}
"""What people call each split, in small letters and with spaces between words."""
FILLERS = (
    "sets|set|datasets|dataset|data|split|folder|files|samples|images|image|imgs|img|pictures|pics|photos|seg|the"
    r"|directory|dir|jpeg|jpg|png|new|resized|labeled|labelled|x|v\d+|\d+x\d+(?:px)?|\d+(?:px)?"
)
"""Pattern of words that say nothing about which split it is, as in `test_images`, `seg_train` and `train_224x224`."""

Splits = dict[str, list[Any]]
"""Samples of `train`, `val` and `test`."""
S = TypeVar("S", bound=Divisible)

_SPLIT_OF = {word: split for split, words in NAMES.items() for word in words}
_WORDS = "|".join(sorted(_SPLIT_OF, key=len, reverse=True))
_SPLIT = re.compile(rf"(?:(?:{FILLERS}) ?)*+(?P<split>{_WORDS})(?: ?(?:{FILLERS}))*+")


def split_called(name: str) -> str | None:
    """The split that a folder, column or cell of this name stands for; None where it stands for none.

    Case does not count, nor do separators, numbers and words such as `set`, `images` and `resized`: `Training`,
    `valid`, `test_images`, `TestSet`, `train_v2` and `train2017` are splits, `dev` and `eval` are `val`.
    """
    found = _SPLIT.fullmatch(" ".join(words_of(name)))
    return None if found is None else _SPLIT_OF[found["split"]]


def splits_called(names: Collection[str]) -> dict[str, str]:
    """The splits that those of several folders stand for which are called like one.

    The words with which all names begin or end say nothing where the rest names several splits, as in `cars_train` and
    `cars_test`.
    """
    found = {name: split for name in names if (split := split_called(name))}
    if found:
        return found
    rests = zip(names, _without_common_words([words_of(name) for name in names]), strict=True)
    found = {name: split for name, rest in rests if (split := split_called(" ".join(rest)))}
    return found if len({*found.values()}) > 1 else {}


def mentions_split(name: str) -> bool:
    """Whether one of the words of a name is that of a split, as in `final_train_A`."""
    return any(split_called(word) for word in words_of(name))


def words_of(name: str) -> list[str]:
    """The words of a name in small letters: `TestSet` has two, as `test_set` has."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.sub(r"[\W_]+", " ", parted.casefold()).split()


def _without_common_words(names: list[list[str]]) -> list[list[str]]:
    """Names without the words that all of them begin with, and those that all of them end with."""
    for place in (0, -1):
        while len(names) > 1 and min(map(len, names)) > 1 and len({words[place] for words in names}) == 1:
            names = [words[1:] if place == 0 else words[:-1] for words in names]
    return names


def by_split(samples: Iterable[S]) -> dict[str, list[S]]:
    """Sort samples by the split that they name; those without one are training samples."""
    splits: dict[str, list[S]] = {name: [] for name in SPLITS}
    for sample in samples:
        splits[sample.split or "train"].append(sample)
    return splits


def shares_to_cut(splits: Mapping[str, list[S]], shares: Mapping[str, float] | None) -> dict[str, float]:
    """The share of each split among `val` and `test` that no sample names: as given, or a tenth."""
    return {name: (shares or {}).get(name, DEFAULT_SHARE) for name in ("val", "test") if not splits[name]}


def cut_shares(members: list[S], shares: Mapping[str, float]) -> dict[str, list[S]]:
    """Cut splits from samples by their ids alone; at least one sample goes to each, and one stays for training.

    Args:
        members: More samples than there are shares.
        shares: Share of each split.

    Returns:
        Samples of each split, and of ``train``, in the order of ``members``.
    """
    splits: dict[str, list[S]] = {}
    sizes = {name: max(1, round(share * len(members))) for name, share in shares.items()}
    order = sorted(range(len(members)), key=lambda index: _digest(members[index].id))
    taken = 0
    for others, (name, size) in zip(range(len(sizes), 0, -1), sizes.items(), strict=True):
        size = min(size, len(members) - taken - others)  # one stays for each split still to come, and for training
        splits[name] = [members[index] for index in sorted(order[taken : taken + size])]
        taken += size
    return {**splits, "train": [members[index] for index in sorted(order[taken:])]}


def whole_split(samples: list[S], split: str) -> dict[str, list[S]]:
    """Take one split as it is, cutting nothing: the samples that name it, or all of them where none names any.

    Raises:
        UserError: The samples name splits, but not this one.
    """
    if there := sorted({sample.split for sample in samples if sample.split}):
        samples = [sample for sample in samples if sample.split == split]
        if not samples:
            raise UserError(
                f"data.root: what it holds is divided into splits, and none of it is {split}; take one of "
                f"{', '.join(there)} with --split"
            )
    return {"train": [], "val": [], "test": [], split: samples}


def _digest(sample_id: str) -> bytes:
    """A fixed pseudo-random key of an id; unlike ``hash``, the same in every process."""
    return hashlib.sha256(sample_id.encode("utf-8", "surrogateescape")).digest()
