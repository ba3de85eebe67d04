"""What a network says of a pool of samples, and what is taken of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vision_train.seeds import derive_seed
from vision_train.semi.combine import FLOORS, combine, passing
from vision_train.semi.label_file import PseudoLabel
from vision_train.semi.rounds import budget
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


def each_once(answers: Sequence[Answer]) -> list[Answer]:
    """Answers in the order of the ids, the first of several for one sample: what fills up a last batch counts once."""
    first = {answer.id: answer for answer in reversed(answers)}
    return [first[name] for name in sorted(first)]


def select_for_round(
    labels: Sequence[PseudoLabel],
    weights: Mapping[str, float],
    *,
    number: int,
    rounds: int,
    most: float,
    seed: int,
    excluded: Collection[str] = (),
) -> list[PseudoLabel]:
    """Keep the best labels within the budget of a round, classes or other strata in turn.

    Args:
        labels: Of the whole pool, with scores.
        weights: Of the scores, by name.
        number: The round, from 1.
        rounds: How many there are.
        most: Share of the pool that the last round may take.
        seed: Of the run; it decides between equal scores.
        excluded: Ids that are never taken.

    Returns:
        All labels in their order, marked, with the score that they were ranked by.
    """
    used = [name for name, weight in weights.items() if weight]
    scores = {name: torch.tensor([each.scores[name] for each in labels], dtype=torch.float64) for name in used}
    combined = combine(scores, {name: weights[name] for name in used})
    floors = {name: floor for name, floor in FLOORS.items() if name in scores}
    chosen = select(
        [each.id for each in labels],
        combined,
        budget(number, rounds, len(labels), most),
        seed=derive_seed(seed, "selection", number),
        eligible=passing(scores, floors) & torch.tensor([bool(each.stratum) for each in labels]),
        excluded=excluded,
        strata=[each.stratum for each in labels],
    )
    kept = set(chosen)
    return [
        replace(each, kept=each.id in kept, round=number, scores={**each.scores, SCORE: score})
        for each, score in zip(labels, combined.tolist(), strict=True)
    ]
