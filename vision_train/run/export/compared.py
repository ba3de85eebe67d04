"""Running what was written beside PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from vision_train.errors import UserError
from vision_train.progress import doing
from vision_train.run.export.codec import Runner
from vision_train.run.export.ranking import Ranking
from vision_train.tasks.exported import Exported, Tensors

TOLERANCE = 1e-4
"""Largest difference between what was written and PyTorch."""
DRAWS = 12
"""Inputs that are drawn at most to find some that can be compared."""


def compare(exported: Exported, run: Runner, out: Path, own: Sequence[Tensors] = ()) -> tuple[float, bool]:
    """Run what was written beside PyTorch on samples: together, and one alone.

    Where a program chose the best of a list, PyTorch is made to choose likewise among near equals: rounding ranks
    these either way. Networks may choose otherwise than by rank, and have inputs on which a change of the last bit
    changes the choice. What PyTorch itself computes otherwise where the input changes by a millionth says nothing about
    a program, and others are drawn.

    Args:
        exported: The network.
        run: What was written.
        out: Its place, for messages.
        own: Inputs made of the run's own data.

    Returns:
        The largest difference found, and whether it is that on the run's own data and not on drawn inputs.

    Raises:
        UserError: It exceeds the tolerance, or all inputs are on the edge of a choice.
    """
    generator = torch.Generator().manual_seed(1)
    pairs = [each for inputs in own for each in _together_and_alone(inputs)]
    if found := list(_differences(exported, run, pairs, generator)):
        return _within_tolerance(max(found), out), True
    for _ in range(DRAWS):
        drawn = _together_and_alone(exported.draw(generator))
        if found := list(_differences(exported, run, drawn, generator)):
            return _within_tolerance(max(found), out), False
    raise UserError(
        f"{out}: cannot be compared with PyTorch, whose own results change where an input changes by a millionth; "
        "nothing was written. Train the run for longer"
    )


def _differences(
    exported: Exported, run: Runner, tried: Sequence[Tensors], generator: torch.Generator
) -> Iterator[float]:
    """How far what was written is from PyTorch on the inputs that can be compared."""
    with doing("comparing with PyTorch", len(tried), "inputs") as work:
        for inputs in tried:
            difference = _difference(exported, run, inputs, generator)
            if difference is not None:
                yield difference
            work.advance()


def _difference(exported: Exported, run: Runner, inputs: Tensors, generator: torch.Generator) -> float | None:
    """How far it is from PyTorch; None where PyTorch itself is as far from what it makes of nudged inputs."""
    ran = run(inputs)
    with Ranking(ran.chosen):
        expected = exported.run(inputs)
    difference = exported.difference(expected, ran.outputs)
    if difference <= TOLERANCE:
        return difference
    with Ranking(ran.chosen):
        nudged = exported.run(_nudged(inputs, generator))
    return difference if exported.difference(expected, nudged) <= TOLERANCE else None


def _within_tolerance(difference: float, out: Path) -> float:
    if not difference <= TOLERANCE:
        raise UserError(
            f"{out}: computes something else than PyTorch (largest difference {difference:.1e}, allowed "
            f"{TOLERANCE:.0e}); nothing was written. Another version of torch or of onnxruntime may help, or another "
            "--format"
        )
    return difference


def _together_and_alone(inputs: Tensors) -> list[Tensors]:
    return [inputs, {name: tensor[-1:] for name, tensor in inputs.items()}]


def _nudged(inputs: Tensors, generator: torch.Generator) -> Tensors:
    """Inputs whose numbers are changed by up to a millionth; counts and indices stay."""
    return {
        name: tensor * (1 + 1e-6 * (2 * torch.rand(tensor.shape, generator=generator) - 1))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in inputs.items()
    }
