"""Cutting samples into folds for cross-validation: whole groups, and all classes in every fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vision_train.data.fold_section import Fold
from vision_train.data.label_set_folds import stratified_folds
from vision_train.data.label_sets import LabelSet
from vision_train.data.sample import Sample
from vision_train.errors import UserError
from vision_train.seeds import derive_seed
from vision_train.wording import first_named

LARGEST_SEED = 2**32
"""scikit-learn takes seeds below this."""
S = TypeVar("S", bound=Sample)


class FoldedSection(Protocol):
    """A section of a recipe that may ask for a fold."""

    @property
    def fold(self) -> Fold | None:
        """The fold that is the test split."""

    def named(self) -> str:
        """The key that names the samples, with its value."""


def with_fold(samples: list[S], section: FoldedSection, seed: int) -> list[S]:
    """Samples of which those of the fold that ``data.fold`` names are the test split; as they are without one.

    Folds are drawn with the seed and depend on the ids, groups and classes alone, whatever the order of the samples.
    Samples of one group are in one fold. Where samples have a class, or several, folds hold it in like shares. A split
    ``val`` that the samples name stays; else it is cut from the samples of the other folds, as without folds.

    Args:
        samples: All labelled samples of a source.
        section: Says which fold.
        seed: Seed of the run.

    Raises:
        UserError: The samples name a test split, or there are too few of them, or of a class, for so many folds.
    """
    if section.fold is None:
        return samples
    if any(sample.split == "test" for sample in samples):
        raise UserError(
            f"{section.named()}: names its own test split, and folds make each sample a test sample once; compare "
            "without --folds, or name samples without a test split"
        )
    divisible = sorted((sample for sample in samples if sample.split != "val"), key=lambda sample: sample.id)
    folds = _folds_of(divisible, section, seed)
    tested = {sample.id for sample, fold in zip(divisible, folds, strict=True) if fold == section.fold.number - 1}
    # mypy knows no dataclass behind the protocol; samples of all kinds are.
    copied: Callable[..., Any] = replace
    return [copied(sample, split="test") if sample.id in tested else sample for sample in samples]


def _folds_of(samples: Sequence[Sample], section: FoldedSection, seed: int) -> NDArray[np.int64]:
    """The fold of each sample, from 0 on."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

    assert section.fold is not None
    count, random = section.fold.of, derive_seed(seed, "folds") % LARGEST_SEED
    groups = np.unique([sample.group or sample.id for sample in samples], return_inverse=True)[1]
    alone = len(set(groups.tolist())) == len(samples)
    if samples and all(isinstance(sample.truth, LabelSet) for sample in samples):
        return _folds_of_label_sets(samples, groups, section, random)
    labels = [sample.truth for sample in samples] if all(isinstance(each.truth, str) for each in samples) else None
    _refuse_few(groups, [[label] for label in labels or ["all samples"] * len(groups)], section)
    if labels is None:
        cutting = GroupKFold(count, shuffle=True, random_state=random)
    elif alone:  # the same with groups takes a step of Python for each sample
        cutting = StratifiedKFold(count, shuffle=True, random_state=random)
    else:
        cutting = StratifiedGroupKFold(count, shuffle=True, random_state=random)
    folds = np.zeros(len(samples), dtype=np.int64)
    for fold, (_, tested) in enumerate(
        cutting.split(np.zeros(len(samples)), labels, None if alone and labels else groups)
    ):
        folds[tested] = fold
    if labels is not None:
        _refuse_absent(folds, labels, section)
    return folds


def _folds_of_label_sets(
    samples: Sequence[Sample], groups: NDArray[np.int64], section: FoldedSection, seed: int
) -> NDArray[np.int64]:
    assert section.fold is not None
    truths = [sample.truth for sample in samples]
    _refuse_few(groups, [["all samples", *truth.present] for truth in truths], section)
    names = sorted({name for truth in truths for name in truth.present})
    present = np.array([[name in truth.present for name in names] for truth in truths], dtype=bool)
    return stratified_folds(present, groups, section.fold.of, np.random.default_rng(seed))


def _refuse_few(groups: NDArray[np.int64], labels: Sequence[Sequence[str]], section: FoldedSection) -> None:
    """Refuse classes, or samples, of which there are fewer groups than folds."""
    assert section.fold is not None
    count = section.fold.of
    held: dict[str, set[int]] = {}
    for names, group in zip(labels, groups.tolist(), strict=True):
        for name in names:
            held.setdefault(name, set()).add(group)
    few = {label: len(found) for label, found in (held or {"all samples": set()}).items() if len(found) < count}
    if not few:
        return
    named = first_named([f"{label} ({found})" for label, found in few.items()])
    fewest = min(few.values())
    remedy = f"lower --folds to {fewest}" if fewest > 1 else "add some, or compare without --folds"
    raise UserError(
        f"{section.named()}: there are fewer samples, those of a group counted once, than {count} folds of {named}; "
        f"{remedy}"
    )


def _refuse_absent(folds: NDArray[np.int64], labels: Sequence[str], section: FoldedSection) -> None:
    """Refuse folds that lack a class, as large groups of several classes may bring about."""
    assert section.fold is not None
    for fold in range(section.fold.of):
        inside = {label for label, at in zip(labels, folds.tolist(), strict=True) if at == fold}
        if absent := sorted({*labels} - inside):
            raise UserError(
                f"{section.named()}: groups are too large for {section.fold.of} folds of all classes: fold {fold + 1} "
                f"has nothing of class {first_named(absent)}; lower --folds"
            )
