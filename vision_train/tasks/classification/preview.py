"""What augmentation and mixing make of training images, as rows of a preview."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from augment.mixing import Mix, own_share
from vision_train.previews import OWN, PARTNER, LabelPanel, Pixels, Preview, PreviewRow
from vision_train.recipe.sections import Mixing
from vision_train.tasks.classification.mixing import MixedStep

if TYPE_CHECKING:
    from vision_train.tasks.classification.task import ClassificationTask

DRAWS = 1000
"""After so many draws without the kind of mixing that is looked for, whatever comes is shown."""
UNMIXED = "unmixed"
TITLES = {"maskmix": "MaskMix", "mixup": "MixUp", "cutmix": "CutMix", UNMIXED: "not mixed"}
"""Kind of mixing -> its title in the picture."""
ATTENTION_NOTES = {
    "transmix": "half by the area of its pixels, half by the network's attention to them",
    "progressive": "from the area of its pixels towards the network's attention to them, as the prediction gets better",
}
"""Way of sharing labels -> how an image earns its share."""


def preview_mixing(task: ClassificationTask, batches: Iterator[dict[str, Any]], count: int) -> Preview:
    """Show each image in a batch that is mixed for it, so that every kind of mixing is seen.

    Args:
        task: Its network gives the attention that labels are shared by.
        batches: Augmented training batches, without end.
        count: Images to show.
    """
    weights = mixing_weights(task.recipe.augment.mixing)
    planned = plan_rows(weights, count)
    with torch.inference_mode():
        rows = [
            _row(task, batch, index, kind) for kind, (batch, index) in zip(planned, _in_turn(batches), strict=False)
        ]
    return Preview(_summary(weights, rows), rows, _notes(task.recipe.augment.mixing, rows))


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


def _in_turn(batches: Iterator[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int]]:
    for batch in batches:
        for index in range(len(batch["id"])):
            yield batch, index


def _row(task: ClassificationTask, batch: dict[str, Any], index: int, kind: str) -> PreviewRow:
    """The image at ``index`` of a batch, mixed in the way that is asked for."""
    step = _step(task, batch, index, kind)
    height, width = step.images.shape[-2:]
    whole = torch.ones(len(step.images), height * width)
    own = whole if step.mix is None else own_share(step.mix, (height, width), (height, width))
    own_pixels = own[index].view(height, width).numpy()
    pictures = {
        "augmented": task.pixels_of(batch["image"][index]),
        "as the network sees it": task.pixels_of(step.images[index]),
        "whose pixels": _in_two_colours(own_pixels),
    }
    captions = {"augmented": f"{width} × {height}", "whose pixels": _own_share(own_pixels)}
    return PreviewRow(batch["id"][index], pictures, captions, _panel(task, batch, step, index))


def _step(task: ClassificationTask, batch: dict[str, Any], index: int, kind: str) -> MixedStep:
    """A step of training whose mix is of this kind and shows the image with another than itself."""
    draws = itertools.count(1)

    def accept(mix: Mix | None) -> bool:
        with_itself = mix is not None and int(mix.partner[index]) == index
        return next(draws) == DRAWS or (_kind(mix) == kind and not with_itself)

    return task.mixing.step(task.network, batch["image"], batch["label"], accept)


def _panel(task: ClassificationTask, batch: dict[str, Any], step: MixedStep, index: int) -> LabelPanel:
    labels = task.label_words(batch["label"])
    title = TITLES[_kind(step.mix)]
    if step.mix is None:
        return LabelPanel(title, labels[index])
    partner = int(step.mix.partner[index])
    shares = {"by area": step.mix.share[index].item()}
    shares |= {} if step.attended is None else {"with attention": step.attended[index].item()}
    return LabelPanel(title, labels[index], batch["id"][partner], labels[partner], shares)


def _kind(mix: Mix | None) -> str:
    return UNMIXED if mix is None else mix.kind


def _in_two_colours(own: np.ndarray) -> Pixels:
    """H W in [0, 1] -> H W 3, between the two colours as the pixel's own share says."""
    share = own[..., None]
    return np.rint(share * np.array(OWN) + (1 - share) * np.array(PARTNER)).astype(np.uint8)


def _own_share(own: np.ndarray) -> str:
    share = f"{100 * own.mean():.0f} %"
    blended = own.min() > 0 and own.max() < 1
    return f"each pixel {share} its own" if blended else f"{share} its own"


def _summary(weights: Mapping[str, float], rows: list[PreviewRow]) -> str:
    shown = {row.panel.title for row in rows if row.panel}
    kinds = [
        f"{TITLES[kind]} ({100 * weight:.3g} % of batches{'' if TITLES[kind] in shown else ', none shown'})"
        for kind, weight in weights.items()
    ]
    return ", ".join(kinds)


def _notes(mixing: Mixing, rows: list[PreviewRow]) -> list[str]:
    if not any(row.panel and "with attention" in row.panel.shares for row in rows):
        return []
    return [f"with attention: augment.mixing.labels={mixing.labels}, {ATTENTION_NOTES[mixing.labels]}"]
