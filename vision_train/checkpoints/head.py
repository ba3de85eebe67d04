"""A classifier that is kept: which of its outputs is which class, found by the names that the weights bring."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from vision_train.checkpoints.report import Entry, LoadReport

SHOWN = 8
"""A longer list of classes is cut short."""

Agreement = Literal["same", "permuted", "unsaid", "other", "overlapping"]


@dataclass(frozen=True)
class Classes:
    """The label map of the data beside that of the weights."""

    ours: Sequence[str]
    said: Sequence[str] | None
    """None where nobody says it."""

    @property
    def theirs(self) -> Sequence[str] | None:
        """The label map of the weights, if it can be that of as many outputs."""
        return self.said if self.said is not None and len(self.said) == len(self.ours) else None

    @property
    def order(self) -> list[int] | None:
        """For each of our classes the output that knows it; None where the two do not name the same classes."""
        return None if self.theirs is None else places_of(self.ours, self.theirs)

    @property
    def agreement(self) -> Agreement:
        """How the two go together."""
        if self.theirs is None:
            return "unsaid"
        if (order := self.order) is not None:
            return "same" if order == sorted(order) else "permuted"
        return "overlapping" if len(self.only_ours) < len(self.ours) else "other"

    @property
    def only_ours(self) -> list[str]:
        """Our classes that the weights do not know, under any spelling."""
        return _without_namesakes(self.ours, self.theirs or ())

    @property
    def only_theirs(self) -> list[str]:
        """The classes of the weights that the data do not have, under any spelling."""
        return _without_namesakes(self.theirs or (), self.ours)


def places_of(ours: Sequence[str], theirs: Sequence[str]) -> list[int] | None:
    """For each of our classes the place of its one namesake among theirs, under the strictest spelling that has all.

    Returns:
        None where one of ours has no namesake or several, or two of ours have the same.
    """
    for alike in _SPELLINGS:
        names = [alike(name) for name in theirs]
        wanted = [alike(name) for name in ours]
        if len(set(wanted)) == len(wanted) and all(names.count(name) == 1 for name in wanted):
            return [names.index(name) for name in wanted]
    return None


def arrange_head(
    module: nn.Module,
    report: LoadReport,
    state: dict[str, Tensor],
    classes: Classes,
    heads: Iterable[str],
    by_module: Iterable[str] = (),
) -> tuple[LoadReport, dict[str, Tensor], str]:
    """Bring the rows of a head that is kept into the order of our classes, or leave it fresh if some are others.

    Args:
        module: The network, or the part of it that the weights are for.
        report: What the weights fill.
        state: The tensors that will be loaded.
        classes: Both label maps.
        heads: Names of the modules that depend on the classes.
        by_module: Those of them that have a module for each class in place of an output.

    Returns:
        Report and tensors as they are then, and a sentence on the head; empty where none is kept.
    """
    kept = [name for name in heads if _is_kept(name, state) and [*_outputs(module, name, len(classes.ours))]]
    if not kept or not classes.ours:
        return report, state, ""
    if classes.agreement == "overlapping":
        return (*_without(heads, report, state), _phrase(classes, report.source))
    if classes.agreement == "permuted" and (order := classes.order) is not None:
        rows = [tensor for name in kept if name not in by_module for tensor in _outputs(module, name, len(order))]
        state = {name: tensor[torch.tensor(order)] if name in rows else tensor for name, tensor in state.items()}
        for name in by_module:
            state |= _modules_in_order(name, order, state)
    return report, state, _phrase(classes, report.source)


def _modules_in_order(head: str, order: Sequence[int], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a head that has a module for each class, in our order."""
    moved: dict[str, Tensor] = {}
    for ours, theirs in enumerate(order):
        prefix = f"{head}.{theirs}."
        inside = [name for name in state if name.startswith(prefix)]
        moved |= {f"{head}.{ours}.{name.removeprefix(prefix)}": state[name] for name in inside}
    return moved


def _is_kept(head: str, state: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(f"{head}.") for name in state)


def _outputs(module: nn.Module, head: str, count: int) -> Iterator[str]:
    """Names of a head's tensors that have a row for each class: those of its last layer, in each of its branches."""
    found = module.get_submodule(head)
    if isinstance(found, nn.ModuleList):
        for index in range(len(found)):
            yield from _outputs(module, f"{head}.{index}", count)
        return
    layers = [
        (f"{head}.{name}" if name else head, weight.shape[0], layer)
        for name, layer in found.named_modules()
        if isinstance(weight := getattr(layer, "weight", None), Tensor) and weight.ndim > 1
    ]
    if layers and layers[-1][1] == count:
        name, _, layer = layers[-1]
        yield from (f"{name}.{own}" for own, tensor in layer.state_dict().items() if tensor.shape[:1] == (count,))


def _without(
    heads: Iterable[str], report: LoadReport, state: dict[str, Tensor]
) -> tuple[LoadReport, dict[str, Tensor]]:
    def in_head(name: str) -> bool:
        return any(name.startswith(f"{head}.") for head in heads)

    def fresh(entry: Entry) -> Entry:
        loaded = entry.outcome in ("matched", "resized")
        return replace(entry, outcome="reinitialised", head=True) if loaded and in_head(entry.name) else entry

    entries = tuple(map(fresh, report.entries))
    return replace(report, entries=entries), {name: each for name, each in state.items() if not in_head(name)}


def _phrase(classes: Classes, source: str) -> str:
    ours, theirs, count = classes.ours, classes.theirs or (), len(classes.ours)
    if classes.agreement == "overlapping":
        strange, absent = classes.only_theirs, classes.only_ours
        if not strange or not absent:  # two of one side have one namesake
            return f"the head of {source} starts fresh: several of the classes {_some(theirs)} have the same name"
        return (
            f"the head of {source} starts fresh: of its {len(theirs)} classes {_some(strange)} are not among the "
            f"data's, and it does not know {_some(absent)}"
        )
    if classes.agreement == "same":
        return f"the head of {source} is kept; it was trained on the same {count} classes: {_some(ours)}"
    if classes.agreement == "permuted":
        return (
            f"the head of {source} is kept; it knows the {count} classes in another order ({_some(theirs)}), and its "
            f"rows are put in the data's order: {_some(ours)}"
        )
    if classes.agreement == "other":
        pairs = ", ".join(f"{new} with that of {old}" for new, old in list(zip(ours, theirs, strict=True))[:5])
        return f"{source} learnt as many classes of other names, and its head is kept: {pairs}"
    numbered = ", ".join(f"{place} -> {name}" for place, name in enumerate(ours[:SHOWN]))
    more = f" and {count - SHOWN} more" if count > SHOWN else ""
    return (
        f"the head of {source} is kept, and nothing says which classes its {count} outputs were; they are taken for "
        f"those of the data in order: {numbered}{more}. If they were trained in another order, set "
        "data.classes to the names in that order"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _plain(name: str) -> str:
    """A name without case, and with any word separator."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _first_synonym(name: str) -> str:
    """ImageNet's names have synonyms: ``tench, Tinca tinca``."""
    return _plain(name.split(",")[0])


def _without_namesakes(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those of the names that none of the others is a spelling of."""
    strange = list(names)
    for alike in _SPELLINGS:
        known = {alike(other) for other in others}
        strange = [name for name in strange if alike(name) not in known]
    return strange


_SPELLINGS: tuple[Callable[[str], str], ...] = (str, _plain, _first_synonym)
"""Ways to say when two names are the same, the strictest first."""
