"""The report of one run: every file of its directory, on one page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vision_train.artefacts import Artefact, AttentionMaps, Curve, ImageGrid, Matrix, Table
from vision_train.files import write_text
from vision_train.report.artefact_blocks import artefact_block
from vision_train.report.formats import format_duration
from vision_train.report.headline import headline_tiles, other_figures, written_figures
from vision_train.report.learning_curves import by_phase, curve_charts
from vision_train.report.page import (
    Section,
    compact_facts,
    details,
    escape,
    facts,
    listing,
    notice,
    page,
    pair,
    tiles,
    yaml_listing,
)
from vision_train.report.record import Phase, RunRecord, read_record


def write_report(run_directory: Path, figures: Mapping[str, Any] | None = None) -> Path:
    """Write ``report.html`` into a run directory, from the files of that directory alone.

    The page is one file that needs no network. Missing files leave out their part; a run that did not finish is
    reported as far as it came.

    Args:
        run_directory: A run, finished or not.
        figures: Its final figures, where they are yet to be written.

    Returns:
        Path of the page.
    """
    record = read_record(run_directory, figures)
    path = run_directory / "report.html"
    write_text(path, page(f"{record.run_name} · vision-train", _header(record), _sections(record)))
    return path


def _header(record: RunRecord) -> str:
    description = str(record.recipe.get("description") or "")
    environment = record.environment
    byline = [
        f"run {record.run_name}",
        f"seed {record.recipe['seed']}" if "seed" in record.recipe else "",
        str(environment.get("device") or ""),
        f"vision-train {environment['vision_train']}" if "vision_train" in environment else "",
    ]
    parts = [f"<h1>{escape(record.recipe_name)}</h1>"]
    if description:
        parts.append(f'<p class="lede">{escape(description)}</p>')
    parts.append(f'<p class="byline">{escape(" · ".join(filter(None, byline)))}</p>')
    if not record.summary:
        parts.append(notice(_unfinished(record), fault=True))
    if record.unreadable:
        parts.append(notice("Could not be read: " + "; ".join(record.unreadable)))
    parts.append(tiles(headline_tiles(record)))
    return "\n".join(parts)


def _unfinished(record: RunRecord) -> str:
    if not record.metrics:
        return "This run has not finished: it wrote no summary and no metrics."
    last = record.metrics[-1]
    epoch = int(last.get("epoch") or 0) + 1
    planned = (record.recipe.get("trainer") or {}).get("max_epochs")
    place = f"epoch {epoch}" + (f" of {planned}" if isinstance(planned, int) and planned > 0 else "")
    after = f", {format_duration(last['time'])} after the start" if isinstance(last.get("time"), int | float) else ""
    return (
        f"This run has not finished: it wrote no summary. Its last record is from {place} in phase "
        f"{last.get('phase', 'fit')}{after}. What follows is as far as it came."
    )


def _sections(record: RunRecord) -> list[Section]:
    loaded = [a for a in record.artefacts if isinstance(a, Table) and a.name.endswith("checkpoint")]
    results = [artefact for artefact in record.artefacts if not artefact.name.endswith("checkpoint")]
    return [
        Section("Learning curves", _learning_curves(record)),
        Section("Results", _results(results)),
        Section("Where the network looks", _blocks(results, AttentionMaps)),
        Section("Pictures", _blocks(results, ImageGrid)),
        Section("Starting weights", _starting_weights(loaded)),
        Section("Figures", compact_facts(other_figures(record))),
        Section("Skipped", _skipped(record.phases)),
        Section("Recipe", _recipe(record)),
        Section("Environment", _environment(record.environment)),
    ]


def _blocks(artefacts: list[Artefact], kind: type) -> str:
    return "\n".join(artefact_block(artefact) for artefact in artefacts if isinstance(artefact, kind))


def _results(artefacts: list[Artefact]) -> str:
    """Matrices across the page; then curves and tables side by side, long tables first."""
    curves: list[Artefact] = [artefact for artefact in artefacts if isinstance(artefact, Curve)]
    tables = sorted((artefact for artefact in artefacts if isinstance(artefact, Table)), key=lambda t: -len(t.rows))
    narrow = [artefact_block(artefact) for artefact in [*curves, *tables]]
    return _blocks(artefacts, Matrix) + pair(filter(None, narrow))


def _starting_weights(loaded: list[Table]) -> str:
    """Reports of loaded checkpoints; of several, each with its phase, which begins its name."""
    phases = [report.name.partition("_")[0] for report in loaded]
    if len(set(phases)) > 1:
        loaded = [replace(r, title=f"{r.title}, phase {phase}") for r, phase in zip(loaded, phases, strict=True)]
    return "\n".join(artefact_block(report) for report in loaded)


def _learning_curves(record: RunRecord) -> str:
    """Charts; of several phases each under its name, with its figures where it has finished."""
    phases = by_phase(record.metrics)
    if len({*phases, *record.phases}) < 2:
        return pair(filter(None, (chart for records in phases.values() for chart in curve_charts(records))))
    parts = []
    for name in [*phases, *(name for name in record.phases if name not in phases)]:
        phase = record.phases.get(name, Phase())
        recipe = f": {phase.facts['recipe']}" if phase.facts.get("recipe") else ""
        parts.append(f"<h3>Phase {escape(name)}{escape(recipe)}</h3>")
        parts.append(pair(filter(None, curve_charts(phases.get(name, [])))))
        figures = written_figures(phase.facts.get("figures") or {})
        parts.append(details("Figures of this phase", compact_facts(figures)) if figures else "")
    return "\n".join(parts)


def _skipped(phases: dict[str, Phase]) -> str:
    names = sorted({str(item) for phase in phases.values() for item in phase.facts.get("skipped") or []})
    return details(f"{len(names)} unreadable files were skipped", listing(names)) if names else ""


def _recipe(record: RunRecord) -> str:
    parts = []
    if record.recipe_text:
        parts.append(details("recipe.yaml, fully resolved", yaml_listing(record.recipe_text)))
    for name, phase in record.phases.items():
        if phase.recipe_text and phase.recipe_text != record.recipe_text:
            parts.append(details(f"phases/{name}/recipe.yaml", yaml_listing(phase.recipe_text)))
    return "\n".join(parts)


def _environment(environment: dict[str, Any]) -> str:
    packages = environment.get("packages")
    body = facts({key: value for key, value in environment.items() if key != "packages"})
    return body + (details("Packages", compact_facts(packages)) if isinstance(packages, dict) and packages else "")
