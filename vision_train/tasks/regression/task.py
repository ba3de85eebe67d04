"""Predicting numbers from images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from models.timm_attention import AttentionReceipt
from models.vit import adapt_published, head_names, pooling_words, scale_outputs
from vision_train.artefacts import Artefact, ImageGrid
from vision_train.errors import UserError
from vision_train.previews import LabelPanel, Pixels, Preview, PreviewRow
from vision_train.recipe.recipe import Recipe
from vision_train.tasks.base import Batch, Task
from vision_train.tasks.chance import LEARN_MORE
from vision_train.tasks.exported import Exported
from vision_train.tasks.gallery import Gallery
from vision_train.tasks.image_network import build_image_network, installed_attention
from vision_train.tasks.image_program import image_program, timm_call_of
from vision_train.tasks.predicted import Predicted
from vision_train.tasks.regression import scores as sheet
from vision_train.tasks.scores import Scores, ScoreTable
from vision_train.wording import count_of

MEAN, DEVIATION = "target_mean", "target_deviation"
"""Under which names the calibration of a network keeps what its outputs are standardised by."""
KEPT, LONGEST_SIDE = 24, 224
"""Pictures of the worst images, and their longer side in pixels."""
LOSSES: dict[str, Callable[..., Tensor]] = {"mse": functional.mse_loss, "smooth_l1": functional.smooth_l1_loss}


def build(recipe: Recipe, classes: Sequence[str]) -> RegressionTask:
    """Build the network that a recipe names and the task that trains it.

    Args:
        recipe: A checked recipe whose task is ``regression``.
        classes: D names of the numbers, in the order of the outputs.

    Raises:
        UserError: The model does not exist, refuses its arguments or does not take images of this size; its attention
            cannot be computed as asked.
    """
    network = build_image_network(recipe, len(classes))
    return RegressionTask(recipe, network, classes, installed_attention(network, recipe))


class RegressionTask(Task):
    """Trains a network that maps images (B C H W) to D numbers, standardised by those that it learns from.

    Mean and deviation of the training numbers are known when training begins, and stay with the weights as their
    calibration, also where a run is resumed with other samples.

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it. Its outputs have a mean of 0 and a deviation of 1.
        classes: D names of the numbers, in the order of the outputs.
        attention: What computes the network's attention.
    """

    metrics = sheet.METRICS

    def __init__(self, recipe: Recipe, network: nn.Module, classes: Sequence[str], attention: AttentionReceipt) -> None:
        super().__init__(recipe, network, classes, attention)
        self.heads = tuple(head_names(network))
        self.named_by, self._not_timm = timm_call_of(recipe, len(classes))
        self._worst: Gallery[Worst] = Gallery(KEPT)

    def adapt_published(self, state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """Translate published weights of a vision transformer or Swin."""
        return adapt_published(state, network)

    def encoder(self) -> tuple[Callable[[Tensor], Tensor], str]:
        """The network without its last layer."""
        cast(Any, self.network).reset_classifier(0)
        return self.network, pooling_words(self.network)

    def exported(self, size: tuple[int, int] | None) -> Exported:
        """Normalised images -> numbers in the units of the data, which the last layer gives by itself.

        Raises:
            UserError: The last layer cannot.
        """
        network = self.delivered()
        return image_program(
            self.recipe,
            network,
            lambda network, image: network(image),
            size,
            output=("numbers", "batch x numbers, float32, in the units of the data, in the order of `classes`"),
            card={"classes": self.classes, "problem_type": "regression"},
            timm=(self.named_by, self._not_timm),
            state=network.state_dict(),
            pipeline=None,
        )

    def delivered(self) -> nn.Module:
        """A copy of the network whose last layer gives numbers in the units of the data.

        Raises:
            UserError: The last layer cannot, or what the network gives is not what its last layer gives.
        """
        network = copy.deepcopy(self.network).eval()
        mean, deviation = (each.to(self.device) for each in self._standard())
        random = torch.Generator().manual_seed(0)
        image = torch.rand(2, 3, *self.recipe.data.height_and_width, generator=random).to(self.device)
        with torch.no_grad():
            expected = self._in_units(network(image))
        try:
            scale_outputs(network, deviation, mean)
        except ValueError as error:
            raise UserError(f"model.name={self.recipe.model.name}: {error}; name another model") from error
        with torch.no_grad():
            found = network(image)
        if not torch.allclose((found - mean) / deviation, (expected - mean) / deviation, rtol=1e-3, atol=1e-3):
            raise UserError(
                f"model.name={self.recipe.model.name}: its outputs are not those of its last layer alone, which is to "
                "give them units; name another model"
            )
        return network

    def on_fit_start(self) -> None:
        """Find what the numbers to learn from are standardised by; weights of a checkpoint keep what they learnt by."""
        super().on_fit_start()
        if self.calibration:
            return
        samples = cast(Any, self.trainer).datamodule.samples("train")
        numbers = torch.tensor([sample.truth for sample in samples], dtype=torch.float64)
        deviation = numbers.std(dim=0, correction=0)
        # One that never varies is learnt as it is.
        deviation = torch.where(deviation > 0, deviation, 1.0)
        self.calibration = {MEAN: numbers.mean(dim=0).tolist(), DEVIATION: deviation.tolist()}

    def calibrate(self, scores: Scores) -> dict[str, Any]:
        """What the outputs of these weights are standardised by."""
        return self.calibration

    def _standard(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the numbers that were learnt from, D each; 0 and 1 of a network that is not trained."""
        mean = self.calibration.get(MEAN, [0.0] * len(self.classes))
        deviation = self.calibration.get(DEVIATION, [1.0] * len(self.classes))
        return torch.tensor(mean), torch.tensor(deviation)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        return self._losses(self.network(batch["image"]).float(), batch["target"]).mean()

    def _losses(self, output: Tensor, targets: Tensor) -> Tensor:
        """Losses of standardised numbers, B D."""
        mean, deviation = (each.to(output) for each in self._standard())
        return LOSSES[self.recipe.method.loss](output, (targets - mean) / deviation, reduction="none")

    def new_scores(self) -> ScoreTable:
        """An empty table for the numbers of each image."""
        return ScoreTable(sheet.fields(len(self.classes)))

    def score(self, batch: Batch, loader: int = 0) -> Tensor:
        """Score a batch; returns its numbers."""
        output = self.network(batch["image"]).detach().float()
        loss = self._losses(output, batch["target"]).mean(dim=1, keepdim=True)
        columns = [loss, batch["target"], self._in_units(output)]
        rows = torch.cat([column.double() for column in columns], dim=1)
        self.scores.add(batch["id"], rows, batch.get("group"))
        return rows

    def _in_units(self, output: Tensor) -> Tensor:
        mean, deviation = (each.to(output) for each in self._standard())
        return output * deviation + mean

    def measure(self, scores: Scores) -> dict[str, float]:
        """Loss, errors and correlations."""
        return sheet.metrics(scores)

    def begin_gallery(self) -> None:
        """Begin to keep the worst images."""
        self._worst = Gallery(KEPT)

    def consider(self, batch: Batch, output: Tensor) -> None:
        """Keep the images with the highest loss."""
        rows, count = output.cpu(), len(self.classes)
        for place, name in enumerate(batch["id"]):
            loss = rows[place, 0].item()
            if self._worst.wants(name, -loss):
                picture = Image.fromarray(self.pixels_of(batch["image"][place]))
                picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
                true, guess = rows[place, 1 : 1 + count].tolist(), rows[place, 1 + count :].tolist()
                self._worst.add(name, -loss, Worst(np.asarray(picture), self._compared(true, guess)))

    def _compared(self, true: Sequence[float], guess: Sequence[float]) -> str:
        pairs = zip(self.classes, true, guess, strict=True)
        return "; ".join(f"{name} {measured:.4g}, predicted {said:.4g}" for name, measured, said in pairs)

    def conclude(self, scores: Scores, split: str, measured: Mapping[str, float]) -> list[Artefact]:
        """Tables, predicted against measured, the worst images, and a warning where guessing would do as well."""
        self.guesses = sheet.is_guessing(scores, measured)
        self.warnings = []
        if self.guesses:
            images = count_of(len(scores.ids), self.recipe.kind.noun)
            self.warnings.append(
                f"predictions on {split} rank {images} no better than guessing could (Spearman's rank correlation "
                f"{measured[sheet.SPEARMAN.name]:.2f}). {LEARN_MORE}; or put more images into the split"
            )
        worst = self._worst.gather()
        grid = ImageGrid(
            f"{split}_worst",
            f"Worst images of {split}",
            images=[each.picture for each in worst.values()],
            captions=[f"{each.caption}\n{name}" for name, each in worst.items()],
            note="Images with the highest loss: what was measured, and what is predicted.",
        )
        return [*sheet.artefacts(scores, self.classes, split, measured, self.warnings), grid]

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Numbers in the units of the data (B D) in float32."""
        return self._in_units(self.network(batch["image"]).float())

    def predicted(self, batch: Batch, output: Tensor) -> list[Predicted]:
        """The numbers of each image."""
        said = []
        for name, numbers in zip(batch["id"], output.tolist(), strict=True):
            row = dict(zip(self.classes, numbers, strict=True))
            sentence = self._in_words(numbers)
            said.append(Predicted(name, row, Stamp(sentence), sentence=sentence))
        return said

    def _in_words(self, numbers: Sequence[float]) -> str:
        return ", ".join(f"{name} {number:.4g}" for name, number in zip(self.classes, numbers, strict=True))

    def preview(self, batches: Iterator[Batch], count: int) -> Preview:
        """Augmented training images with their numbers."""
        rows: list[PreviewRow] = []
        while len(rows) < count:
            batch = next(batches)
            panels = [LabelPanel("measured", self._in_words(numbers)) for numbers in batch["target"].tolist()]
            rows += [replace(row, panel=panel) for row, panel in zip(self.augmented_rows(batch), panels, strict=True)]
        return Preview("numbers stay as they are, whatever is done to the image", rows[:count])


@dataclass(frozen=True)
class Worst:
    """An image that is far off."""

    picture: Pixels
    caption: str


class Stamp:
    """Writes numbers below an image.

    Args:
        text: One line.
    """

    HEIGHT, LEAST_WIDTH = 24, 160

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, pixels: Pixels) -> Pixels:
        """H W 3, uint8 -> the same with the text below it."""
        picture = Image.fromarray(pixels)
        if (factor := self.LEAST_WIDTH // picture.width) > 1:
            picture = picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)
        canvas = Image.new("RGB", (max(picture.width, self.LEAST_WIDTH), picture.height + self.HEIGHT), "white")
        canvas.paste(picture, (0, 0))
        ImageDraw.Draw(canvas).text((6, picture.height + 6), self.text, fill="black")
        return np.asarray(canvas)
