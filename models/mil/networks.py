"""All networks for bags, by the names that recipes use."""

from __future__ import annotations

from collections.abc import Callable

from models.mil.abmil import ABMIL
from models.mil.acmil import AcmilGA
from models.mil.acmil_mha import AcmilMHA
from models.mil.bags import BagNetwork
from models.mil.clam import ClamSB
from models.mil.mean_max import MaxMIL, MeanMIL
from models.mil.transmil import TransMIL

NETWORKS: dict[str, Callable[..., BagNetwork]] = {
    "acmil_ga": AcmilGA,
    "acmil_mha": AcmilMHA,
    "abmil": ABMIL,
    "clam_sb": ClamSB,
    "transmil": TransMIL,
    "mean": MeanMIL,
    "max": MaxMIL,
}
"""Each takes ``in_features``, ``width`` and ``classes``, and keywords of its own."""


def published_width(in_features: int) -> int:
    """Width L of embedded instances for features of width D: half of it, but 128 for the 384 of a ViT-S."""
    return 128 if in_features == 384 else in_features // 2
