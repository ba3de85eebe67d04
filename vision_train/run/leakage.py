"""Samples that are in two splits at once, and those that a phase of a run must not learn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from vision_train.data.content import CONTENTS, Shared
from vision_train.data.kind import LABELLED, is_test
from vision_train.data.module import POOL_SPLIT, PSEUDO_SPLIT, SampleDataModule
from vision_train.data.pictures import Pictures, look_alike, pictures_of, same_pixels, too_many
from vision_train.data.sample import Sample
from vision_train.data.stored_content import unread
from vision_train.errors import UserError
from vision_train.wording import count_of, percent

MOST_NAMED = 3
"""Copies that a message names."""
MEASURED = ("val", "test")
"""The splits that a result is measured on."""


def clear_pool(data: SampleDataModule) -> None:
    """Take copies of what a run is validated and tested on out of the samples that it has no labels of.

    A copy is a file of the same bytes or an image of the same pixels. What looks alike is told. How many are copies of
    labelled samples that are trained on is counted, unless these are meant to be the unlabelled ones.

    Raises:
        UserError: Nothing would be left to learn from.
    """
    if not data.counts.get(POOL_SPLIT) or _pool_key(data) == LABELLED:
        return
    lists = {name: data.samples(name) for name in (POOL_SPLIT, "train", *MEASURED) if data.counts.get(name)}
    groups, pictures = _same_content(lists, data)
    pairs = {
        sample.identity: (sample, group[of][0])
        for group in groups
        for of in MEASURED
        if of in group
        for sample in group.get(POOL_SPLIT, [])
    }
    _take_out_copies(data, list(pairs.values()))
    copied = {sample.identity for group in groups if "train" in group for sample in group.get(POOL_SPLIT, [])}
    data.pool_copies = len(copied - pairs.keys())
    if data.pool_copies:
        share = data.pool_copies / data.counts[POOL_SPLIT]
        copies = count_of(data.pool_copies, data.noun)
        data.notes.append(f"the pool has copies of labelled {data.noun}: {copies} ({percent(share, 1)})")
    measured = [sample for name in MEASURED for sample in lists.get(name, [])]
    if alike := look_alike(data.samples(POOL_SPLIT), measured, pictures):
        data.warnings.append(
            f"{_counted(alike, data, POOL_SPLIT)} look like ones of validation or test: {_named(alike, 'like')}. If "
            f"they show the same, as smaller or compressed copies do, take them out of {_pool_named(data)}: what is "
            "measured would be too good"
        )


def _take_out_copies(data: SampleDataModule, pairs: Sequence[tuple[Sample, Sample]]) -> None:
    if not pairs:
        return
    data.take_out(POOL_SPLIT, {sample.identity for sample, _ in pairs})
    copies = f"copies of validation or test {data.noun}: {_named(pairs)}"
    if not data.counts[POOL_SPLIT]:
        raise UserError(
            f"{_pool_named(data)}: all {data.noun} in it are {copies}. Nothing is learnt from those; name others"
        )
    data.notes.append(f"left out {count_of(len(pairs), data.noun)} of {_pool_named(data)} as {copies}")


def _pool_key(data: SampleDataModule) -> str:
    return str(getattr(data.section, "unlabelled", ""))  # not every kind of data has the key


def _pool_named(data: SampleDataModule) -> str:
    return f"data.unlabelled={_pool_key(data)}"


def _same_content(lists: Mapping[str, Sequence[Sample]], data: SampleDataModule) -> tuple[list[Shared], Pictures]:
    """What occurs in more than one list by its bytes or by its pixels, and what was found out of the pixels."""
    groups, samples = CONTENTS.shared(lists), [sample for members in lists.values() for sample in members]
    if many := too_many(samples):
        data.notes.append(
            f"copies are found by the bytes of files alone, since decoding {many} to compare their pixels would take "
            "long: a copy that was saved anew is not found"
        )
        return groups, {}
    pictures = pictures_of(samples)
    return [*groups, *same_pixels(lists, pictures)], pictures


def check_overlap(data: SampleDataModule) -> None:
    """Note which samples of one split are copies of another's, and refuse to test on what is trained on.

    A sample that accompanies validation may be one of those that are trained on without their labels; copies of it
    under another name are told.

    Raises:
        UserError: Test samples are copies of training samples, and ``data.allow_overlap`` is not set.
    """
    # Whether there are copies does not depend on the seed that draws some of the training samples.
    splits = {
        name: data.drawn_from.get(name, data.samples(name))
        for name, count in data.counts.items()
        if count and name not in (POOL_SPLIT, PSEUDO_SPLIT)  # which is cleared, and some of it
    }
    beside = {name for names in data.companions.values() for name in names}
    trained_on = {stream.split for stream in data.streams.values()}
    groups = CONTENTS.shared(splits)
    if many := unread(sample for samples in splits.values() for sample in samples):
        data.notes.append(f"copies of {data.noun} in several splits were not looked for: that is to read {many}")
    for first, second in combinations(splits, 2):
        if splits[first] is splits[second] or (is_test(first) and is_test(second)):
            continue  # both names mean one split, or parts of it, and the code that named it said so
        pairs = _copies(groups, first, second, same_file=(first in beside) == (second in beside))
        if not pairs:
            continue
        told = f"{_counted(pairs, data, second)} {data.repeats} {first} {data.noun}{_files(pairs)}: {_named(pairs)}"
        if not is_test(second) or first not in trained_on:
            data.notes.append(told)
        elif data.section.allow_overlap:
            data.notes.append(f"{told}; test metrics will be too high")
        else:
            raise UserError(
                f"{data.section.named()}: {told}. Remove them from one of the two splits, or set "
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


def _files(pairs: Sequence[tuple[Sample, Sample]]) -> str:
    """How many files there are of samples of which several are about one."""
    files = len({sample.identity for sample, _ in pairs})
    return f" ({files:,} files)" if files < len(pairs) else ""


def _named(pairs: Sequence[tuple[Sample, Sample]], relation: str = "as") -> str:
    named = ", ".join(f"{sample.id} ({relation} {original.id})" for sample, original in pairs[:MOST_NAMED])
    return named + (", ..." if len(pairs) > MOST_NAMED else "")


def keep_apart(earlier: SampleDataModule, later: SampleDataModule) -> None:
    """Take the samples that the later phase of a run is measured on out of those that the earlier one learns from.

    Pre-training on a pool that holds the labelled images too would otherwise learn from those that fine-tuning is
    tested on, and its probe from their labels. A copy of such a sample, by bytes or by pixels, is left out like it.

    Raises:
        UserError: Nothing would be left to learn from.
    """
    trained_on = {stream.split for stream in earlier.streams.values()}
    learnt = [split for split in earlier.counts if not is_test(split)]  # nothing is learnt from that
    measured = {name: later.samples(name) for name in MEASURED if name in later.counts}
    lists = {f"learnt {split}": earlier.samples(split) for split in learnt}
    lists |= {f"measured {split}": samples for split, samples in measured.items()}
    groups, _ = _same_content(lists, earlier)
    for split in learnt:
        forbidden = {"measured val", "measured test"} if split in trained_on else {"measured test"}
        copies = (
            group[f"learnt {split}"] for group in groups if group.keys() & forbidden and f"learnt {split}" in group
        )
        earlier.leave_out(split, {sample.identity for samples in copies for sample in samples})
