"""Experiment trackers, through Lightning's loggers: they get what ``metrics.jsonl`` and the report get.

The log stays the one source: a tracker is told each line that was written, and nothing else. Of a tracker that fails in
the middle the run says so once, and goes on without it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

from vision_train.artefacts import Artefact
from vision_train.errors import UserError
from vision_train.files import write_json
from vision_train.metrics_log import part_of
from vision_train.recipe import Recipe, to_plain
from vision_train.report.pixels import pictures_of
from vision_train.run.differences import flat
from vision_train.run.directory import RunDirectory, relative
from vision_train.run.plan import LAST

FOLDER = "trackers"
"""Below the run directory: what trackers write there, and under which ids they know the run."""
Values = Mapping[str, float | int]


class TensorBoard:
    """Event files; each phase is a run of TensorBoard's, so that its steps begin at 0."""

    def __init__(self, directory: RunDirectory, recipe: Recipe, run_id: str | None) -> None:
        self.folder, self.recipe = directory.path / FOLDER / "tensorboard", recipe
        self.place = f"written to {relative(self.folder)}; tensorboard --logdir {relative(self.folder)}"
        self.id = ""
        self._loggers: dict[str, TensorBoardLogger] = {}

    def begin(self, phase: str, step: int) -> None:
        """Begin a phase, or go on with it; what was written beyond the step is not shown again."""
        self._loggers[phase] = TensorBoardLogger(
            self.folder, name="", version=phase, default_hp_metric=False, purge_step=step + 1 if step else None
        )

    def metrics(self, phase: str, step: int, values: Values) -> None:
        """Add values."""
        self._of(phase).log_metrics(dict(values), step)

    def pictures(self, phase: str, step: int, name: str, pictures: Sequence[tuple[str, np.ndarray]]) -> None:
        """Add pictures."""
        for number, (_, pixels) in enumerate(pictures):
            tag = name if len(pictures) == 1 else f"{name}/{number}"
            self._of(phase).experiment.add_image(tag, pixels, step, dataformats="HWC")

    def close(self, figures: Values) -> None:
        """Write what is left, with the recipe beside the final figures."""
        if figures:
            logger = self._of(LAST)
            logger.log_hyperparams(settings(self.recipe), dict(figures))
        for each in self._loggers.values():
            each.finalize("success")
            each.experiment.close()

    def _of(self, phase: str) -> TensorBoardLogger:
        if phase not in self._loggers:
            self.begin(phase, 0)
        return self._loggers[phase]


class WeightsAndBiases:
    """A run of Weights & Biases: offline, unless the environment says otherwise."""

    def __init__(self, directory: RunDirectory, recipe: Recipe, run_id: str | None) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its own crash reports, which go out offline too
        os.environ.setdefault("WANDB_SILENT", "true")
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        folder = directory.path / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self.id = run_id or uuid.uuid4().hex[:8]
        runs = relative(folder / "wandb")
        self.place = f"written to {runs} and not sent; send it with: wandb sync {runs}/offline-run-*"
        if mode == "online":
            server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
            self.place = f"sent to {server}; WANDB_MODE=offline sends nothing"
        self._logger = WandbLogger(
            name=f"{recipe.name}/{directory.path.name}",
            project=os.environ.get("WANDB_PROJECT", "vision-train"),
            save_dir=folder,
            id=self.id,
            mode=mode,
            resume="allow" if mode == "online" else None,  # offline, one id is what makes the parts one run
            settings={"silent": True},
        )
        self._logger.log_hyperparams(settings(recipe))

    def begin(self, phase: str, step: int) -> None:
        """Nothing is to do: phases have names of their own."""

    def metrics(self, phase: str, step: int, values: Values) -> None:
        """Add values."""
        self._logger.log_metrics(_named(phase, values), step)

    def pictures(self, phase: str, step: int, name: str, pictures: Sequence[tuple[str, np.ndarray]]) -> None:
        """Add pictures with their captions."""
        captions, images = [caption for caption, _ in pictures], [Image.fromarray(pixels) for _, pixels in pictures]
        self._logger.log_image(next(iter(_named(phase, {name: 0}))), images, caption=captions)

    def close(self, figures: Values) -> None:
        """Keep the final figures as the run's summary, and end the run."""
        self._logger.experiment.summary.update(dict(figures))
        self._logger.experiment.finish()


