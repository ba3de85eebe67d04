"""Pictures that describe other pictures, such as masks, and lie among them: they are no images to learn from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from vision_train.data.splits import FILLERS, words_of

_ALWAYS = "masks|annotations|segmentations|thumbnails|overlays|heatmaps|groundtruths|ground truths"
_WORDS = (
    f"{_ALWAYS}|mask|label|labels|annotation|annots|annot|segmentation|segs|seg|thumbnail|thumbs|thumb|overlay|heatmap"
    "|groundtruth|ground truth|gts|gt|superpixels"
)
_FOLDER = re.compile(rf"(?:(?:{FILLERS}) )*(?:{_WORDS})(?: (?:{FILLERS}))*|.* (?:{_ALWAYS})")
"""Folders of such pictures: `masks`, `mask_png`, `lung_masks`, but not `face_mask`."""
_FILE = re.compile(rf"[ _.-](?:{_WORDS.replace(' ', '[ _-]?')})(?=(?:[ _-]?\d+)?$)", re.IGNORECASE)
"""How a file ends beside the image that it describes: `a_mask.png` beside `a.png`."""


def annotations_among(files: Iterable[Path], top: Path) -> dict[str, int]:
    """Count the pictures among images that describe other ones.

    A folder of them is called like one, and other images lie beside it. A file of them is called like an image in the
    same folder, with such a word behind the name.

    Args:
        files: Images in a folder and in folders below it.
        top: That folder, whose own name does not count.

    Returns:
        Number of pictures of each folder or ending, such as ``masks`` and ``*_mask``; the most first.
    """
    names: dict[Path, list[str]] = {}
    for file in files:
        names.setdefault(file.parent, []).append(file.stem)
    held: Counter[Path] = Counter()
    beside: set[Path] = set()
    found: Counter[str] = Counter()
    for folder, stems in names.items():
        of_annotations = _annotation_folder(folder, top)
        if of_annotations is None:
            beside.update((folder, *folder.parents))
            found.update(_endings(stems))
        else:
            held[of_annotations] += len(stems)
    found.update({str(folder.relative_to(top)): count for folder, count in held.items() if folder.parent in beside})
    return dict(found.most_common())


def _annotation_folder(folder: Path, top: Path) -> Path | None:
    """The highest folder below the top that is called like one of such pictures, among a folder and those around it."""
    below = [each for each in (folder, *folder.parents) if each != top and each.is_relative_to(top)]
    return next((each for each in reversed(below) if _FOLDER.fullmatch(" ".join(words_of(each.name)))), None)


def _endings(stems: list[str]) -> Iterator[str]:
    """How files of a folder end that are called like others of it but for that ending."""
    known = set(stems)
    for stem in stems:
        ending = _FILE.search(stem)
        if ending is not None and stem[: ending.start()] in known:
            yield f"*{ending[0]}"
