"""Samples that are in two splits at once, and those that a phase of a run must not learn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from vision_train.data.content import CONTENTS, Shared
from vision_train.data.module import PSEUDO_SPLIT, SampleDataModule
from vision_train.data.sample import Sample
from vision_train.errors import UserError

MOST_NAMED = 3
"""Copies that a message names."""


def check_overlap(data: SampleDataModule) -> None:
    """Note which samples of one split are copies of another's, and refuse to test on what is trained on.

    A sample that accompanies validation may be one of those that are trained on without their labels; copies of it
    under another name are told.

    Raises:
        UserError: Test samples are copies of training samples, and ``data.allow_overlap`` is not set.
    """
    # Whether there are copies does not depend on the seed that draws some of the training samples.
    splits = {name: data.drawn_from.get(name, data.samples(name)) for name, count in data.counts.items() if count}
    splits.pop(PSEUDO_SPLIT, None)  # some of the pool, whose copies are told anyway
    beside = {name for names in data.companions.values() for name in names}
    trained_on = {stream.split for stream in data.streams.values()}
    groups = CONTENTS.shared(splits)
    for first, second in combinations(splits, 2):
        if splits[first] is splits[second]:
            continue  # both names mean one split, and the code that named it said so
        pairs = _copies(groups, first, second, same_file=(first in beside) == (second in beside))
        if not pairs:
            continue
        told = f"{_counted(pairs, data, second)} are copies of {first} {data.noun}: {_named(pairs)}"
        if second != "test" or first not in trained_on:
            data.notes.append(told)
        elif data.section.allow_overlap:
            data.notes.append(f"{told}; test metrics will be too high")
        else:
            raise UserError(
                f"{data.section.named()}: {told}. Remove the copies from one of the two splits, or set "
                "data.allow_overlap=true to test on them all the same"
            )


def _copies(groups: Iterable[Shared], first: str, second: str, *, same_file: bool) -> list[tuple[Sample, Sample]]:
    """Samples of the second split, each with one of the first that has the same content.

    Args:
        groups: What is shared among splits.
        first: Name of the first split.
        second: Name of the second split.
        same_file: Whether one file may not be in both.
    """
    pairs = []
    for group in groups:
        originals = group.get(first, [])
        for sample in group.get(second, []):
            is_one_of_them = any(each.identity == sample.identity for each in originals)
            if originals and (same_file or not is_one_of_them):
                pairs.append((sample, originals[0]))
    return pairs


def _counted(pairs: Sequence[tuple[Sample, Sample]], data: SampleDataModule, split: str) -> str:
    return f"{len(pairs):,} of {data.counts[split]:,} {split} {data.noun}"


def _named(pairs: Sequence[tuple[Sample, Sample]]) -> str:
    named = ", ".join(f"{sample.id} (as {original.id})" for sample, original in pairs[:MOST_NAMED])
    return named + (", ..." if len(pairs) > MOST_NAMED else "")


def keep_apart(earlier: SampleDataModule, later: SampleDataModule) -> None:
    """Take the samples that the later phase of a run is measured on out of those that the earlier one learns from.

    Pre-training on a pool that holds the labelled images too would otherwise learn from those that fine-tuning is
    tested on, and its probe from their labels. A copy of such a sample is left out like the sample.

    Raises:
        UserError: Nothing would be left to learn from.
    """
    trained_on = {stream.split for stream in earlier.streams.values()}
    learnt = [split for split in earlier.counts if split != "test"]  # nothing is learnt from that
    measured = {name: later.samples(name) for name in ("val", "test") if name in later.counts}
    groups = CONTENTS.shared(
        {f"learnt {split}": earlier.samples(split) for split in learnt}
        | {f"measured {split}": samples for split, samples in measured.items()}
    )
    for split in learnt:
        forbidden = {"measured val", "measured test"} if split in trained_on else {"measured test"}
        copies = (
            group[f"learnt {split}"] for group in groups if group.keys() & forbidden and f"learnt {split}" in group
        )
        earlier.leave_out(split, {sample.identity for samples in copies for sample in samples})
