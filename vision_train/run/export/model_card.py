"""The model card: what hubs show of a network, with YAML in front that they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from vision_train import __version__
from vision_train.recipe import Recipe
from vision_train.recipe.plain import to_yaml
from vision_train.report.figure_intervals import figure_intervals
from vision_train.report.formats import metric_title
from vision_train.report.headline import headline_tiles, numbers, selection
from vision_train.report.record import RunRecord, read_record


@dataclass(frozen=True)
class Card:
    """What a format and a network say of themselves."""

    library: str
    """Which loads it, as hubs call it."""
    pipeline: str | None
    """Its use, as hubs call it."""
    use: str
    """Python that loads it."""
    described: Mapping[str, Any]
    """Its inputs, outputs and preparation."""
    description: str
    """The file that holds that."""


def model_card(run: Path, recipe: Recipe, card: Card) -> str:
    """Write a model card from the files of a run. It states no license, as nobody has.

    Args:
        run: The run directory.
        recipe: Its recipe.
        card: What else is said.

    Returns:
        Markdown with YAML in front.
    """
    record = read_record(run, extension=recipe.kind.load_report())
    name, data = recipe.name, _named_data(recipe)
    front = ModelCardData(
        library_name=card.library,
        pipeline_tag=card.pipeline,
        tags=["vision-train", recipe.task, recipe.model.name],
        model_name=name,
        eval_results=_results(record, card.pipeline or recipe.task, recipe.data.source, data) or None,
    )
    parts = [
        f"# {name}",
        recipe.description or "",
        f"`{recipe.model.name}`, trained with vision-train {__version__} (task `{recipe.task}`).",
        _figures(record),
        f"## Use\n\n```python\n{card.use}\n```\n\n{_ins_and_outs(card)}",
        f"## Data\n\n{data}{_classes(record, card)}",
        f"## Recipe\n\n```yaml\n{to_yaml(without_places(record.recipe))}```",
    ]
    text = "\n\n".join(part for part in parts if part)
    made = ModelCard(f"---\n{front.to_yaml()}\n---\n\n{text}\n")
    return str(made)


def without_places(plain: Any) -> Any:
    """Plain values with the last part of each absolute path: where files lay concerns nobody else."""
    if isinstance(plain, dict):
        return {key: without_places(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [without_places(value) for value in plain]
    return Path(plain).name if isinstance(plain, str) and Path(plain).is_absolute() else plain


def _results(record: RunRecord, task: str, source: str, data: str) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=task,
            dataset_type=source,
            dataset_name=data,
            dataset_split=key.partition("/")[0],
            metric_type=key.rpartition("/")[2],
            metric_name=metric_title(key, record.described),
            metric_value=value,
        )
        for key, value in _measured(record).items()
    ]


def _measured(record: RunRecord) -> dict[str, float]:
    """What was measured on the split that the run is judged by."""
    figures = numbers(record.summary)
    split = "test/" if any(key.startswith("test/") for key in figures) else "val/"
    names = [f"{split}{metric}" for metric in record.described]
    return {key: figures[key] for key in names if key in figures}


def _figures(record: RunRecord) -> str:
    if not record.summary:
        return "This run was not finished when it was exported; nothing was measured."
    tiles = headline_tiles(record, figure_intervals(record))
    rows = [f"| {tile.label} | {tile.value} | {tile.note} |" for tile in tiles]
    epochs = f"The epoch was chosen by `{selection(record)['metric']}`."
    return "\n".join(["## Figures", "", "| | | |", "|---|---|---|", *rows, "", epochs])


def _ins_and_outs(card: Card) -> str:
    rows = [
        f"| `{name}` | {meaning} |"
        for key in ("inputs", "outputs")
        for name, meaning in card.described.get(key, {}).items()
    ]
    table = "\n".join(["| | |", "|---|---|", *rows, ""]) if rows else ""
    return f"{table}\n`{card.description}` says how inputs are prepared."


def _named_data(recipe: Recipe) -> str:
    root = recipe.data.root
    return str(recipe.data.source) if root is None else Path(root).name


def _classes(record: RunRecord, card: Card) -> str:
    classes = card.described.get("classes")
    if not classes:
        return ""
    shown = ", ".join(f"`{name}`" for name in classes[:20])
    return f", {len(classes)} classes: {shown}{', ...' if len(classes) > 20 else ''}"
