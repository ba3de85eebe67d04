"""A run from Python: train one, and read, measure and use one that is there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vision_train.api.comparison import TEMPLATES
from vision_train.api.loaded import LoadedRun, load_network
from vision_train.api.overrides import Overrides, as_typed
from vision_train.errors import UserError
from vision_train.threads import prepare_environment

if TYPE_CHECKING:
    from rich.console import Console

    from vision_train.run.directory import RunDirectory

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
        from vision_train.run.fit import resume

        resume(self.path, console=_console(quiet=quiet), accept=accept)
        return self

    def evaluate(self, split: str | None = None, overrides: Overrides | None = None) -> dict[str, float | int]:
        """Measure the best weights on a split; nothing is written.

        Args:
            split: A split of the data; None for the one that the run was measured on.
            overrides: Keys to change, such as ``{"data.root": "other_photos"}``.

        Returns:
            ``<split>/<metric>``, and the number of samples.

        Raises:
            UserError: The run has no weights yet, or its data cannot be read.
        """
        from vision_train.run.evaluate import evaluate_run

        return evaluate_run(self.path, split, as_typed(overrides))

    def predict(
        self,
        inputs: Any,
        *,
        texts: Sequence[str] = (),
        render: PathText | None = None,
        overrides: Overrides | None = None,
    ) -> list[dict[str, Any]]:
        """Predict with the best weights.

        Args:
            inputs: One or several paths of files or folders, as ``vision-train predict`` takes them; or one or several
                images in memory, each a PIL image or an array (H W 3, uint8).
            texts: What is looked for in each image; only for runs that take a text.
            render: Folder for pictures of the predictions.
            overrides: Keys to change, such as ``{"data.on_bad": "skip"}``.

        Returns:
            A mapping for each sample, as in ``predictions.jsonl``. The id of an image in memory is its place, from 0;
            with texts ``0#1`` is the first text about the first image.

        Raises:
            UserError: There is nothing to predict on, or an input cannot be used.
        """
        from vision_train.recipe import load_recipe
        from vision_train.run.predict import predict_run

        with TemporaryDirectory() as folder, _as_files(inputs) as (paths, places):
            out = Path(folder) / "predictions.jsonl"
            predict_run(
                self.path,
                paths,
                overrides=as_typed(overrides),
                out=out,
                render=None if render is None else Path(render),
                images=None,
                texts=list(texts),
                console=_console(quiet=True),
            )
            with out.open(encoding="utf-8") as lines:  # splitlines() would end lines at signs within texts too
                rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        key = load_recipe(self._directory.recipe, runnable=False).kind.id_column
        return [{**row, key: _place(row[key], places)} for row in rows]

    def load(self) -> LoadedRun:
        """Build the network with the best weights, for use in your own code."""
        return load_network(self.path)

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

    prepare_environment()
    typed = as_typed(overrides)
    loaded = load_recipe(fspath(recipe), typed)

    from vision_train.run.fit import fit as fit_run

    folder = None if run_dir is None else Path(run_dir)
    command = ["fit", fspath(recipe), *typed]
    return Run(fit_run(loaded, run_dir=folder, command=command, console=_console(quiet=quiet)).path)


def evaluate(
    run: Run | PathText, split: str | None = None, overrides: Overrides | None = None
) -> dict[str, float | int]:
    """Measure a run; see :meth:`Run.evaluate`."""
    return _opened(run).evaluate(split, overrides)


def predict(run: Run | PathText, inputs: Any, **options: Any) -> list[dict[str, Any]]:
    """Predict with a run; see :meth:`Run.predict`."""
    return _opened(run).predict(inputs, **options)


def load(run: Run | PathText) -> LoadedRun:
    """Build the network of a run; see :meth:`Run.load`."""
    return _opened(run).load()


def _opened(run: Run | PathText) -> Run:
    return run if isinstance(run, Run) else Run(run)


def _console(*, quiet: bool) -> Console:
    from rich.console import Console

    from vision_train.cli.console import plain_console

    return Console(quiet=True) if quiet else plain_console()


def _place(name: str, places: Mapping[str, int]) -> str | int:
    """The id of a sample by the place of its image in memory; another stays as it is."""
    file, number, text = name.rpartition("#")
    return places[name] if name in places else f"{places[file]}{number}{text}" if file in places else name


@contextmanager
def _as_files(inputs: Any) -> Iterator[tuple[list[Path], dict[str, int]]]:
    """Paths of the inputs; images in memory are written as PNG, which loses nothing, and read as all others are.

    Yields:
        The paths, and the place of each image in memory by its path.
    """
    several = [inputs] if isinstance(inputs, str | PathLike) or not isinstance(inputs, list | tuple) else list(inputs)
    if not several:
        raise UserError("there is nothing to predict on; give a path or an image, or a list of these")
    if all(isinstance(each, str | PathLike) for each in several):
        yield [Path(each) for each in several], {}
        return
    from vision_train.api.loaded import picture_of

    if any(isinstance(each, str | PathLike) for each in several):
        raise UserError("some inputs are paths and others are images in memory; give one kind at a time")
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{place:08d}.png" for place in range(len(several))]
        for path, image in zip(paths, several, strict=True):
            picture_of(image).save(path)
        yield paths, {str(path): place for place, path in enumerate(paths)}
