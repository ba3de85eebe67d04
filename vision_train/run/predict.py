"""Predicting with a finished run, on what its task predicts on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.directory import open_run
from vision_train.run.evaluate import load_for_inference
from vision_train.run.predict_bags import predict_bags
from vision_train.run.predict_images import predict_images


def predict_run(
    run: Path,
    inputs: Sequence[Path],
    *,
    out: Path,
    render: Path | None,
    images: Path | None,
    on_bad_image: str | None,
    on_bad_bag: str | None,
    console: Console,
) -> None:
    """Predict and write a table, and pictures if asked for.

    Args:
        run: A run directory; its best weights are used.
        inputs: Image files, folders that are searched through, csv files with a ``path`` column; or files and folders
            of features, for a run of bags.
        out: ``.jsonl`` (path or slide_id, label, confidence, top) or ``.csv`` (path or slide_id, label, confidence; of
            bags the probability of each class too).
        render: Folder for pictures of each prediction.
        images: Folder of images that bags were made of, called like them.
        on_bad_image: ``error`` or ``skip``; None does as the run's recipe says.
        on_bad_bag: The same for bags.
        console: Where to report.

    Raises:
        UserError: There is no such run, nothing to predict on, an input that cannot be used, an option that is for
            other runs, or a place that cannot be written.
    """
    directory = open_run(run, with_weights=True)
    task = load_recipe(directory.recipe, runnable=False).task
    if task == "bags":
        if on_bad_image is not None:
            raise UserError(f"--on-bad-image: {run} is a run of bags; give --on-bad-bag {on_bad_image}")
        changes = [] if on_bad_bag is None else [f"data.on_bad_bag={on_bad_bag}"]
        recipe = load_for_inference(directory.recipe, changes)
        predict_bags(run, recipe, inputs, out=out, render=render, images=images, console=console)
    elif task == "classification":
        if on_bad_bag is not None:
            raise UserError(f"--on-bad-bag: {run} is a run of images; give --on-bad-image {on_bad_bag}")
        if images is not None:
            raise UserError(f"--images: is for runs of bags, and {run} is a run of images; leave it out")
        changes = [] if on_bad_image is None else [f"data.on_bad_image={on_bad_image}"]
        recipe = load_for_inference(directory.recipe, changes)
        predict_images(run, recipe, inputs, out=out, render=render, console=console)
    else:
        raise UserError(
            f"{run}: is a run of {task}, which predicts no classes; fine-tune from it first, with "
            f"model.checkpoint={run} in a classification recipe"
        )
