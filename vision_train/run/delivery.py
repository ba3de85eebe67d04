"""Choose the phase whose weights and figures a run delivers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from vision_train.artefacts import Metric
from vision_train.recipe.run_section import Select
from vision_train.report.formats import in_words, metric_format
from vision_train.run.plan import FinishedPhase
from vision_train.run.rounds import BURN_IN, ROUND


def delivered(phases: Sequence[FinishedPhase], select: Select) -> FinishedPhase:
    """The last phase, or of several rounds the one that is best by validation; of equal ones the latest.

    Args:
        phases: Finished phases of a run or of one of its parts, in order, under the names of its own plan.
        select: The metric that chooses, as it chooses the epoch within each phase.
    """
    rounds = [*(phase for phase in phases[:-1] if phase.name.startswith(ROUND)), phases[-1]]
    return max(reversed(rounds), key=lambda phase: _rank(phase, select))


def delivery_in_words(
    phases: Sequence[FinishedPhase], select: Select, described: Mapping[str, Metric] = MappingProxyType({})
) -> list[str]:
    """Tell where a run delivers another round than the last, or where burn-in was better than all rounds.

    Args:
        phases: All that have finished.
        select: The metric that chooses.
        described: What the task says of its metrics, by name.
    """

    def written(phase: FinishedPhase) -> str:
        return metric_format(select.metric, described)(_score(phase, select))

    def first_written(phase: FinishedPhase) -> str:
        return in_words(select.metric, _score(phase, select), described)

    chosen, last = delivered(phases, select), phases[-1]
    said = []
    if chosen is not last:
        scores = f"{first_written(chosen)}, {last.name} {written(last)}"
        said.append(
            f"the weights of {chosen.name} are the best of all rounds by validation ({scores}) and are those of this "
            f"run; those of the last round are in phases/{last.name}/checkpoints"
        )
    burn_in = next((phase for phase in phases if phase.name == BURN_IN), None)
    in_rounds = any(phase.name.startswith(ROUND) for phase in phases)
    if burn_in and in_rounds and _rank(burn_in, select) > _rank(chosen, select):
        scores = f"{first_written(burn_in)} and {written(chosen)}"
        said.append(
            f"no round came up to burn-in, which learnt from labelled samples alone ({scores}); its weights are in "
            f"phases/{BURN_IN}/checkpoints/best.ckpt"
        )
    return said


def _score(phase: FinishedPhase, select: Select) -> float:
    return float(phase.figures.get(select.metric, math.nan))


def _rank(phase: FinishedPhase, select: Select) -> float:
    """Higher is better; what is not finite is worst."""
    score = _score(phase, select)
    return -math.inf if not math.isfinite(score) else score if select.mode == "max" else -score
