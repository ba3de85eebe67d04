"""What a run directory says about its run, read so that a missing or broken file costs only its own part."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import yaml

from vision_train.artefacts import Artefact, Metric, UnknownArtefactError, read_artefact
from vision_train.files import finite
from vision_train.metrics_log import part_of, read_metrics
from vision_train.recipe.yaml_text import read_yaml
from vision_train.report.formats import FORMATS, Metrics, describe

Content = TypeVar("Content")


@dataclass(frozen=True)
class Phase:
    """One training phase under ``phases/``."""

    facts: dict[str, Any] = field(default_factory=dict)
    recipe_text: str = ""

    @property
    def warnings(self) -> list[str]:
        """What was wrong with its result, in sentences; runs of earlier versions kept none."""
        said = self.facts.get("warnings")
        return [str(each) for each in said] if isinstance(said, list) else []


@dataclass(frozen=True)
class RunRecord:
    """The files of a run directory."""

    directory: Path
    recipe_text: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    phases: dict[str, Phase] = field(default_factory=dict)
    artefacts: list[Artefact] = field(default_factory=list)
    described: Metrics = field(default_factory=dict)
    """What the task says of its metrics, by their names."""
    unreadable: list[str] = field(default_factory=list)
    """``file: reason`` of each file that is there and could not be read."""
    unknown: list[str] = field(default_factory=list)
    """``file: type`` of each artefact of a type that nothing here knows."""

    @property
    def run_name(self) -> str:
        """The run's place below ``runs``, such as ``mixpro/digits/3``; elsewhere the folder's name."""
        parts = self.directory.resolve().parts
        if "runs" in parts[:-1]:
            last = len(parts) - 1 - parts[::-1].index("runs")
            return "/".join(parts[last + 1 :])
        return parts[-1]

    @property
    def recipe_name(self) -> str:
        """What the recipe is called, by its file or else by the run's name without its number."""
        if self.recipe.get("name"):
            return str(self.recipe["name"])
        folder, _, number = self.run_name.rpartition("/")
        return folder if folder and number.isdigit() else self.run_name


def read_record(
    directory: Path, figures: Mapping[str, Any] | None = None, extension: ModuleType | None = None
) -> RunRecord:
    """Read what is there.

    Args:
        directory: A run directory, finished or not.
        figures: Taken in place of the summary, where that is yet to be written.
        extension: As for :func:`~vision_train.report.run_report.write_report`.

    Returns:
        The record of the run itself, without its parts and metrics that are not to be shown; absent files leave their
        fields empty, broken ones are named in ``unreadable``.
    """
    unreadable: list[str] = []
    unknown: list[str] = []

    def read(path: Path, parse: Callable[[Path], Content], empty: Content) -> Content:
        try:
            return parse(path)
        except FileNotFoundError as error:
            if path.exists():
                unreadable.append(f"{path.relative_to(directory)}: {error}")
        except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
            unreadable.append(f"{path.relative_to(directory)}: {error}")
        return empty

    def parse_artefact(file: Path) -> Artefact | None:
        try:
            return read_artefact(file, extension.CODECS if extension else None)
        except UnknownArtefactError as error:
            unknown.append(f"{file.relative_to(directory)}: {error}")
        return None

    # Runs of version 0.1.0 have no such file: their metrics are shown by name, as plain numbers.
    described: Metrics = read(directory / "metrics.json", _metrics, {})
    summary: dict[str, Any] = finite(figures) if figures else read(directory / "summary.json", _json_mapping, {})
    metrics: list[dict[str, Any]] = read(directory / "metrics.jsonl", read_metrics, [])
    artefacts = [read(file, parse_artefact, None) for file in sorted((directory / "artefacts").glob("*.json"))]
    return RunRecord(
        directory=directory,
        recipe_text=read(directory / "recipe.yaml", _text, ""),
        recipe=read(directory / "recipe.yaml", _yaml_mapping, {}),
        environment=read(directory / "environment.json", _json_mapping, {}),
        summary=_shown(summary, described),
        metrics=[_shown(line, described) for line in metrics if not part_of(str(line.get("phase", "")))],
        phases={
            folder.name: Phase(read(folder / "phase.json", _json_mapping, {}), read(folder / "recipe.yaml", _text, ""))
            for folder in sorted((directory / "phases").glob("*/"))
            if not part_of(folder.name)
        },
        artefacts=[artefact for artefact in artefacts if artefact is not None],
        described=described,
        unreadable=unreadable,
        unknown=unknown,
    )


def _shown(figures: dict[str, Any], described: Metrics) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if describe(key, described).shown}


def _metrics(path: Path) -> Metrics:
    metrics = [Metric(**entry) for entry in _json(path)]
    if unknown := {metric.format for metric in metrics} - FORMATS.keys():
        raise ValueError(f"format {', '.join(map(str, unknown))}; expected {' | '.join(FORMATS)}")
    return {metric.name: metric for metric in metrics}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _json(path: Path) -> Any:
    return json.loads(_text(path))


def _json_mapping(path: Path) -> dict[str, Any]:
    return _mapping(_json(path))


def _yaml_mapping(path: Path) -> dict[str, Any]:
    return _mapping(read_yaml(_text(path))[1])


def _mapping(content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError("holds no mapping")
    return content
