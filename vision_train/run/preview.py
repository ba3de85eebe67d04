"""What a recipe's augmentation makes of its training samples, as one picture."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count as counting
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from torch.utils.data import Sampler

from vision_train.data.dataset import Batch, sample_loader
from vision_train.data.module import SampleDataModule
from vision_train.data.sampler import Position
from vision_train.errors import UserError
from vision_train.files import mark_output, write_bytes
from vision_train.previews import Preview, PreviewRow
from vision_train.progress import Work, doing
from vision_train.recipe import Recipe
from vision_train.report.drawing import PAPER
from vision_train.report.fonts import remarks_on_glyphs
from vision_train.run.inference import ONE_PROCESS
from vision_train.run.log import logging_to
from vision_train.run.meter import samples_in
from vision_train.run.phase import Prepared, prepare, scan
from vision_train.run.predict import report_skipped
from vision_train.seeds import derive_seed
from vision_train.tasks.base import Task
from vision_train.wording import count_of

VIEWS = {"weak": "weak view, for the teacher", "strong": "strong view, which is learnt"}
"""View of an unlabelled sample -> heading of its pictures."""
BATCH_SIZE = 8
"""Most samples that are loaded at a time."""
GOLDEN = (math.sqrt(5) - 1) / 2


def preview(recipe: Recipe, out: Path, *, count: int, console: Console) -> None:
    """Draw training samples with what happens to them on their way into the network, and write the picture.

    They are spread over the list of samples, in which those of one class mostly follow one another, and augmented as
    the first epoch augments them. Below them are as many of the pool in their two views, if training takes a pool in
    its steps.

    Args:
        recipe: A checked recipe.
        out: The picture; its ending says in which format. Overwritten if it exists.
        count: Samples to show, at least 1.
        console: Where to report.

    Raises:
        UserError: The task has nothing to show; data, model or checkpoint are not as the recipe says; a sample cannot
            be read; the picture cannot be written.
    """
    with logging_to(None):
        prepared = prepare(scan(_at_small_size(recipe)))
    prepared.task.network.eval()
    first, *others = prepared.data.streams
    with doing("augmenting", count, prepared.data.noun) as work:
        shown = prepared.task.preview(_counted(_training_batches(prepared.data, first), work), count)
    summary = f"{count_of(len(shown.rows), 'training samples')}: {shown.summary}"
    notes = [*shown.notes, *_notes(shown, random_weights=not prepared.load_reports)]
    shown = replace(shown, summary=f"{summary}; seed {recipe.seed}", notes=notes)
    sheets = [shown, *(_pool(prepared, name, count) for name in others)]
    with doing("drawing"):
        picture = _stacked([_draw(recipe, prepared, sheet) for sheet in sheets])
    buffer = io.BytesIO()
    picture.save(buffer, format=Image.registered_extensions()[out.suffix.lower()], quality=92)
    out.parent.mkdir(parents=True, exist_ok=True)
    mark_output(out.parent, out.name)
    write_bytes(out, buffer.getvalue())
    console.print("\n".join([str(out), summary, *(sheet.summary for sheet in sheets[1:])]))
    for remark in [*recipe.semi.notes, *remarks_on_glyphs(text for sheet in sheets for text in _texts(sheet))]:
        console.print(f"note: {remark}")
    report_skipped(console, recipe, prepared.data.skipped)


def _texts(shown: Preview) -> Iterator[str]:
    for row in shown.rows:
        yield from (row.id, *row.captions.values())
        for boxes in row.boxes.values():
            yield from {boxes.classes[label] for label in boxes.class_ids}
        if row.panel:
            yield from (row.panel.label, row.panel.partner, row.panel.partner_label)


def _draw(recipe: Recipe, prepared: Prepared, shown: Preview) -> Image.Image:
    kind, data = recipe.kind, prepared.data
    report = kind.load_report()
    if report is None or not hasattr(report, "render_preview"):
        raise UserError(f"task={recipe.task}: there is no preview of {kind.noun}")
    wanted = {row.id for row in shown.rows}
    samples = [
        sample for stream in data.streams.values() for sample in data.samples(stream.split) if sample.id in wanted
    ]
    sources, _ = kind.load().picture_sources(samples, recipe.data, None)
    originals = {name: read() for name, read in sources["originals"].items()}
    picture: Image.Image = report.render_preview(recipe.name, shown, originals)
    return picture


def _at_small_size(recipe: Recipe) -> Recipe:
    """The recipe for a handful of samples in this process on the CPU, whatever devices training is meant for."""
    data = replace(recipe.data, batch_size=min(recipe.data.batch_size, BATCH_SIZE), workers=0)
    model = replace(recipe.model, compile=False, attention="auto")
    return replace(recipe, data=data, model=model, trainer={"accelerator": "cpu", **ONE_PROCESS})


class _Spread(Sampler[Position]):
    """All samples again and again, the first few of them far apart in the list, however few are taken.

    Samples stand in the order of the multiples of the golden ratio, of which any number, taken from the first on,
    divide a circle about evenly.

    Args:
        length: Samples in the list.
        seed: Of the run; it decides where in the list the first one stands.
    """

    def __init__(self, length: int, seed: int) -> None:
        start = np.random.default_rng(derive_seed(seed, "preview")).random()
        places = (start + np.arange(length) * GOLDEN) % 1
        self.order: list[int] = np.argsort(np.argsort(places)).tolist()

    def __iter__(self) -> Iterator[Position]:
        for epoch in counting():
            yield from ((index, epoch) for index in self.order)


def _training_batches(data: SampleDataModule, name: str) -> Iterator[Batch]:
    """Augmented batches of a stream, without end."""
    stream, dataset = data.streams[name], data.stream_loader(name).dataset
    # Samples that are put together with none but their like are shown one by one.
    alone = data.batch_groups(data.samples(stream.split)) is not None
    size = 1 if alone else min(stream.batch_size, len(dataset))
    yield from sample_loader(dataset, _Spread(len(dataset), data.seed), size, 0, seed=data.seed)


def _counted(batches: Iterator[Batch], work: Work) -> Iterator[Batch]:
    for batch in batches:
        work.advance(samples_in(batch))
        yield batch


def _pool(prepared: Prepared, stream: str, count: int) -> Preview:
    """Unlabelled samples in the view that the teacher labels and in the one that is learnt."""
    batches = _training_batches(prepared.data, stream)
    rows = list(islice((row for batch in batches for row in _view_rows(prepared.task, batch)), count))
    before = f", before {after}" if (after := prepared.data.after_views) else ""
    return Preview(f"{count_of(len(rows), 'unlabelled samples')} in their two views{before}", rows)


def _view_rows(task: Task, batch: Batch) -> Iterator[PreviewRow]:
    for place, name in enumerate(batch["id"]):
        pictures, captions = {}, {}
        for view, heading in VIEWS.items():
            image = batch[view]["image"][place]
            height, width = batch[view]["shown"][place] if "shown" in batch[view] else image.shape[-2:]
            pictures[heading] = task.pixels_of(image[:, :height, :width])
            if "text" in batch[view]:
                captions[heading] = batch[view]["text"][place]
        yield PreviewRow(name, pictures, captions)


def _stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """Pictures below one another."""
    if len(sheets) == 1:
        return sheets[0]
    whole = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), PAPER)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def _notes(shown: Preview, *, random_weights: bool) -> list[str]:
    by_attention = any(row.panel and len(row.panel.shares) > 1 for row in shown.rows)
    if not (random_weights and by_attention):
        return []
    return ["The network starts from random weights: where it attends to says little yet."]
