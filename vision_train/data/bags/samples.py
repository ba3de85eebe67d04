"""Bags to train on, before they are read: what is known of each, and what their features are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from vision_train.data.bags.bag import Bag, BagEntry
from vision_train.data.sample import file_identity
from vision_train.errors import UserError
from vision_train.wording import first_named


@dataclass(frozen=True, slots=True)
class BagSample:
    """One bag and what is known about it."""

    id: str
    """Unique in the data set."""
    bag: BagEntry | Bag
    """Where it lies, or the bag itself."""
    truth: str | None = None
    """Name of the class; None where unknown."""
    group: str | None = None
    """Patient or specimen, whose bags stay in one split; None for a case of its own."""
    split: str | None = None
    """`train`, `val` or `test`; None where the source does not say."""

    @property
    def place(self) -> str:
        """Path of the file, and the group in it; empty for a bag in memory."""
        if isinstance(self.bag, Bag):
            return ""
        return f"{self.bag.path}:{self.bag.group}" if self.bag.group else str(self.bag.path)

    @property
    def file(self) -> str | None:
        """Path of the file; None for a bag in memory, and for one of several in a file."""
        return None if isinstance(self.bag, Bag) or self.bag.group else str(self.bag.path)

    @property
    def identity(self) -> str:
        """The same for the same bag, whatever list names it: the file that its path leads to, or its id."""
        if isinstance(self.bag, Bag):
            return self.id
        return f"{file_identity(self.bag.path)}:{self.bag.group}"


@dataclass(frozen=True, slots=True)
class FeatureKind:
    """What kind of features a network learns from, or is given; None where nothing says."""

    width: int | None
    """Features of an instance."""
    encoder: str | None
    """What computed them."""


def map_labels(samples: list[BagSample], label_map: Mapping[str, str]) -> list[BagSample]:
    """Replace the labels of a table by names of classes; several labels may become one class.

    Raises:
        UserError: The map lacks labels that occur.
    """
    unknown: dict[str, list[str]] = {}
    for sample in samples:
        if sample.truth is not None and sample.truth not in label_map:
            unknown.setdefault(sample.truth, []).append(sample.id)
    if unknown:
        listed = "; ".join(f"`{label}` of {first_named(ids)}" for label, ids in unknown.items())
        raise UserError(f"data.label_map does not say what becomes of the label {listed}")
    return [s if s.truth is None else replace(s, truth=str(label_map[s.truth])) for s in samples]


def feature_kind(samples: Iterable[BagSample]) -> FeatureKind:
    """What the features of bags are that were found to agree when they were joined, or that are in memory."""
    encoder, width = None, None
    for sample in samples:
        width = sample.bag.features.shape[1] if isinstance(sample.bag, Bag) else sample.bag.width
        encoder = encoder or sample.bag.encoder
    return FeatureKind(width, encoder)


def check_feature_kind(found: FeatureKind, learned: FeatureKind, learner: str = "the network") -> None:
    """Compare the features of bags with those that a network was trained on.

    Args:
        found: Of the bags.
        learned: Of the bags that the network was trained on.
        learner: What the message calls the network.

    Raises:
        UserError: Both say their width or their encoder, and it is another.
    """
    if None not in (found.width, learned.width) and found.width != learned.width:
        raise UserError(f"the bags have {found.width} features an instance, but {learner} learned from {learned.width}")
    if None not in (found.encoder, learned.encoder) and found.encoder != learned.encoder:
        raise UserError(
            f"the features are those of the encoder {found.encoder}, but {learner} learned from those of "
            f"{learned.encoder}, and numbers of one mean nothing to the other; embed the slides with {learned.encoder}"
        )
