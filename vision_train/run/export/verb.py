"""Exporting a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from vision_train.checkpoints import names_of, read_weights
from vision_train.files import write_json, write_text
from vision_train.progress import doing
from vision_train.recipe import Recipe
from vision_train.run.best_weights import load_best
from vision_train.run.export.asked import check_export
from vision_train.run.export.codec import Codec, Subject
from vision_train.run.export.compared import compare
from vision_train.run.export.model_card import Card, model_card, without_places
from vision_train.run.export.place import Place
from vision_train.run.export.samples import own_samples
from vision_train.run.log import logging_to
from vision_train.run.phase import build_task
from vision_train.tasks.exported import Exported


def export_run(
    run: Path,
    name: str,
    *,
    out: Path | None,
    size: tuple[int, int] | None,
    console: Console,
    force: bool = False,
    repository: str | None = None,
) -> tuple[Path, Path]:
    """Write the network of a run's best weights for other programs, run it, and keep it where it computes the same.

    Args:
        run: A run directory.
        name: Of the format.
        out: The file or folder; None puts it into the working directory, called like the recipe.
        size: Height and width of the images that it takes; None takes those of the recipe.
        console: Where to report.
        force: Replace files that are there already.
        repository: Of the hub, to which the files are sent too.

    Returns:
        The file or folder, and the JSON file that describes it.

    Raises:
        UserError: There is no such run or format, the format does not suit its network, the place cannot be written or
            holds something, a package or the hub's token is missing, or what was written computes something else.
    """
    asked = check_export(run, name, out=out, size=size, force=force, repository=repository)
    recipe, written_as, place = asked.recipe, asked.written_as, asked.place
    classes, codec = asked.directory.read_classes(), written_as.load()
    with doing(f"loading {recipe.model.name}"):
        subject = _subject(run, recipe, classes, size)
    written_as.check_suits(name, recipe, subject.exported)
    with logging_to(None), place.staged() as stage:
        console.print(f"exporting {recipe.model.name} as {name}; a large network takes a minute or two")
        with doing(f"writing {place.path}"):
            codec.write(subject, stage.content)
        tried = own_samples(recipe, classes, subject.exported)
        with doing(f"opening {place.path}"):
            runner = codec.open(subject, stage.content)
        compared, on_own = compare(subject.exported, runner, place.path, tried.inputs)
        words = (
            tried.words if on_own or not tried.inputs else f"drawn inputs: {tried.words} are on the edge of a choice"
        )
        card = {**subject.exported.card, "format": name, "run": str(run)}
        found = {"largest_difference": compared, "compared_on": words}
        write_json(stage.description, without_places({**card, **found}))
        write_text(stage.card, _card(run, recipe, codec, subject, place, repository))
        written = stage.keep()
    console.print(
        f"{place.path}: computes what PyTorch does (largest difference {compared:.1e} on {words}); described in "
        f"{place.description}"
    )
    if repository is not None:
        from vision_train.run.export.push import push

        with doing(f"sending it to {repository}"):
            push(repository, place.in_repository(written), f"{recipe.name} as {name}", console)
    return place.path, place.description


def _subject(run: Path, recipe: Recipe, classes: list[str], size: tuple[int, int] | None) -> Subject:
    weights = read_weights(run)
    task = build_task(recipe, classes)
    load_best(task, run)
    own = weights.facts | ({"recipe": without_places(weights.recipe)} if weights.recipe else {})
    rebuild = partial(_rebuilt, recipe, classes, size, task.calibration)
    return Subject(task.exported(size), replace(weights, facts=own), rebuild)


def _rebuilt(
    recipe: Recipe,
    classes: list[str],
    size: tuple[int, int] | None,
    calibration: dict[str, Any],
    state: Mapping[str, Tensor],
) -> Exported:
    task = build_task(recipe, classes)
    task.network.load_state_dict(state)
    task.calibration = calibration
    return task.exported(size)


def _card(run: Path, recipe: Recipe, codec: Codec, subject: Subject, place: Place, repository: str | None) -> str:
    places: dict[str, Any] = {
        "name": place.path.name,
        "folder": repository or place.path.name,
        "repository": f"hf-hub:{repository}" if repository else f"local-dir:{place.path.name}",
        "auto": "AutoModelForImageClassification" if subject.exported.card.get("classes") else "AutoModel",
        "call": "".join(f"\n# {key}: {value}" for key, value in names_of(subject.weights).items()),
    }
    return model_card(
        run,
        recipe,
        Card(
            library=codec.library or "vision-train",
            pipeline=subject.exported.pipeline,
            use=codec.use.format(**places),
            described=subject.exported.card,
            description=place.in_repository([place.description])[0][0],
        ),
    )
