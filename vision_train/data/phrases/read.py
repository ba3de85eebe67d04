"""From a recipe's section to samples: annotations of all formats, images found, what cannot be used left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from vision_train.data.corners import clip_corners, refuse_misread, refuse_shares
from vision_train.data.find_images import ImageFinder, picture_size
from vision_train.data.findings import Findings
from vision_train.data.phrases import FILES, Section
from vision_train.data.phrases.annotations import Listed, ListedFile, PhraseSample, Referred
from vision_train.data.phrases.drawn import drawn_samples
from vision_train.data.phrases.layout import read_annotations
from vision_train.data.phrases.texts import quoted
from vision_train.errors import UserError
from vision_train.files import printable


@dataclass(frozen=True)
class FoundPhrases:
    """The expressions of a data set.

    Attributes:
        samples: In the order of their annotations.
        notes: What the user should know of how they were read.
    """

    samples: list[PhraseSample]
    notes: list[str]


def read_phrases(section: Section, findings: Findings) -> FoundPhrases:
    """Read the annotations that a section names, and find their images.

    Args:
        section: The recipe's ``data``.
        findings: Takes what is wrong with single expressions and images.

    Raises:
        UserError: Something is missing, or of no known format.
    """
    if section.source != FILES:
        return FoundPhrases(drawn_samples(), [])
    listed = read_annotations(section, findings)
    folder = Path(section.images or section.root or listed.folder)
    found = _with_images(listed, folder, findings)
    placed = [(each.corners, each.size, each.place) for each, _ in found]
    refuse_misread(placed, listed.path, listed.order)
    refuse_shares(placed, listed.path)
    samples = _samples(found, folder, findings)
    if not samples:
        wrong = "; ".join(findings.wrong) or "it lists none"
        raise UserError(f"{printable(str(listed.path))}: not one expression can be used; {wrong}")
    _look_twice(samples, findings)
    return FoundPhrases(samples, listed.notes)


def _with_images(listed: ListedFile, folder: Path, findings: Findings) -> list[tuple[Listed, Path]]:
    """The expressions whose image is there and has a size.

    Raises:
        UserError: Not one image is there.
    """
    finder = ImageFinder([folder])
    names = dict.fromkeys(each.image for each in listed.expressions)
    paths = {name: finder.find(name, None, listed.folder, findings) for name in names}
    if names and not any(paths.values()):
        raise UserError(
            f"{printable(str(listed.path))}: none of its {len(names)} images lies below {printable(str(folder))}, such "
            f"as {printable(next(iter(names)))}; say where they are with data.images"
        )
    size_of = _sizes(findings)
    found = [(each, path) for each in listed.expressions if (path := paths[each.image]) is not None]
    sized = [(replace(each, size=each.size or size_of(path)), path) for each, path in found]
    return [(each, path) for each, path in sized if each.size is not None]


def _sizes(findings: Findings) -> Callable[[Path], tuple[int, int] | None]:
    """Reads the size of an image, once; one that has none is noted."""

    @cache
    def size_of(path: Path) -> tuple[int, int] | None:
        size = picture_size(path)
        if size is None:
            findings.mend("images whose size cannot be read", printable(str(path)))
        return size

    return size_of


def _samples(found: Sequence[tuple[Listed, Path]], folder: Path, findings: Findings) -> list[PhraseSample]:
    samples: list[PhraseSample] = []
    counts: Counter[Path] = Counter()
    taken: set[str] = set()
    for each, path in found:
        assert each.size is not None, "images without a size are left out before"
        counts[path] += 1
        image = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
        name = f"{image}#{counts[path] if each.number is None else each.number}"
        text = " ".join(each.text.split())
        box = clip_corners(each.corners, each.size, each.place, findings)
        if not text:
            findings.mend("expressions without a word", each.place)
        elif name in taken:
            findings.mend("expressions of a number that another one of their image has", each.place)
        elif box is not None:
            taken.add(name)
            truth = Referred(text, box, *each.size, each.category)
            samples.append(PhraseSample(name, str(path), truth, each.part.split, image, text, each.part.letters))
    return samples


def _look_twice(samples: Sequence[PhraseSample], findings: Findings) -> None:
    """Note expressions that stand there twice, and those that mean different boxes of one image."""
    alike: dict[tuple[str | None, str], list[PhraseSample]] = defaultdict(list)
    for sample in samples:
        alike[sample.group, sample.text.casefold()].append(sample)
    for members in alike.values():
        boxes = [sample.truth.box for sample in members]
        example = f"{quoted(members[0].text)} ({printable(members[-1].id)})"
        if len(boxes) > len(set(boxes)):
            findings.note("the same expression of the same box more than once, all of which are kept", example)
        if len(set(boxes)) > 1:
            findings.note("the same expression of several boxes of an image, so that not all can be right", example)
