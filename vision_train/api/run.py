"""A run from Python: train one, and read, measure and use one that is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from vision_train.api.comparison import TEMPLATES
from vision_train.api.inputs import as_files, place_of
from vision_train.api.loaded import LoadedRun, load_network
from vision_train.api.overrides import Overrides, as_typed
from vision_train.cli.console import console_for, loading
from vision_train.progress import shown_on
from vision_train.threads import prepare_environment

if TYPE_CHECKING:
    from vision_train.run.directory import RunDirectory
    from vision_train.tasks import Views

PathText = str | PathLike[str]


class Run:
    """A run directory.

    Args:
        path: The directory.

    Raises:
        UserError: There is no run at this place.
    """

    def __init__(self, path: PathText) -> None:
        from vision_train.run.directory import open_run

        prepare_environment()
        self._directory: RunDirectory = open_run(Path(path))

    @property
    def path(self) -> Path:
        """The run directory, absolute."""
        return self._directory.path

    @property
    def report(self) -> Path:
        """The page that shows what the run came to."""
        return self.path / "report.html"

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes in the order of the outputs."""
        return self._directory.read_classes()

    @property
    def metrics(self) -> dict[str, Any]:
        """Final figures by ``split/metric``, as in ``summary.json``; empty while the run is not finished."""
        summary = self._directory.summary
        return json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was logged, a mapping for each line of ``metrics.jsonl``."""
        from vision_train.metrics_log import read_metrics

        return list(read_metrics(self._directory.metrics)) if self._directory.metrics.is_file() else []

    @property
    def recipe(self) -> str:
        """The resolved recipe, as YAML; running it again repeats the run."""
        return self._directory.recipe.read_text(encoding="utf-8")

    def resume(self, *, accept: Sequence[str] = (), quiet: bool = False) -> Run:
        """Go on with a run that was cut short.

        Args:
            accept: Keys that may have changed since.
            quiet: Print nothing.

        Raises:
            UserError: The run is finished, or cannot go on.
        """
        from vision_train.run.directory import open_unfinished

        open_unfinished(self.path)
        console = console_for(quiet=quiet)
        with shown_on(console):
            with loading(f"resume {self.path}", shared=True):
                from vision_train.run.fit import resume

            resume(self.path, console=console, accept=accept)
        return self

    def evaluate(
        self,
        split: str | None = None,
        overrides: Overrides | None = None,
        *,
        tta: Views | None = None,
        quiet: bool = False,
    ) -> dict[str, float | int]:
        """Measure the best weights on a split; nothing is written.

        Args:
            split: A split of the data; None for the one that the run was measured on.
            overrides: Keys to change, such as ``{"data.root": "other_photos"}``.
            tta: Test-time augmentation: average the class probabilities over ``flips`` or ``five-crop`` of each image.
            quiet: Print nothing.

        Returns:
            ``<split>/<metric>``, and the number of samples. With ``tta`` ``<split>_tta_<views>/<metric>``.

        Raises:
            UserError: The run has no weights yet, its data cannot be read, or its task averages no views.
        """
        from vision_train.run.inference import check_evaluation

        typed = as_typed(overrides)
        check_evaluation(self.path, split, typed, tta)
        console = console_for(quiet=quiet)
        with shown_on(console):
            with loading(f"evaluate {self.path}", shared=True):
                from vision_train.run.evaluate import evaluate_run

            return evaluate_run(self.path, split, typed, console, tta)

    def predict(
        self,
        inputs: Any,
        *,
        texts: Sequence[str] = (),
        render: PathText | None = None,
        overrides: Overrides | None = None,
        quiet: bool = False,
    ) -> list[dict[str, Any]]:
        """Predict with the best weights.

        Args:
            inputs: One or several paths of files or folders, as ``vision-train predict`` takes them; or one or several
                images in memory, each a PIL image or an array (H W 3, uint8).
            texts: What is looked for in each image; only for runs that take a text.
            render: Folder for pictures of the predictions.
            overrides: Keys to change, such as ``{"data.on_bad": "skip"}``.
            quiet: Print nothing.

        Returns:
            A mapping for each sample, as in ``predictions.jsonl``. The id of an image in memory is its place, from 0;
            with texts ``0#1`` is the first text about the first image.

        Raises:
            UserError: There is nothing to predict on, or an input cannot be used.
        """
        from vision_train.run.inference import check_prediction

        typed = as_typed(overrides)
        drawn = None if render is None else Path(render)
        options: dict[str, Any] = {"out": None, "render": drawn, "images": None, "texts": list(texts)}
        recipe = check_prediction(self.path, typed, **options, force=False)
        console = console_for(quiet=quiet)
        with shown_on(console), as_files(inputs) as (paths, places), TemporaryFile("w+", encoding="utf-8") as lines:
            with loading(f"predict {self.path}", shared=True):
                from vision_train.run.predict import predict_run

            predict_run(self.path, paths, overrides=typed, console=console, lines=lines, **options)
            lines.seek(0)
            rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        key = recipe.kind.id_column
        return [{**row, key: place_of(row[key], places)} for row in rows]

    def load(self, *, quiet: bool = False) -> LoadedRun:
        """Build the network with the best weights, for use in your own code.

        Args:
            quiet: Print nothing.

        Raises:
            UserError: The run has no weights yet.
        """
        return load_network(self.path, console_for(quiet=quiet))

    def __repr__(self) -> str:
        return f"Run({fspath(self.path)!r})"

    def _repr_html_(self) -> str:
        from vision_train.recipe import load_recipe
        from vision_train.report.figure_intervals import figure_intervals
        from vision_train.report.headline import headline_tiles
        from vision_train.report.measured_samples import register_statistics
        from vision_train.report.record import read_record
        from vision_train.report.rendering import render

        register_statistics(load_recipe(self._directory.recipe, runnable=False).task)
        record, page = read_record(self.path), self.report if self.report.is_file() else None
        tiles = headline_tiles(record, figure_intervals(record))
        return render("run.html", TEMPLATES, title=record.run_name, tiles=tiles, page=page)


def fit(
    recipe: PathText, overrides: Overrides | None = None, *, run_dir: PathText | None = None, quiet: bool = False
) -> Run:
    """Train a recipe and test it.

    Args:
        recipe: Name of a built-in recipe, or a YAML file.
        overrides: Keys to change, such as ``{"optim.lr": 1e-4}``.
        run_dir: Where to put the run; None for ``runs/<recipe>/<n>``.
        quiet: Print nothing.

    Raises:
        UserError: The recipe, the data or the weights are not as they should be.
    """
    from vision_train.recipe import load_recipe
    from vision_train.run.places import check_fit

    prepare_environment()
    typed = as_typed(overrides)
    loaded = load_recipe(fspath(recipe), typed)
    folder = None if run_dir is None else Path(run_dir)
    check_fit(loaded, folder)
    command = ["fit", fspath(recipe), *typed]
    console = console_for(quiet=quiet)
    with shown_on(console):
        with loading(f"fit {loaded.name}", shared=True):
            from vision_train.run.fit import fit as fit_run

        return Run(fit_run(loaded, run_dir=folder, command=command, console=console).path)


def evaluate(
    run: Run | PathText,
    split: str | None = None,
    overrides: Overrides | None = None,
    *,
    tta: Views | None = None,
    quiet: bool = False,
) -> dict[str, float | int]:
    """Measure a run; see :meth:`Run.evaluate`."""
    return _opened(run).evaluate(split, overrides, tta=tta, quiet=quiet)


def predict(
    run: Run | PathText,
    inputs: Any,
    *,
    texts: Sequence[str] = (),
    render: PathText | None = None,
    overrides: Overrides | None = None,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Predict with a run; see :meth:`Run.predict`."""
    return _opened(run).predict(inputs, texts=texts, render=render, overrides=overrides, quiet=quiet)


def load(run: Run | PathText, *, quiet: bool = False) -> LoadedRun:
    """Build the network of a run; see :meth:`Run.load`."""
    return _opened(run).load(quiet=quiet)


def _opened(run: Run | PathText) -> Run:
    return run if isinstance(run, Run) else Run(run)
