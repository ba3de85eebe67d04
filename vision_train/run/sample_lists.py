"""The samples of a phase, kept beside its checkpoints: files may move, come and go after they were trained on."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_train.data.content import CONTENTS
from vision_train.data.kind import is_test
from vision_train.data.module import SampleDataModule
from vision_train.data.sample import Sample, brief_truth
from vision_train.files import written_whole

SAMPLES_FILE = "samples.jsonl.gz"
"""Name of the list of samples in the folder of a phase."""
EARLIER = "earlier "
"""Before the name of a split: samples that were in it until the phase was resumed with others."""


@dataclass(frozen=True, slots=True)
class ListedSample:
    """A sample as the list has it."""

    id: str
    truth: str | None
    place: str | None = None
    """Where it lay; empty for what was in memory, None in lists of earlier versions."""
    mark: str | None = None
    """What its copies share, as :meth:`Contents.marks` makes it; None where that is not known."""

    @property
    def known_by(self) -> set[str]:
        """Texts of which the same sample, or a copy of it, has one as well."""
        names = {self.place or self.id} if self.place is not None else set()
        return names | {self.mark} if self.mark else names


SampleLists = dict[str, list[ListedSample]]
"""Samples by split, in their order."""


def list_samples(data: SampleDataModule) -> SampleLists:
    """The samples of all splits as they are today. Files that are new or changed are read for some kilobytes each."""
    return {split: listed(data.samples(split)) for split, count in data.counts.items() if count}


def listed(samples: Sequence[Sample]) -> list[ListedSample]:
    """Samples as a list has them."""
    return [
        ListedSample(sample.id, brief_truth(sample.truth), _absolute(sample.place), mark)
        for sample, mark in zip(samples, CONTENTS.marks(samples), strict=True)
    ]


def _absolute(place: str) -> str:
    return os.path.abspath(place) if place else ""  # noqa: PTH100 - keeps links


def digest_of(samples: Iterable[ListedSample]) -> str:
    """Digest of the ids and truths of a split, in their order. Where they lie does not count: data can be moved."""
    return digest_of_truths({sample.id: sample.truth for sample in samples})


def digest_of_truths(truths: Mapping[str, str | None]) -> str:
    """The same of truths by id."""
    return hashlib.sha256(json.dumps(list(truths.items())).encode()).hexdigest()


def write_samples(path: Path, data: SampleDataModule, before: SampleLists) -> None:
    """Write a line ``[split, id, truth, place, mark]`` for each sample.

    Args:
        path: The file.
        data: The samples of today.
        before: Those of the training so far; what it learnt from is kept.
    """
    lists = list_samples(data)
    today = set(learnt_of(lists))
    for split, samples in before.items():
        gone = [sample for sample in samples if not is_test(split) and sample not in today]
        lists.setdefault(split if split.startswith(EARLIER) else EARLIER + split, []).extend(gone)
    with written_whole(path) as temporary, gzip.open(temporary, "wt", encoding="ascii") as file:
        for split, samples in lists.items():
            lines = ([split, each.id, each.truth, each.place, each.mark] for each in samples)
            file.writelines(json.dumps(line) + "\n" for line in lines)


def read_samples(path: Path) -> SampleLists | None:
    """Read what :func:`write_samples` wrote; None where there is no such file, or a damaged one."""
    lists: SampleLists = {}
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            for split, *values in map(json.loads, file):
                lists.setdefault(split, []).append(ListedSample(*values))
    except (OSError, EOFError, ValueError, TypeError, zlib.error):
        return None
    return lists or None  # it never is empty


def learnt_of(lists: SampleLists) -> Iterator[ListedSample]:
    """Samples that were trained on or that chose an epoch: of all splits but ``test`` and its parts."""
    return (sample for split, samples in lists.items() if not is_test(split) for sample in samples)


def known_by(samples: Iterable[ListedSample]) -> set[str]:
    """Texts of which each of the samples, and each copy of one, has one."""
    return {text for sample in samples for text in sample.known_by}
