"""From the path of an image in annotations, perhaps written on another machine, to the file."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import ExifTags, Image

from vision_train.data.findings import Findings
from vision_train.data.large_images import large_images
from vision_train.data.sources import list_images_in
from vision_train.data.splits import split_called
from vision_train.errors import UserError
from vision_train.files import printable

UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


class ImageFinder:
    """Finds images below folders, by their path or by their name alone.

    Args:
        folders: Where to look, each with all that is below it.

    Raises:
        UserError: One of them is not there.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._found: dict[Path, None] = {}
        self.folders = list(dict.fromkeys(folders))
        for folder in self.folders:
            if not folder.is_dir():
                raise UserError(f"{printable(str(folder))}: no such folder; say where the images are with data.images")
            listing = list_images_in(folder)
            self._found |= dict.fromkeys(listing.below(folder, set()))
        for path in self._found:
            self._by_name[path.name].append(path)
            self._by_stem[path.stem].append(path)

    @property
    def files(self) -> list[Path]:
        """All images below the folders."""
        return [*self._found]

    def find(self, written: str, split: str | None, beside: Path, findings: Findings) -> Path | None:
        """The file of an image; None where there is none, which is noted in ``findings``.

        Args:
            written: Its path as the annotations name it.
            split: The split that it belongs to, where they say it.
            beside: Folder of the annotations.
            findings: Takes images that are found by their name alone, and those that are not found.
        """
        name = clean_name(written)
        for folder in (*self.folders, beside):
            exact = folder / name  # of an absolute path, that path
            if exact in self._found or exact.is_file():
                return exact
        candidates = self._candidates(name, split, beside)
        if len(candidates) == 1:
            if name.parts[-1:] != name.parts:
                findings.note("images found by their name, not at the path that is written", printable(written))
            return candidates[0]
        where = ", ".join(printable(str(folder)) for folder in self.folders) or printable(str(beside))
        if candidates:
            findings.mend(f"images whose name several files below {where} have", printable(written))
        else:
            findings.mend(f"images that the annotations list but that are not below {where}", printable(written))
        return None

    def _candidates(self, name: PurePosixPath, split: str | None, beside: Path) -> list[Path]:
        """Files of this name; of several, those that agree in the most folders, in the split or lie by the file."""
        bare = UPLOADED.sub("", name.name)
        # Label Studio leaves out the ending in xml files.
        found = self._by_name.get(name.name) or self._by_name.get(bare) or self._by_stem.get(name.name) or []
        if len(found) < 2:
            return found
        agreeing = [_common_end(path, name) for path in found]
        found = [path for path, count in zip(found, agreeing, strict=True) if count == max(agreeing)]
        for rule in (
            lambda path: split is not None and any(split_called(part) == split for part in path.parent.parts[-3:]),
            lambda path: path.is_relative_to(beside),
        ):
            if chosen := [path for path in found if rule(path)]:
                found = chosen
        return found


def clean_name(written: str) -> PurePosixPath:
    """A path as annotations write it, without what belongs to addresses and to Windows."""
    parts = urlsplit(written) if "://" in written or "?d=" in written else None
    if parts is not None:  # Label Studio: /data/local-files/?d=folder/image.jpg
        written = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    return PurePosixPath(written.replace("\\", "/"))


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture as it is shown, without decoding it; None where it cannot be read."""
    try:
        with large_images(), Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except Exception:  # noqa: BLE001 - damaged files raise anything; reading the pixels tells the reason
        return None
    return (height, width) if turned else (width, height)


def _common_end(path: Path, name: PurePosixPath) -> int:
    count = 0
    for ours, theirs in zip(reversed(path.parts), reversed(name.parts), strict=False):
        if ours != theirs:
            break
        count += 1
    return count
