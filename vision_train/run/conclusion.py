"""The end of a run: which phase it delivers, its figures, its weights, its report, and the last words."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from vision_train.checkpoints import read_weights
from vision_train.checkpoints.written import write_weights
from vision_train.files import write_json
from vision_train.progress import doing, fitted, width_of
from vision_train.recipe import Recipe, load_recipe
from vision_train.report import write_report
from vision_train.report.formats import describe, in_words
from vision_train.report.headline import DELIVERED
from vision_train.run.delivery import delivered, delivery_in_words
from vision_train.run.directory import RunDirectory, relative
from vision_train.run.plan import FinishedPhase, summed
from vision_train.run.run_phase import warn
from vision_train.run.verdict_results import conclude_verdict
from vision_train.wording import count_of


def own_phases(finished: Sequence[FinishedPhase]) -> list[FinishedPhase]:
    """The phases of the run itself, without those of its parts."""
    return [done for done in finished if not done.part]


def conclude(
    directory: RunDirectory, finished: list[FinishedPhase], shared: Sequence[str], console: Console
) -> dict[str, Any]:
    """Write what a finished run leaves, its summary last, and say what it came to.

    Args:
        directory: The run.
        finished: All phases, in order.
        shared: As for :func:`vision_train.run.verdict_results.conclude_verdict`.
        console: Where to say it.

    Returns:
        The final figures.
    """
    own, recipe = own_phases(finished), load_recipe(directory.recipe, runnable=False)
    result = delivered(own, recipe.run.select)
    for remark in delivery_in_words(own, recipe.run.select, directory.read_described()):
        warn(remark, console)
    figures: dict[str, Any] = {**result.figures, **summed(finished)}
    figures["train/peak_memory_bytes"] = max(done.figures["train/peak_memory_bytes"] for done in own)
    if result is not own[-1]:
        figures[DELIVERED] = result.name
    sentence = ""
    if recipe.semi.verdict is not None:
        conclusion = conclude_verdict(directory, recipe, finished, shared)
        directory.write_artefacts(conclusion.artefacts)
        figures |= conclusion.figures
        sentence = f"{conclusion.sentence}\n"
    write_weights(directory.weights, read_weights(directory.best))
    with doing("writing the report"):
        report = write_report(directory.path, figures, recipe.kind.load_report())
    write_json(directory.summary, figures)  # last of all: it says that the run is finished
    _name_skipped(result, recipe, console)
    console.print(f"{_tested(directory, result, recipe, width_of(console))}\n{sentence}{relative(report)}")
    return figures


def _name_skipped(result: FinishedPhase, recipe: Recipe, console: Console) -> None:
    for sample in result.skipped:
        logging.getLogger("vision_train").warning("skipped %s", sample)
    if result.skipped:
        some = "\n  ".join(result.skipped[:5])
        unreadable = count_of(len(result.skipped), f"unreadable {recipe.kind.noun}")
        console.print(f"skipped {unreadable}; log.txt names all:\n  {some}")


def _tested(directory: RunDirectory, result: FinishedPhase, recipe: Recipe, width: int | None) -> str:
    described, judged = directory.read_described(), f"{recipe.kind.judged}/"
    tested = {key: value for key, value in result.figures.items() if key.startswith(judged)}
    words = [in_words(key, value, described) for key, value in tested.items() if describe(key, described).shown]
    return fitted(words, width)
