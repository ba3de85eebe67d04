"""From a list of expressions to batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from augment.detection import relative_boxes
from augment.geometry import View, clip_boxes
from augment.grounding import Square
from vision_train.data.annotated_images import annotated_pixels, refused_image
from vision_train.data.dataset import Batch, SampleDataset
from vision_train.data.kind import OnBad
from vision_train.data.phrases.annotations import GivenBox, PhraseSample, Referred
from vision_train.data.phrases.tokens import WordPieces
from vision_train.data.sample import Pixels
from vision_train.data.sampler import Position
from vision_train.errors import BadSampleError, UserError
from vision_train.files import printable
from vision_train.seeds import derive_seed

Transform = Callable[[View[Pixels], int], Square]


@dataclass(frozen=True)
class Preparation:
    """What is done to each image and its expression.

    Attributes:
        transform: Applied to the decoded pixels, with the expression and the box.
        tokenizer: Divides the expression.
        max_tokens: Word pieces that it is cut or padded to.
        seed: Of the run.
    """

    transform: Transform
    tokenizer: WordPieces
    max_tokens: int
    seed: int = 0


class PhraseDataset(SampleDataset):
    """Reads one expression with its image at a time.

    Args:
        samples: In their fixed order.
        preparation: What is done to each.
        on_bad: What an image that cannot be read does.
    """

    noun = "expressions"

    def __init__(self, samples: Sequence[PhraseSample], preparation: Preparation, on_bad: OnBad) -> None:
        super().__init__(samples, on_bad)
        self.preparation = preparation

    def named(self, sample: PhraseSample) -> str:
        """The path of its image, on one line."""
        return printable(sample.place or sample.id)

    def read(self, sample: PhraseSample, position: Position) -> dict[str, Any]:
        """Decode and transform the image, and mirror the expression with it."""
        index, epoch = position
        truth: Referred | GivenBox | None = sample.truth
        size = (truth.width, truth.height) if isinstance(truth, Referred) else None
        pixels = annotated_pixels(sample.image, size)
        boxes = None if truth is None else np.array([truth.box], dtype=np.float64)
        if isinstance(truth, GivenBox):
            boxes = _on_image(boxes, pixels)
        whole = View.whole(pixels, boxes, sample.text)
        seed = derive_seed(self.preparation.seed, "augmentation", epoch, index)
        return prepared(self.preparation.transform, whole, seed)

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Put squares and expressions together; see :func:`collated`."""
        return collated(items, self.preparation)

    def collate_truth(self, truths: list[Any]) -> Batch:
        """What is known of the boxes, which have come with the pixels already.

        Returns:
            ``category``, a list of texts, empty where nothing says it; of boxes that networks have given ``weight`` (B
            float32) in its place.
        """
        if isinstance(truths[0], GivenBox):
            return {"weight": torch.tensor([truth.weight for truth in truths], dtype=torch.float32)}
        return {"category": [truth.category for truth in truths]}

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about the first image that cannot be used."""
        return refused_image(bad, shared=shared)


def _on_image(boxes: NDArray[np.float64] | None, pixels: Pixels) -> NDArray[np.float64]:
    """The part of a box that is on its image: people may edit the file that the box comes from.

    Raises:
        BadSampleError: None of it is.
    """
    assert boxes is not None
    height, width = pixels.shape[:2]
    inside, shares = clip_boxes(boxes, (height, width))
    if not shares[0] > 0:
        raise BadSampleError(f"its box in data.pseudo_labels lies outside of its {width} x {height} pixels")
    return inside


def prepared(transform: Transform, whole: View[Pixels], seed: int) -> dict[str, Any]:
    """One view of an image with its expression, ready to be collated.

    Args:
        transform: What makes the view.
        whole: The original pixels, with the expression, and its box where there is one.
        seed: Of what is random.
    """
    view, padding_mask = transform(whole, seed)
    item = {"image": view.image, "padding_mask": padding_mask, "affine": view.affine, "text": view.text}
    if view.boxes is not None:
        side = len(padding_mask)
        item["boxes"] = torch.from_numpy(relative_boxes(view.boxes, (side, side))[0]).float()
    return item | {"size": whole.image.shape[:2]}


def collated(items: Sequence[dict[str, Any]], preparation: Preparation) -> Batch:
    """Put squares and expressions together.

    Returns:
        ``image`` (B 3 S S float32, 0 on padding), ``padding_mask`` (B S S, True on padding), ``affine`` (B 3 3
        float64, original pixels to those of the square), ``size`` (a list of original height and width), ``text``
        (a list of expressions, in small letters and mirrored where the image is), ``tokens`` (B L int64),
        ``token_padding`` (B L, True on padding) and, of expressions with a box, ``boxes`` (B 4 float32: centre x,
        centre y, width, height as shares of the square).
    """
    texts = [item["text"] for item in items]
    tokens, token_padding = preparation.tokenizer.encode(texts, preparation.max_tokens)
    stacked = [key for key in ("image", "padding_mask", "boxes") if key in items[0]]
    return {
        **{key: torch.stack([item[key] for item in items]) for key in stacked},
        "affine": torch.from_numpy(np.stack([item["affine"] for item in items])),
        "size": [item["size"] for item in items],
        "text": texts,
        "tokens": tokens,
        "token_padding": token_padding,
    }
