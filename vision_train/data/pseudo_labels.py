"""Pseudo-labels that a run has written between its phases: read from their file, as truths of images, as targets."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vision_train.data.dataset import Batch
from vision_train.data.sample import ImageSample
from vision_train.data.tables import read_table
from vision_train.errors import UserError
from vision_train.files import printable, unescape_name
from vision_train.semi.label_file import COLUMNS, PseudoLabel, StoredLabel
from vision_train.wording import count_of, first_named

REMEDY = "remove it and resume the run that wrote it, or set data.pseudo_labels=null"
"""What to do about a file that cannot be used."""


def with_pseudo_labels(
    file: Path,
    pool: Sequence[ImageSample],
    people: Sequence[ImageSample],
    classes: Sequence[str],
    read: Callable[[Path], Sequence[PseudoLabel]] | None = None,
) -> tuple[list[ImageSample], list[str]]:
    """Give images of a pool the labels that a file keeps of them.

    Args:
        file: As a run wrote it between its phases.
        pool: The images of `data.unlabelled`.
        people: Images that people have labelled; what a file says of them does not count.
        classes: The label map.
        read: Reads those that are kept; None for :func:`read_pseudo_labels`.

    Returns:
        The images in the order of the pool, each with a :class:`PseudoLabel` as its truth, and what the user should
        know of them.

    Raises:
        UserError: The file cannot be read, names an image that is not in the pool, or a class that there is not.
    """
    labels = {label.id: label for label in (read or read_pseudo_labels)(file)}
    place = f"data.pseudo_labels {file}"
    if strange := labels.keys() - {sample.id for sample in pool}:
        raise UserError(f"{place}: {first_named(sorted(strange))} is not in data.unlabelled; {REMEDY}")
    named = {name for label in labels.values() for name in label.named}
    if unknown := sorted(named - {*classes}):
        raise UserError(f"{place}: {printable(unknown[0])} is none of the classes of the data; {REMEDY}")
    known = {sample.identity for sample in people}
    listed = [sample for sample in pool if sample.id in labels]
    taken = [replace(sample, truth=labels[sample.id]) for sample in listed if sample.identity not in known]
    lost = len(listed) - len(taken)
    notes = [f"{place}: the label that people gave is kept for {count_of(lost, 'images')}"] if lost else []
    return taken, notes


def read_pseudo_labels(path: Path) -> list[PseudoLabel]:
    """Read what :func:`vision_train.semi.label_file.write_pseudo_labels` wrote, or a table of ``path,label`` alone.

    Returns:
        Those that are kept, in the order of the file.

    Raises:
        UserError: The file is absent or no such table; the message names the line.
    """
    if not path.is_file():
        raise UserError(f"data.pseudo_labels {path}: no such file; {REMEDY}")
    table = read_table(path)
    scores = [name for name in table.columns if name and name not in COLUMNS]
    found: dict[str, PseudoLabel] = {}
    for line, row in table.rows_with("path", "label", filled=False):
        try:
            label = _label_of(row, scores)
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"data.pseudo_labels {path} line {line}: {error}; {REMEDY}") from error
        if label.id in found:
            raise UserError(f"data.pseudo_labels {path} line {line}: {printable(label.id)} is listed twice; {REMEDY}")
        found[label.id] = label
    return [each for each in found.values() if each.kept]


def labels_that_stay(path: Path) -> dict[str, StoredLabel]:
    """What an earlier round of a run took, by ids, of whatever kind its labels are.

    Raises:
        UserError: The file is absent or no table of pseudo-labels.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such file, and semi.rounds.policy=cumulative keeps what it lists; begin the run anew"
        )
    rows: dict[str, list[Mapping[str, str]]] = {}
    for _, row in read_table(path).rows_with("path", "kept"):
        if row["kept"] != "0":
            rows.setdefault(unescape_name(row["path"]), []).append(row)
    return {name: StoredLabel(name, "", stored=tuple(of)) for name, of in rows.items()}


def _label_of(row: Mapping[str, str], scores: Sequence[str]) -> PseudoLabel:
    votes = {str(name): int(count) for name, count in json.loads(row.get("voters") or "{}").items()}
    share, weight = float(row.get("share") or 1), float(row.get("weight") or 1)
    if not (0 <= share <= 1 and 0 <= weight < math.inf):
        raise ValueError(f"a share of {share} or a weight of {weight} is out of range")
    return PseudoLabel(
        id=unescape_name(row["path"]),
        label=row["label"],
        kept=(row.get("kept") or "1") != "0",
        share=share,
        votes=votes,
        scores={name: float(row[name] or "nan") for name in scores},
        round=int(row.get("round") or 0),
        weight=weight,
    )


class PseudoTargets:
    """Truths that are pseudo-labels -> `target` (B C, the shares of the votes) and `weight` (B), float32.

    Args:
        classes: C names of classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._index = {name: index for index, name in enumerate(classes)}

    def __call__(self, truths: list[PseudoLabel]) -> Batch:
        """The targets and weights of a batch."""
        target = torch.zeros(len(truths), len(self._index), dtype=torch.float32)
        for row, truth in zip(target, truths, strict=True):
            for name, votes in (truth.votes or {truth.label: 1}).items():
                row[self._index[name]] = votes
        weight = torch.tensor([truth.weight for truth in truths], dtype=torch.float32)
        return {"target": target / target.sum(dim=1, keepdim=True), "weight": weight}
