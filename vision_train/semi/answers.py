"""What a network says of a pool of samples, and what is taken of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vision_train.seeds import derive_seed
from vision_train.semi.combine import FLOORS, combine, passing
from vision_train.semi.label_file import PseudoLabel
from vision_train.semi.select import select

SCORE = "score"
"""Column of the one score by which samples are selected."""


@dataclass(frozen=True)
class Answer:
    """What one network says of one sample, asked under several views."""

    id: str
    said: Any
    """Plain values or numbers, for the task that made them: probabilities of classes, or boxes."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """How far it may be trusted, each in [0, 1]; NaN where that cannot be said."""


def each_once(answers: Sequence[Answer], ids: Sequence[str]) -> list[Answer]:
    """Answers in a fixed order, the first of several for one sample: what fills up a last batch counts once.

    Args:
        answers: Of all processes.
        ids: Of the pool in its order, which depends on no folder; those without an answer are passed over.
    """
    first = {answer.id: answer for answer in reversed(answers)}
    return [first[name] for name in ids if name in first]


def select_for_round(
    labels: Sequence[PseudoLabel],
    weights: Mapping[str, float],
    *,
    number: int,
    budget: int,
    seed: int,
) -> list[PseudoLabel]:
    """Keep the best labels within the budget of a round, classes or other strata in turn.

    Args:
        labels: Of all that were asked about, in their fixed order, with scores. Samples are known by their places: of
            equal scores, as those of a network that is certain, a draw from ids would follow the names of class
            folders.
        weights: Of the scores, by name.
        number: The round, from 1.
        budget: The most that are kept.
        seed: Of the run; it decides between equal scores.

    Returns:
        All labels in their order, marked, with the score that they were ranked by.
    """
    used = [name for name, weight in weights.items() if weight]
    scores = {name: torch.tensor([each.scores[name] for each in labels], dtype=torch.float64) for name in used}
    combined = combine(scores, {name: weights[name] for name in used})
    floors = {name: floor for name, floor in FLOORS.items() if name in scores}
    chosen = select(
        [str(place) for place in range(len(labels))],
        combined,
        budget,
        seed=derive_seed(seed, "selection", number),
        eligible=passing(scores, floors) & torch.tensor([bool(each.stratum) for each in labels], dtype=torch.bool),
        strata=[each.stratum for each in labels],
    )
    kept = {int(place) for place in chosen}
    return [
        replace(each, kept=place in kept, round=number, scores={**each.scores, SCORE: score})
        for place, (each, score) in enumerate(zip(labels, combined.tolist(), strict=True))
    ]
