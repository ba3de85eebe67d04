"""Samples whose truth is the name of a class: splits cut class by class, label maps, few-label subsets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TypeVar

import numpy as np

from vision_train.data.sample import Divisible
from vision_train.data.splits import by_split, cut_shares, shares_to_cut
from vision_train.errors import UserError
from vision_train.seeds import derive_seed
from vision_train.wording import first_named

MOST_CLASSES_LISTED = 5
"""A message about more classes counts the rest."""

S = TypeVar("S", bound=Divisible)


def divide(samples: list[S], shares: Mapping[str, float] | None, noun: str = "image") -> dict[str, list[S]]:
    """Sort samples into train, val and test.

    A split that the samples name is taken as it is. Each of val and test that no sample names is cut from the training
    samples, class by class and at least one of each: ``shares[name]`` of them, or a tenth where ``shares`` does not
    say.

    Which ones depends on their ids alone. Runs of different seeds are measured on the same samples, a run that starts
    from the weights of another classifier of the same samples is not tested on what that one learned, and samples that
    join a class later displace at most one or two others.

    Args:
        samples: From one source; those without a split count as training samples.
        shares: Shares of val and test.
        noun: What a message calls a sample.

    Raises:
        UserError: A class has too few samples to leave one in every split.
    """
    splits = by_split(samples)
    wanted = shares_to_cut(splits, shares)
    if not wanted:
        return splits
    train: list[S] = []
    for label, members in _by_label(splits["train"]).items():
        if len(members) <= len(wanted):
            raise UserError(
                f"class {label}: {len(members)} training {noun}(s) are too few to cut {' and '.join(wanted)} from; "
                f"it needs at least {len(wanted) + 1}. If that is no class of yours, mend the label of {members[0].id}"
            )
        cut = cut_shares(members, wanted)
        train += cut.pop("train")
        for name, taken in cut.items():
            splits[name] += taken
    return {**splits, "train": train}


def label_map(
    splits: Mapping[str, list[S]],
    fixed: list[str] | None = None,
) -> list[str]:
    """Names of the classes, as :func:`class_order` puts them; or ``fixed``, once every label is known to be in it.

    Args:
        splits: Samples that have a label each.
        fixed: Label map of an earlier run.

    Raises:
        UserError: Fewer than two classes; a class that one split lacks; a label outside ``fixed``.
    """
    if fixed is not None:
        known = set(fixed)
        for sample in chain.from_iterable(splits.values()):
            if sample.truth not in known:
                raise UserError(f"{sample.id}: label `{sample.truth}` is not one of the run's classes: {fixed}")
        return list(fixed)
    present = {name: {str(sample.truth) for sample in members} for name, members in splits.items()}
    classes = class_order(set.union(*present.values()))
    if len(classes) < 2:
        raise UserError(
            f"only one class, {', '.join(classes)}; classification needs at least two. Add samples of another class to "
            "data.root, or to the table data.labels"
        )
    for split, labels in present.items():
        missing = [name for name in classes if name not in labels]
        if missing:
            example = next(sample for sample in chain.from_iterable(splits.values()) if sample.truth == missing[0])
            held = " and ".join(name for name, labels in present.items() if missing[0] in labels)
            instead = "" if split == "train" else f", or remove the split {split}, so that one is cut from train"
            raise UserError(
                f"the {split} split has nothing of class {first_named(missing)}; every split needs every class. Add "
                f"samples of it to {split}, or take those out of {held}{instead}. If it is no class of yours, mend the "
                f"label of {example.id}"
            )
    return classes


def class_order(names: Iterable[str]) -> list[str]:
    """Names of classes in order: whole numbers by their value, as heads of published weights have them, others as text.

    ``2`` comes before ``10``. A single name that is no number makes all of them text.
    """
    listed = list(names)
    if all(re.fullmatch(r"-?[0-9]+", name) for name in listed):
        return sorted(listed, key=lambda name: (int(name), name))
    return sorted(listed)


def draw_labels_per_class(train: list[S], count: int, seed: int) -> list[S]:
    """Draw ``count`` training samples of each class; a larger ``count`` with the same seed contains a smaller one.

    Raises:
        UserError: Classes have fewer; the message names them.
    """
    by_label = _by_label(train)
    small = [f"{label} ({len(members)})" for label, members in by_label.items() if len(members) < count]
    if small:
        rest = len(small) - MOST_CLASSES_LISTED
        named = ", ".join(small[:MOST_CLASSES_LISTED]) + (f" and {rest} more classes" if rest > 0 else "")
        fewest = min(map(len, by_label.values()))
        raise UserError(
            f"data.labels_per_class is {count}, but these classes have fewer to train on: {named}. "
            f"Set it to {fewest} or less, or to null to take all of every class"
        )
    drawn: list[S] = []
    for label, members in by_label.items():
        order = _permutation(len(members), derive_seed(seed, f"labels of {label}"))
        drawn += [members[index] for index in sorted(order[:count])]
    return drawn


def _by_label(samples: list[S]) -> dict[str, list[S]]:
    members: dict[str, list[S]] = {}
    for sample in sorted(samples, key=lambda sample: str(sample.truth)):  # stable: keeps the order within a class
        members.setdefault(str(sample.truth), []).append(sample)
    return members


def _permutation(length: int, seed: int) -> list[int]:
    return [int(index) for index in np.random.default_rng(seed).permutation(length)]
