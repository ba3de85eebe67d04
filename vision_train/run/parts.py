"""A plan whose parts are plans: the run itself first, then what is trained beside it, such as the arms of a verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from vision_train.run.directory import RunDirectory
from vision_train.run.plan import LAST, FinishedPhase, Phase, Plan
from vision_train.run.sample_lists import SAMPLES_FILE


@dataclass(frozen=True)
class Part:
    """Phases that are measured beside the run. Their weights are not kept."""

    name: str
    """Begins the names of its phases, as in ``labelled.2.fit``."""
    title: str
    """What is said as it begins."""
    make_plan: Callable[[], Plan]
    times: int = 1
    """How many parts of its kind follow, where it is foreseen."""


@dataclass(frozen=True)
class Parts:
    """The plan of the run itself, then those of its parts, one after another.

    The run's own phases come first, so that what the user asked for is there before anything is measured beside it.
    """

    own: Plan
    following: Callable[[Sequence[FinishedPhase]], Iterable[Part]]
    """The parts in order. It is given all finished phases, and asked for a part only once those before it are finished:
    a generator may choose a part by what earlier ones found."""
    foreseen: tuple[Part, ...] = ()
    """Parts like those that follow, as far as they are certain before the first step: checked there, never trained."""
    shared: tuple[str, ...] = ()
    """The run's own phases with which the plan of every part begins: they are trained once."""
    _plans: dict[str, Plan] = field(default_factory=dict)

    def known(self) -> list[Phase]:
        """Those of the run itself."""
        return self.own.known()

    def next(self, finished: Sequence[FinishedPhase]) -> Phase | None:
        """The run's own next phase, or that of the first part that is not finished."""
        phase = self.own.next([done for done in finished if not done.part])
        if phase is not None:
            return phase
        for part in self.following(finished):
            plan = self._plans.get(part.name) or self._plans.setdefault(part.name, part.make_plan())
            before = [done for done in finished if done.name in self.shared]
            if (phase := plan.next([*before, *phases_of(part.name, finished)])) is not None:
                return self._inside(part, phase)
        return None

    def phases_foreseen(self, part: Part) -> list[Phase]:
        """The phases of a foreseen part that are certain before the first step."""
        return [self._inside(part, phase) for phase in part.make_plan().known() if phase.name not in self.shared]

    def _inside(self, part: Part, phase: Phase) -> Phase:
        title = part.title if phase.name == LAST else f"{part.title}, phase {phase.name}"
        inside = phase.renamed(lambda name: name if name in self.shared else f"{part.name}.{name}")
        return replace(inside, title=title)


def phases_of(part: str, finished: Sequence[FinishedPhase]) -> list[FinishedPhase]:
    """The finished phases of a part, under the names that its own plan gave them."""
    of_part = [done for done in finished if done.part == part]
    return [replace(done, name=done.name.removeprefix(f"{part}.")) for done in of_part]


def drop_weights(directory: RunDirectory, finished: Sequence[FinishedPhase], going_on: str) -> None:
    """Remove checkpoints and lists of samples of parts that are finished: nothing starts from them.

    Args:
        directory: The run.
        finished: Phases that have ended.
        going_on: The part of the phase that comes next, which is left alone.
    """
    for done in finished:
        if done.part and done.part != going_on:
            shutil.rmtree(directory.phase(done.name) / "checkpoints", ignore_errors=True)
            (directory.phase(done.name) / SAMPLES_FILE).unlink(missing_ok=True)
