"""Exporting a finished run."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from vision_train.checkpoints import load_weights
from vision_train.errors import UserError
from vision_train.files import check_writable, write_json, written_whole
from vision_train.run.directory import open_run
from vision_train.run.evaluate import load_for_inference
from vision_train.run.export.formats import FORMATS, Runner
from vision_train.run.export.ranking import Ranking
from vision_train.run.log import logging_to
from vision_train.run.phase import build_task
from vision_train.tasks.exported import Exported, Tensors

TOLERANCE = 1e-4
"""Largest difference between the written program and PyTorch."""
DRAWS = 12
"""Batches that are drawn at most to find one that can be compared."""


def export_run(
    run: Path, name: str, *, out: Path | None, size: tuple[int, int] | None, console: Console
) -> tuple[Path, Path]:
    """Write the network of a run's best weights as a program, run it, and keep it where it computes the same.

    Args:
        run: A run directory.
        name: Of the format.
        out: The file; None puts it into the working directory, called like the recipe.
        size: Height and width of the images that the program takes; None takes those of the recipe.
        console: Where to report.

    Returns:
        The program, and the JSON file beside it that describes it.

    Raises:
        UserError: There is no such run or format, its task cannot be exported, the place cannot be written, a package
            is missing, or the written program computes something else.
    """
    if name not in FORMATS:
        raise UserError(f"--format {name}: is unknown; there are {', '.join(FORMATS)}")
    written_as = FORMATS[name]
    directory = open_run(run, with_weights=True)
    # What computes attention is a matter of the program that runs the file.
    recipe = load_for_inference(directory.recipe, ["model.attention=auto"])
    out = out or Path(Path(recipe.name).name + written_as.suffix)
    _check_place(out, written_as.suffix)
    task = build_task(recipe, directory.read_classes())
    written_as.check_installed(name)
    load_weights(task.network, run, min_matched_share=1.0)
    exported = task.exported(size)
    out.parent.mkdir(parents=True, exist_ok=True)
    card = {**exported.card, "format": name, "run": str(run)}
    with logging_to(None), written_whole(out) as temporary:
        console.print(f"exporting {recipe.model.name} as {name}; a large network takes a minute or two")
        written_as.write(exported, temporary)
        compared = compare(exported, written_as.open(exported, temporary), out)
    beside = out.with_name(f"{out.name}.json")
    write_json(beside, {**card, "largest_difference": compared})
    console.print(f"{out}: computes what PyTorch does (largest difference {compared:.1e}); described in {beside}")
    return out, beside


def _check_place(out: Path, suffix: str) -> None:
    if out.suffix != suffix:
        raise UserError(f"--out {out}: does not end in {suffix}, as files of this format do")
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; name a file")
    check_writable(out.parent, "--out")


def compare(exported: Exported, run: Runner, out: Path) -> float:
    """Run the written program beside PyTorch on drawn inputs: two samples at a time, and one alone.

    Where the program chose the best of a list, PyTorch is made to choose likewise among near equals: rounding ranks
    these either way. Networks may choose otherwise than by rank, and have inputs on which a change of the last bit
    changes the choice. What PyTorch itself computes otherwise where the input changes by a millionth says nothing about
    a program, and is drawn again.

    Returns:
        The largest difference found.

    Raises:
        UserError: It exceeds the tolerance, or all that was drawn is on the edge of a choice.
    """
    generator = torch.Generator().manual_seed(1)
    for _ in range(DRAWS):
        drawn = _together_and_alone(exported.draw(generator))
        found = [each for inputs in drawn if (each := _difference(exported, run, inputs, generator)) is not None]
        if found:
            return _within_tolerance(max(found), out)
    raise UserError(
        f"{out}: cannot be compared with PyTorch, whose own results change where an input changes by a millionth; "
        "nothing was written. Train the run for longer"
    )


def _difference(exported: Exported, run: Runner, inputs: Tensors, generator: torch.Generator) -> float | None:
    """How far the program is from PyTorch; None where PyTorch itself is as far from what it makes of nudged inputs."""
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
