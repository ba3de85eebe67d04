"""The report of one run: every file of its directory, on one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from markupsafe import Markup

from vision_train.artefacts import Curve, ImageGrid, Items, Matrix, SeedValues, Table
from vision_train.files import write_text
from vision_train.report.artefact_blocks import blocks_of
from vision_train.report.figure_intervals import figure_intervals
from vision_train.report.formats import format_duration, format_number
from vision_train.report.headline import headline_tiles, in_words, other_figures, selection, written_figures
from vision_train.report.highlighting import highlighted_yaml
from vision_train.report.learning_curves import by_phase, curve_charts, pool_charts
from vision_train.report.links import files_of, started_from
from vision_train.report.page import render_page
from vision_train.report.record import Phase, RunRecord, read_record
from vision_train.semi.health_log import PREFIX

KNOWN = (Table, Curve, Matrix, SeedValues, ImageGrid, Items)
VERDICT = "verdict"
"""How the names of artefacts begin that say what the run was worth beside its controls."""
ARMS = f"{VERDICT}_arms"
"""The table of the arms, whose note is the verdict in words."""


@dataclass(frozen=True)
class PhaseCurves:
    """What one phase contributes to the learning curves."""

    heading: str
    charts: list[Markup]
    figures: dict[str, str]


def write_report(
    run_directory: Path, figures: Mapping[str, Any] | None = None, extension: ModuleType | None = None
) -> Path:
    """Write ``report.html`` into a run directory, from the files of that directory alone.

    The page is one file that needs no network. Missing files leave out their part; a run that did not finish is
    reported as far as it came.

    Args:
        run_directory: A run, finished or not.
        figures: Its final figures, where they are yet to be written.
        extension: What draws the artefacts of a kind of data. It has ``CODECS``, which read them; ``block``, which
            makes markup of one, or None if it is of another type; and ``HEADING`` of the section of these blocks.

    Returns:
        Path of the page.
    """
    record = read_record(run_directory, figures, extension)
    path = run_directory / "report.html"
    page = render_page("run_report.html", f"{record.run_name} · vision-train", **_values(record, extension))
    write_text(path, page)
    return path


def _values(record: RunRecord, extension: ModuleType | None) -> dict[str, Any]:
    """What the template names."""
    loaded = [a for a in record.artefacts if isinstance(a, Table) and a.name.endswith("checkpoint")]
    about_pool = [artefact for artefact in record.artefacts if _is_about_pool(artefact.name)]
    verdict = [artefact for artefact in record.artefacts if artefact.name.startswith(VERDICT)]
    arms = [artefact for artefact in verdict if isinstance(artefact, Table) and artefact.name == ARMS]
    beside = [artefact for artefact in verdict if artefact not in arms]
    apart = [*about_pool, *verdict]
    results = [a for a in record.artefacts if not a.name.endswith("checkpoint") and a not in apart]
    drawn = {a.name: extension.block(a) if extension else None for a in results if not isinstance(a, KNOWN)}
    undrawn = [f"artefacts/{a.name}.json: {type(a).__name__}" for a in results if drawn.get(a.name, "") is None]
    warnings = list(dict.fromkeys(each for phase in record.phases.values() for each in phase.warnings))
    listed = [
        in_words(_without(artefact, warnings), record.described) for artefact in results if isinstance(artefact, Table)
    ]
    tables = sorted(listed, key=lambda table: -len(table.rows))
    packages = record.environment.get("packages")
    return {
        "record": record,
        "description": str(record.recipe.get("description") or ""),
        "byline": _byline(record),
        "warnings": [f"Warning: {text}." for text in warnings],
        "started_from": started_from(record),
        "files": files_of(record),
        "unfinished": "" if record.summary else _unfinished(record),
        "unknown": [*record.unknown, *undrawn],
        "stopped_early": [p.facts["stopped_early"] for p in record.phases.values() if p.facts.get("stopped_early")],
        "headline": headline_tiles(record, figure_intervals(record)),
        "phases": _phases(record),
        "verdict": {
            "said": [table.note for table in arms],
            "kind": "better" if record.summary.get(f"{VERDICT}/helped") else "open",
            "beside": [*blocks_of(beside, SeedValues), *blocks_of(beside, Table)],
            "arms": [replace(table, note="") for table in arms],
        },
        # Matrices across the page; then curves and tables side by side, long tables first.
        "matrices": blocks_of(results, Matrix),
        "results": [*blocks_of(results, Curve), *blocks_of(tables, Table)],
        "pool_signs": blocks_of([a for a in about_pool if a.name.endswith("signs")], Table),
        "pool_curves": [*blocks_of(about_pool, Curve), *_pool_charts(record)],
        "pool_tables": blocks_of([a for a in about_pool if not a.name.endswith("signs")], Table),
        "extension_heading": extension.HEADING if extension else "",
        "extension_blocks": [block for block in drawn.values() if block],
        "pictures": blocks_of(results, ImageGrid),
        "starting_weights": _starting_weights(loaded),
        "other_figures": other_figures(record),
        "skipped": sorted({str(item) for phase in record.phases.values() for item in phase.facts.get("skipped") or []}),
        "recipes": list(_recipes(record)),
        "computer": {key: value for key, value in record.environment.items() if key != "packages"},
        "packages": packages if isinstance(packages, dict) else {},
    }


def _without(table: Table, warnings: Iterable[str]) -> Table:
    """A table whose note does not say again what stands at the top of the page."""
    note = table.note
    for text in warnings:
        note = note.replace(f"Warning: {text}.", "")
    return replace(table, note=note.strip())


def _byline(record: RunRecord) -> str:
    environment = record.environment
    parameters = record.summary.get("model/parameters")
    parts = [
        _model(record),
        f"{format_number(parameters)} parameters" if isinstance(parameters, int) else "",
        f"run {record.run_name}",
        f"seed {record.recipe['seed']}" if "seed" in record.recipe else "",
        str(environment.get("device") or ""),
        f"vision-train {environment['vision_train']}" if "vision_train" in environment else "",
    ]
    return " · ".join(filter(None, parts))


def _model(record: RunRecord) -> str:
    model = record.recipe.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    return f"model {name}" if name else ""


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


def _starting_weights(loaded: list[Table]) -> list[Markup]:
    """Reports of loaded checkpoints; of several, each with its phase, which begins its name."""
    phases = [report.name.partition("_")[0] for report in loaded]
    if len(set(phases)) > 1:
        loaded = [replace(r, title=f"{r.title}, phase {phase}") for r, phase in zip(loaded, phases, strict=True)]
    return blocks_of(loaded, Table)


def _phases(record: RunRecord) -> list[PhaseCurves]:
    """Charts; of several phases each under its name, with its figures where it has finished."""
    lines = by_phase(record.metrics)
    names = [*lines, *(name for name in record.phases if name not in lines)]
    metric = selection(record)["metric"].rpartition("/")[2]
    charts = {name: curve_charts(lines.get(name, []), metric, record.described) for name in names}
    if len(names) < 2:
        return [PhaseCurves("", drawn, {}) for drawn in charts.values()]
    curves = []
    for name in names:
        facts = record.phases.get(name, Phase()).facts
        recipe = f": {facts['recipe']}" if facts.get("recipe") else ""
        figures = written_figures(facts.get("figures") or {}, record.described)
        curves.append(PhaseCurves(f"Phase {name}{recipe}", charts[name], figures))
    return curves


def _is_about_pool(name: str) -> bool:
    """Whether an artefact tells of unlabelled samples; the name of a phase may stand before its own."""
    return name.startswith(PREFIX) or f"_{PREFIX}" in name


def _pool_charts(record: RunRecord) -> list[Markup]:
    return [chart for lines in by_phase(record.metrics).values() for chart in pool_charts(lines, record.described)]


def _recipes(record: RunRecord) -> Iterable[tuple[str, Markup]]:
    """Name and text of the run's recipe, and of those of phases that have another."""
    if record.recipe_text:
        yield "recipe.yaml, fully resolved", highlighted_yaml(record.recipe_text)
    for name, phase in record.phases.items():
        if phase.recipe_text and phase.recipe_text != record.recipe_text:
            yield f"phases/{name}/recipe.yaml", highlighted_yaml(phase.recipe_text)
