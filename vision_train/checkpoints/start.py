"""Loading what a recipe names as start: one file for the network, or a file for each of several parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from vision_train.checkpoints.head import Classes, arrange_head
from vision_train.checkpoints.match import Adapt, match_weights
from vision_train.checkpoints.provenance import provenance_of
from vision_train.checkpoints.read import Weights, read_weights
from vision_train.checkpoints.report import LoadReport
from vision_train.errors import UserError
from vision_train.recipe.catalogue import nearest_names
from vision_train.recipe.globs import all_matching
from vision_train.recipe.sections import Model


@dataclass(frozen=True)
class _Matched:
    """A part of the network, and what will be loaded into it."""

    module: nn.Module
    report: LoadReport
    state: dict[str, Tensor]


ChooseOutputs = Callable[[dict[str, Tensor], Sequence[str] | None], dict[str, Tensor]]
"""Chooses which outputs of heads are kept, of weights by the model's names and the classes that they are said to
know."""


@dataclass(frozen=True)
class _Parts:
    """Parts of the whole network that are judged apart, and what becomes of heads."""

    heads: tuple[str, ...]
    by_module: tuple[str, ...]
    fresh: Sequence[str]
    classes: Sequence[str]
    together: Mapping[str, Sequence[str]]
    choose: ChooseOutputs | None


def load_start(
    network: nn.Module,
    model: Model,
    *,
    adapt: Adapt,
    heads: Iterable[str],
    classes: Sequence[str] = (),
    by_module: Iterable[str] = (),
    together: Mapping[str, Sequence[str]] | None = None,
    choose: ChooseOutputs | None = None,
) -> list[LoadReport]:
    """Load the weights that ``model.checkpoint`` names, each part of the network from its own file.

    Every part is judged by the share of its own parameters that its file fills. Parts that no file is named for stay
    as they are.

    Args:
        network: Left untouched when any of the files is refused.
        model: The recipe's section.
        adapt: Called with the weights of a file and the part they are for.
        heads: Names of the modules that depend on the classes; they count within the parts that hold them.
        classes: The label map of the data. The rows of a head that is kept are put in its order where the weights say
            what they know; empty leaves heads as they are.
        by_module: Those of the heads that have a module for each class in place of an output.
        together: Parts that are several modules or tensors under one name: that name, and their dotted names.
        choose: Chooses which outputs of heads are kept, where a task knows more of them than their order.

    Returns:
        A report for each file, in the order of the recipe; none where the recipe names no file.

    Raises:
        UserError: A file cannot be read or fills too little of its part, the network has no such part, or a glob of
            ``model.fresh`` matches nothing.
    """
    fresh = fresh_names(network, model)
    parts = _Parts(tuple(heads), tuple(by_module), fresh, classes, together or {}, choose)
    matched = [_match(network, part, file, model, adapt, parts) for part, file in model.start.items()]
    for each in matched:
        each.module.load_state_dict(each.state, strict=False)
    return [each.report for each in matched]


def read_start(model: Model, part: str, file: str) -> Weights:
    """Read the weights of a part of the network.

    Raises:
        UserError: They cannot be read; the message names the part.
    """
    try:
        return read_weights(file, model.key_of(part))
    except UserError as error:
        if not part:
            raise
        raise UserError(f"model.checkpoint.{part}: {error}") from error


def fresh_names(network: nn.Module, model: Model) -> list[str]:
    """Names of the network's tensors that ``model.fresh`` selects.

    Raises:
        UserError: A glob matches nothing.
    """
    return all_matching(model.fresh, list(network.state_dict()), "model.fresh")


def _match(network: nn.Module, part: str, file: str, model: Model, adapt: Adapt, parts: _Parts) -> _Matched:
    weights = read_start(model, part, file)
    module = _part_of(network, part, parts.together) if part else network
    said = provenance_of(weights, file).get("classes") if parts.classes else None

    def adapt_outputs(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
        adapted = adapt(state, module)
        return adapted if parts.choose is None else parts.choose(adapted, said)

    try:
        report, state = match_weights(
            module,
            weights,
            adapt=adapt_outputs,
            heads=_within(part, parts.heads, parts.together),
            fresh=_within(part, parts.fresh, parts.together),
            part=part,
            min_matched_share=model.min_matched_share,
        )
    except UserError as error:
        if not part:
            raise
        raise UserError(f"model.checkpoint.{part}: {error}") from error
    found = _Matched(module, report, state)
    if not parts.classes:
        return found
    return _arranged(found, Classes(parts.classes, said if report.classes is None else report.classes), parts)


def _arranged(found: _Matched, classes: Classes, parts: _Parts) -> _Matched:
    part = found.report.part
    heads, by_module = (_within(part, names, parts.together) for names in (parts.heads, parts.by_module))
    report, state, head = arrange_head(found.module, found.report, found.state, classes, heads, by_module)
    if head and classes.agreement == "same":
        return _Matched(found.module, replace(report, notes=(*report.notes, head)), state)
    return _Matched(found.module, replace(report, head=head), state)


def _part_of(network: nn.Module, part: str, together: Mapping[str, Sequence[str]]) -> nn.Module:
    if part in together:
        return _several(network, together[part])
    modules = {name: module for name, module in network.named_modules() if name and module.state_dict()}
    if part not in modules:
        known = [*together, *(name for name in modules if "." not in name)]
        hint = nearest_names(part, [*together, *modules]) or f"; there are {', '.join(known)}"
        raise UserError(
            f"model.checkpoint.{part}: {type(network).__name__} has no part of this name with weights{hint}"
        )
    return modules[part]


def _several(network: nn.Module, names: Sequence[str]) -> nn.Module:
    """A module that holds modules and tensors of a network under the last of their names; they stay the network's."""
    part = nn.Module()
    for name in names:
        inside, _, last = name.rpartition(".")
        setattr(part, last, getattr(network.get_submodule(inside), last))
    return part


def _within(part: str, names: Iterable[str], together: Mapping[str, Sequence[str]]) -> list[str]:
    """Names inside a part, relative to it."""
    if not part:
        return [*names]
    above = [f"{name.rpartition('.')[0]}." for name in together.get(part, ())] or [f"{part}."]
    inside = [f"{name}." for name in together.get(part, (part,))]
    return [
        name.removeprefix(prefix)
        for name in names
        for prefix, place in zip(above, inside, strict=True)
        if f"{name}.".startswith(place)
    ]
