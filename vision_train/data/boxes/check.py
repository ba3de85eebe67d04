"""What is in annotations of boxes, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vision_train.data.boxes import Section
from vision_train.data.boxes.annotations import Annotated, BoxSample
from vision_train.data.boxes.read import FoundBoxes, read_boxes
from vision_train.data.content import Contents
from vision_train.data.decode import decode_large
from vision_train.data.findings import Findings
from vision_train.data.kind import SPLITS
from vision_train.errors import BadSampleError
from vision_train.files import printable
from vision_train.wording import count_of, first_named

Watched = Callable[[Sequence[BoxSample]], Iterator[BoxSample]]
SMALL, MEDIUM = 32**2, 96**2
"""Areas below which COCO calls a box small, and medium, in pixels."""


def check_boxes(place: Path, images: Path | None = None, watched: Watched = iter) -> tuple[list[str], bool]:
    """Read annotations and look at every image.

    Args:
        place: Folder of a data set, or a file of annotations.
        images: Folder of the images, where they do not lie there.
        watched: Gives the images one by one, while their pixels are read.

    Returns:
        What was found, in lines, and whether something has to be mended.

    Raises:
        UserError: They cannot be read at all.
    """
    beside = None if images is None else str(images)
    section = Section(root=str(place), images=beside) if place.is_dir() else Section(labels=str(place), images=beside)
    findings = Findings()
    found = read_boxes(section, findings)
    _compare_sizes(watched(found.samples), findings)
    _compare_splits(found.samples, findings)
    _look_twice(found.samples, findings)
    lines = [*_described(found.samples), *_classes(found), *found.notes, *_absent(found)]
    lines += _listed("worth knowing", findings.handled)
    lines += _listed("to be mended", findings.wrong) or ["nothing has to be mended"]
    return lines, bool(findings.wrong)


def _compare_sizes(samples: Iterator[BoxSample], findings: Findings) -> None:
    for sample in samples:
        truth: Annotated = sample.truth
        try:
            height, width = decode_large(sample.place).shape[:2]  # the pixels too: a file may be cut short
        except BadSampleError as error:
            findings.mend("images that cannot be read", f"{printable(sample.id)} ({error})")
            continue
        if (width, height) != (truth.width, truth.height):
            said = f"{truth.width} x {truth.height} annotated, {width} x {height} as it is shown"
            findings.mend("images of another size than their annotations say", f"{printable(sample.id)} ({said})")


def _compare_splits(samples: Sequence[BoxSample], findings: Findings) -> None:
    """Note images of which another split has a copy, whatever it is called."""
    splits: dict[str, list[BoxSample]] = {}
    for sample in samples:
        splits.setdefault(sample.split or "train", []).append(sample)
    for copies in Contents().shared(splits):
        named = " and ".join(f"{split} {printable(members[0].id)}" for split, members in copies.items())
        findings.mend("images that are in several splits", named)


def _look_twice(samples: Sequence[BoxSample], findings: Findings) -> None:
    for sample in samples:
        counts = Counter(zip(sample.truth.boxes, sample.truth.labels, strict=True))
        if any(count > 1 for count in counts.values()):
            findings.note("images with the same box twice", printable(sample.id))
    folded: dict[str, set[str]] = {}
    for name in {label for sample in samples for label in sample.truth.labels}:
        folded.setdefault(name.casefold(), set()).add(name)
    for names in folded.values():
        if len(names) > 1:
            findings.note("classes whose names differ in case alone", " and ".join(sorted(names)))


def _described(samples: Sequence[BoxSample]) -> Iterator[str]:
    truths = [sample.truth for sample in samples]
    splits = Counter(sample.split or "no split" for sample in samples)
    counts = [len(truth.boxes) for truth in truths]
    most = int(np.argmax(counts))
    yield f"{count_of(len(samples), 'images')} ({', '.join(f'{count:,} {split}' for split, count in splits.items())})"
    yield f"  width {_range([truth.width for truth in truths])}, height {_range([truth.height for truth in truths])}"
    yield f"  width over height {_range([truth.width / truth.height for truth in truths])}"
    yield f"  {counts.count(0):,} without boxes, which train as background"
    ignored = sum(len(truth.ignored) for truth in truths)
    yield f"{count_of(sum(counts), 'boxes')}, {count_of(ignored, 'ignored regions')}"
    yield f"  per image {_range(counts)}, the most on {printable(samples[most].id)}"
    sides = np.array([(x2 - x1, y2 - y1) for truth in truths for x1, y1, x2, y2 in truth.boxes]).reshape(-1, 2)
    if len(sides):
        areas = np.array([area for truth in truths for area in truth.object_areas])
        small, medium = int((areas < SMALL).sum()), int(((areas >= SMALL) & (areas < MEDIUM)).sum())
        yield f"  width {_range(sides[:, 0])}, height {_range(sides[:, 1])} pixels"
        yield f"  width over height {_range(sides[:, 0] / sides[:, 1])}"
        yield f"  {small:,} small, {medium:,} medium, {len(areas) - small - medium:,} large (as COCO measures areas)"


def _range(values: Sequence[float] | np.ndarray) -> str:
    """Smallest, median and largest, in words."""
    low, middle, high = (f"{float(each):.4g}" for each in (np.min(values), np.median(values), np.max(values)))
    return low if low == high else f"{low} to {high} (median {middle})"


def _classes(found: FoundBoxes) -> Iterator[str]:
    counts = {split: Counter[str]() for split in (*SPLITS, None)}
    for sample in found.samples:
        counts[sample.split].update(sample.truth.labels)
    held = [split for split, counter in counts.items() if counter]
    yield f"{len(found.categories):,} classes"
    for name, number in found.categories.items():
        boxes = ", ".join(f"{counts[split][name]:,}{f' {split}' if split else ''}" for split in held)
        yield f"  {number:>4}  {printable(name)}: {boxes or 'no'} boxes"


def _absent(found: FoundBoxes) -> Iterator[str]:
    """Classes that are measured, but never learned."""
    held: dict[str | None, set[str]] = {}
    for sample in found.samples:
        held.setdefault(sample.split, set()).update(sample.truth.labels)
    if "train" not in held:
        return
    for split in ("val", "test"):
        if missing := sorted(held.get(split, set()) - held["train"]):
            yield f"{split} has boxes of {first_named(missing)}, and train has none: nothing can be learned of that"


def _listed(title: str, kinds: dict[str, list[str]]) -> list[str]:
    return [f"{title}: {kind}: {first_named(examples)}" for kind, examples in kinds.items()]
