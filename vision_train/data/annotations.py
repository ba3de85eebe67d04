"""Pictures that describe other pictures, such as masks, and lie among them: they are no images to learn from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vision_train.data.splits import FILLERS, words_of

_ALWAYS = "masks|annotations|segmentations|thumbnails|overlays|heatmaps|groundtruths|ground truths"
_WORDS = (
    f"{_ALWAYS}|mask|label|labels|annotation|annots|annot|segmentation|segs|seg|thumbnail|thumbs|thumb|overlay|heatmap"
    "|groundtruth|ground truth|gts|gt|superpixels"
)
_FOLDER = re.compile(rf"(?:(?:{FILLERS}) )*(?:{_WORDS})(?: (?:{FILLERS}))*|.* (?:{_ALWAYS})")
"""Folders of such pictures: `masks`, `mask_png`, `lung_masks`, but not `face_mask`."""
_FILE = re.compile(rf"(?P<image>.+?)[ _.-](?:{_WORDS.replace(' ', '[ _-]?')})(?:[ _-]?\d+)?", re.IGNORECASE)
"""A file beside the image that it describes: `a_mask.png` beside `a.png`."""


def annotations_among(files: Iterable[Path], top: Path) -> dict[str, int]:
    """Count the pictures among images that describe other ones.

    A folder of them is called like one, and other images lie beside it. A file of them is called like an image in the
    same folder, with such a word behind the name.

    Args:
        files: Images in a folder and in folders below it.
        top: That folder, whose own name does not count.

    Returns:
        Number of pictures of each folder or ending, such as ``masks`` and ``*_mask.png``; the most first.
    """
    listed = list(files)
    held = Counter(folder for file in listed if (folder := _folder_of(file, top)) is not None)
    others = [file for file in listed if _folder_of(file, top) is None]
    beside = {folder for file in others for folder in file.parents}
    found = Counter(
        {folder.relative_to(top).as_posix(): count for folder, count in held.items() if folder.parent in beside}
    )
    stems = {file.with_suffix("") for file in others}
    for file in others:
        named = _FILE.fullmatch(file.stem)
        if named is not None and file.with_name(named["image"]) in stems:
            found[f"*{re.sub(r'[ _-]?[0-9]+$', '', file.stem[len(named['image']) :])}{file.suffix}"] += 1
    return dict(found.most_common())


def _folder_of(file: Path, top: Path) -> Path | None:
    """The highest folder below the top that is called like one of such pictures, and that a file lies in."""
    folders = [folder for folder in file.parents if folder != top and folder.is_relative_to(top)]
    return next((folder for folder in reversed(folders) if _FOLDER.fullmatch(" ".join(words_of(folder.name)))), None)