class MLflow:
    """A run of MLflow: in a database below the run directory, unless the environment names a server."""

    def __init__(self, directory: RunDirectory, recipe: Recipe, run_id: str | None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        for name in ("mlflow", "alembic"):  # which tell of the tables that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        server, folder = os.environ.get("MLFLOW_TRACKING_URI"), directory.path / FOLDER / "mlflow"
        own = f"sqlite:///{folder / 'mlflow.db'}"
        self.place = f"sent to {server} (MLFLOW_TRACKING_URI)"
        if server is None:
            folder.mkdir(parents=True, exist_ok=True)
            shown = f"sqlite:///{relative(folder / 'mlflow.db')}"
            self.place = f"written to {relative(folder)}; mlflow ui --backend-store-uri {shown}"
        self._logger = MLFlowLogger(
            experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", recipe.name),
            run_name=f"{recipe.name}/{directory.path.name}",
            tracking_uri=server or own,
            artifact_location=None if server else (folder / "artifacts").as_uri(),
            run_id=run_id,
        )
        if run_id is None:  # globs of names of parameters are no names that MLflow takes
            named = {re.sub(r"[^\w\-. :/]", "_", key): value for key, value in settings(recipe).items()}
            self._logger.log_hyperparams(named)
        self.id = str(self._logger.run_id)

    def begin(self, phase: str, step: int) -> None:
        """Nothing is to do: phases have names of their own."""

    def metrics(self, phase: str, step: int, values: Values) -> None:
        """Add values."""
        self._logger.log_metrics(_named(phase, values), step)

    def pictures(self, phase: str, step: int, name: str, pictures: Sequence[tuple[str, np.ndarray]]) -> None:
        """Add pictures as files of the run."""
        for number, (_, pixels) in enumerate(pictures):
            file = f"{next(iter(_named(phase, {name: 0})))}/{number}.png"
            self._logger.experiment.log_image(self.id, pixels, file)

    def close(self, figures: Values) -> None:
        """Add the final figures and end the run."""
        if figures:
            self._logger.log_metrics(dict(figures))
        self._logger.experiment.set_terminated(self.id, "FINISHED" if figures else "KILLED")


KINDS: dict[str, Callable[[RunDirectory, Recipe, str | None], TensorBoard | WeightsAndBiases | MLflow]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


class Trackers:
    """The trackers of one run, which may have been begun by an earlier process.

    Args:
        directory: The run.
        recipe: Its recipe, with ``run.trackers``.

    Raises:
        UserError: One cannot be begun, such as on a server that does not answer.
    """

    def __init__(self, directory: RunDirectory, recipe: Recipe) -> None:
        self.recipe = recipe
        self._file = directory.path / FOLDER / "runs.json"
        self._of: dict[str, TensorBoard | WeightsAndBiases | MLflow] = {}
        known = read_ids(self._file)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        for name in recipe.run.trackers:
            try:
                self._of[name] = KINDS[name](directory, recipe, known.get(name))
            except errors_of(name) as error:
                raise UserError(f"run.trackers: {name} cannot be begun: {error}; mend it, or take it out") from error
        if self._of:
            write_json(self._file, known | {name: each.id for name, each in self._of.items()})

    @property
    def places(self) -> list[str]:
        """Where each tracker keeps or sends what it gets."""
        return [f"{name}: {each.place}" for name, each in self._of.items()]

    def begin(self, phase: str, step: int) -> None:
        """Begin a phase, or go on with it after so many steps."""
        if not part_of(phase):
            self._tell(lambda tracker: tracker.begin(phase, step))

    def metrics(self, phase: str, epoch: int, step: int, values: Mapping[str, Any]) -> None:
        """Tell a line of the log; those of parts of the run, which are many and alike, are left out."""
        if part_of(phase):
            return
        numbers = {**finite_numbers(values), "epoch": epoch}
        self._tell(lambda tracker: tracker.metrics(phase, step, numbers))

    def artefacts(self, phase: str, step: int, artefacts: Sequence[Artefact]) -> None:
        """Show those of the artefacts that are pictures, as the report does."""
        if not self._of or part_of(phase):
            return
        for artefact in artefacts:
            if pictures := pictures_of(artefact, self.recipe.kind.load_report()):
                self._tell(lambda tracker: tracker.pictures(phase, step, artefact.name, pictures))  # noqa: B023

    def close(self, figures: Mapping[str, Any] | None = None) -> None:
        """End, with the figures of the summary where the run has come to its end.

        Figures of the split that the run is judged on keep their names, the others begin with ``summary/``: a value of
        the best epoch is no further point of a curve.
        """
        judged = f"{self.recipe.kind.judged}/" if self.recipe.kind.judged != "val" else "summary/"
        numbers = finite_numbers(figures or {})
        named = {key if key.startswith(judged) else f"summary/{key}": value for key, value in numbers.items()}
        self._tell(lambda tracker: tracker.close(named))
        self._of = {}

    def _tell(self, say: Callable[[TensorBoard | WeightsAndBiases | MLflow], None]) -> None:
        for name, tracker in [*self._of.items()]:
            try:
                say(tracker)
            except errors_of(name) as error:
                del self._of[name]
                logging.getLogger("vision_train").warning(
                    "run.trackers: %s fails and gets nothing from here on: %s; metrics.jsonl has all of it", name, error
                )


def errors_of(name: str) -> tuple[type[Exception], ...]:
    """What a tracker raises where its files, its server or its account are at fault."""
    if name == "wandb":
        from wandb.errors import Error

        return (Error, OSError)
    if name == "mlflow":
        from mlflow.exceptions import MlflowException

        return (MlflowException, OSError)
    return (OSError,)


def settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe by dotted keys, as trackers show settings."""
    plain = flat(to_plain(recipe))
    return {key: value if isinstance(value, int | float | str) else str(value) for key, value in plain.items()}


def finite_numbers(values: Mapping[str, Any]) -> dict[str, float | int]:
    """The values that can be drawn."""
    return {key: value for key, value in values.items() if isinstance(value, int | float) and math.isfinite(value)}


def read_ids(file: Path) -> dict[str, str]:
    """Under which ids trackers know a run that was begun before."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _named(phase: str, values: Values) -> dict[str, float | int]:
    """Values under names that no other phase has."""
    return {key if phase == LAST else f"{phase}/{key}": value for key, value in values.items()}
