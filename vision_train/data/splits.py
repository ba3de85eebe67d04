"""Sorting samples into train, val and test, and cutting what no source names; no rule here knows classes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
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
_AROUND = "sets|set|datasets|dataset|data|split|folder|files|samples|images|image|imgs|img|pictures|pics|photos|seg|the"
"""Words that say nothing about which split it is, as in `test_images` and `seg_train`."""

Splits = dict[str, list[Any]]
"""Samples of `train`, `val` and `test`."""
S = TypeVar("S", bound=Divisible)

_SPLIT_OF = {word: split for split, words in NAMES.items() for word in words}
_WORDS = "|".join(sorted(_SPLIT_OF, key=len, reverse=True))
_SPLIT = re.compile(rf"(?:(?:{_AROUND}) ?)*+(?P<split>{_WORDS})(?: ?(?:{_AROUND}))*+")


def split_called(name: str) -> str | None:
    """The split that a folder, column or cell of this name stands for; None where it stands for none.

    Case does not count, nor do separators, a number before or behind and words such as `set` and `images`: `Training`,
    `valid`, `test_images`, `TestSet` and `train2017` are splits, `dev` and `eval` are `val`.
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # TestSet
    words = re.sub(r"[\W_]+", " ", words.casefold()).strip()
    words = re.sub(r"^\d+ | ?\d+$", "", words)
    found = _SPLIT.fullmatch(words)
    return None if found is None else _SPLIT_OF[found["split"]]


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
    if any(sample.split for sample in samples):
        samples = [sample for sample in samples if sample.split == split]
        if not samples:
            raise UserError(f"data.root: what it holds is divided into splits, and none of it is {split}")
    return {"train": [], "val": [], "test": [], split: samples}


def _digest(sample_id: str) -> bytes:
    """A fixed pseudo-random key of an id; unlike ``hash``, the same in every process."""
    return hashlib.sha256(sample_id.encode("utf-8", "surrogateescape")).digest()
