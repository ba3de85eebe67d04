"""What a recipe's augmentation and mixing do to its images, as one picture."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor

from augment.mixing import Mix, own_share
from vision_train.data.dataset import Batch, ImageSample, SampleLoader
from vision_train.data.decode import decode
from vision_train.data.module import SampleDataModule
from vision_train.data.sampler import TrainingSampler
from vision_train.errors import UserError
from vision_train.files import write_bytes
from vision_train.recipe import Recipe
from vision_train.recipe.sections import Augment, Mixing
from vision_train.report.images.preview import LabelledImage, PreviewRow, render_preview
from vision_train.run.evaluate import ONE_PROCESS
from vision_train.run.log import logging_to
from vision_train.run.phase import prepare
from vision_train.tasks.classification.mixing import MixedStep
from vision_train.tasks.classification.task import ClassificationTask

BATCH_SIZE = 8
"""Most images that are loaded to be mixed with one another."""
DRAWS = 1000
"""After so many draws without the kind of mixing that is looked for, whatever comes is shown."""
UNMIXED = "unmixed"
TITLES = {"maskmix": "MaskMix", "mixup": "MixUp", "cutmix": "CutMix", UNMIXED: "not mixed"}
"""Kind of mixing -> how it is called in the picture."""
ATTENTION_NOTES = {
    "transmix": "half by the area of its pixels, half by the network's attention to them",
    "progressive": "from the area of its pixels towards the network's attention to them, as the prediction gets better",
}
"""Way of sharing labels -> how an image earns its share."""


def preview(recipe: Recipe, out: Path, *, count: int, console: Console) -> None:
    """Draw training images with what happens to them on their way into the network, and write the picture.

    They are the first images of the first epoch, augmented as training augments them. Each is shown in a batch of its
    own drawing, so that every kind of mixing is seen, the more frequent ones in more rows.

    Args:
        recipe: A checked recipe.
        out: The picture; its ending says in which format. Overwritten if it exists.
        count: Images to show, at least 1.
        console: Where to report.

    Raises:
        UserError: The task mixes no images; data, model or checkpoint are not as the recipe says; an image cannot be
            read; the picture cannot be written.
    """
    with logging_to(None):
        prepared = prepare(_at_small_size(recipe))
    data, task = prepared.data, prepared.task
    if not isinstance(task, ClassificationTask):
        raise UserError(f"task={recipe.task}: preview shows augmented and mixed images of classification recipes only")
    loader = data.train_dataloader()
    weights = mixing_weights(recipe.augment.mixing)
    with torch.inference_mode():
        task.network.eval()
        album = _Album(
            task,
            {sample.id: sample for sample in data.samples("train") if isinstance(sample, ImageSample)},
            recipe.augment,
        )
        planned = plan_rows(weights, count)
        rows = [album.row(batch, index, kind) for kind, (batch, index) in zip(planned, _in_turn(loader), strict=False)]
    summary = _summary(weights, rows)
    notes = _notes(recipe, rows, random_weights=not prepared.load_reports)
    picture = render_preview(recipe.name, f"{summary}; seed {recipe.seed}", rows, notes)
    _write(out, picture)
    console.print(f"{out}\n{summary}")
    _report_skipped(data, console)


def mixing_weights(mixing: Mixing) -> dict[str, float]:
    """Share of the batches that undergo each kind of mixing, without those that never come."""
    weights = {kind: getattr(mixing, kind) for kind in TITLES if kind != UNMIXED}
    weights[UNMIXED] = 1 - sum(weights.values())
    return {kind: weight for kind, weight in weights.items() if weight > 1e-9}


def plan_rows(weights: Mapping[str, float], count: int) -> list[str]:
    """Kinds of mixing for ``count`` rows: each kind once if there is room, then by weight (D'Hondt's method).

    Images that stay unmixed get one row at most beside others: there is no more to see in a second.
    """
    kinds = {kind: weight for kind, weight in weights.items() if kind != UNMIXED} or weights
    unmixed = [UNMIXED] if kinds != weights and count > len(kinds) else []
    rows = dict.fromkeys(kinds, 0)
    for _ in range(count - len(unmixed)):
        kind = max(kinds, key=lambda kind: (rows[kind] == 0, kinds[kind] / (rows[kind] + 1)))
        rows[kind] += 1
    return [kind for kind, number in rows.items() for _ in range(number)] + unmixed


class _Album:
    """Makes rows of the picture from batches of training images."""

    def __init__(self, task: ClassificationTask, samples: Mapping[str, ImageSample], augment: Augment) -> None:
        self.task, self.samples = task, samples
        self.mean, self.std = torch.tensor(augment.mean), torch.tensor(augment.std)

    def row(self, batch: Batch, index: int, kind: str) -> PreviewRow:
        """The image at ``index`` of a batch, mixed in the way that is asked for."""
        step = self._step(batch, index, kind)
        mix = step.mix
        image = self.samples[batch["id"][index]]
        height, width = step.images.shape[-2:]
        whole = torch.ones(len(step.images), height * width)
        own = whole if mix is None else own_share(mix, (height, width), (height, width))
        return PreviewRow(
            image=_labelled(image),
            partner=None if mix is None else _labelled(self.samples[batch["id"][int(mix.partner[index])]]),
            mixing=TITLES[_kind(mix)],
            original=decode(image.image) if isinstance(image.image, str) else image.image,
            augmented=self._pixels(batch["image"][index]),
            mixed=self._pixels(step.images[index]),
            own=own[index].view(height, width).numpy(),
            shares=_shares(step, index),
        )

    def _step(self, batch: Batch, index: int, kind: str) -> MixedStep:
        """A step of training whose mix is of this kind and shows the image with another than itself."""
        draws = itertools.count(1)

        def accept(mix: Mix | None) -> bool:
            with_itself = mix is not None and int(mix.partner[index]) == index
            return next(draws) == DRAWS or (_kind(mix) == kind and not with_itself)

        return self.task.mixing.step(self.task.network, batch["image"], batch["label"], accept)

    def _pixels(self, image: Tensor) -> NDArray[np.uint8]:
        """C H W normalised -> H W C."""
        levels = (image.permute(1, 2, 0) * self.std + self.mean).clamp(0, 1) * 255
        return levels.round().to(torch.uint8).numpy()


def _at_small_size(recipe: Recipe) -> Recipe:
    """The recipe for a handful of images in this process on the CPU, whatever devices training is meant for."""
    data = replace(recipe.data, batch_size=min(recipe.data.batch_size, BATCH_SIZE), workers=0)
    model = replace(recipe.model, compile=False, attention="auto")
    return replace(recipe, data=data, model=model, trainer={"accelerator": "cpu", **ONE_PROCESS})


def _in_turn(loader: SampleLoader) -> Iterator[tuple[Batch, int]]:
    """Training images, each as its batch and its place in it, for as many epochs as are asked for."""
    assert isinstance(loader.sampler, TrainingSampler)
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            for index in range(len(batch["id"])):
                yield batch, index


def _labelled(sample: ImageSample) -> LabelledImage:
    return LabelledImage(sample.id, str(sample.label))


def _shares(step: MixedStep, index: int) -> dict[str, float]:
    """Share of its label that an image keeps, by each rule that applies."""
    if step.mix is None:
        return {}
    by_area = {"by area": step.mix.share[index].item()}
    return by_area if step.attended is None else {**by_area, "with attention": step.attended[index].item()}


def _kind(mix: Mix | None) -> str:
    return UNMIXED if mix is None else mix.kind


def _summary(weights: Mapping[str, float], rows: list[PreviewRow]) -> str:
    shown = {row.mixing for row in rows}
    kinds = [
        f"{TITLES[kind]} ({100 * weight:.3g} % of batches{'' if TITLES[kind] in shown else ', none shown'})"
        for kind, weight in weights.items()
    ]
    return f"{len(rows)} training image{'s' if len(rows) > 1 else ''}: {', '.join(kinds)}"


def _notes(recipe: Recipe, rows: list[PreviewRow], *, random_weights: bool) -> list[str]:
    if not any("with attention" in row.shares for row in rows):
        return []
    rule = recipe.augment.mixing.labels
    notes = [f"with attention: augment.mixing.labels={rule}, {ATTENTION_NOTES[rule]}"]
    if random_weights:
        notes.append("The network starts from random weights: where it attends to says little yet.")
    return notes


def _write(out: Path, picture: Image.Image) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, format=Image.registered_extensions()[out.suffix.lower()], quality=92)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, buffer.getvalue())


def _report_skipped(data: SampleDataModule, console: Console) -> None:
    if data.skipped:
        console.print(f"{len(data.skipped)} unreadable images were skipped:")
        for path, reason in data.skipped.items():
            console.print(f"  {path}: {reason}")
