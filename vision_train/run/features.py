"""What a network's features say of the assumptions under which its weights were loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from augment.geometry import View, height_and_width
from augment.pipeline import eval_pipeline
from models.vit import adapt_published
from vision_train.artefacts import Table
from vision_train.checkpoints import LoadReport, Weights, match_weights
from vision_train.checkpoints.match import Adapt
from vision_train.data.decode import decode
from vision_train.data.sample import Pixels
from vision_train.errors import BadSampleError, UserError
from vision_train.recipe.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, resized_size

HALF = (0.5, 0.5, 0.5)
NORMALISATIONS = {
    "ImageNet's mean and std": (IMAGENET_MEAN, IMAGENET_STD),
    "mean and std 0.5": (HALF, HALF),
    "pixels in [0, 1]": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
CLASSIFIERS = ("head", "head_dist", "head.fc", "fc", "classifier")
"""Names of classifiers, which networks that give features lack."""
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Variant:
    """A network on its images, with one assumption changed."""

    assumption: str
    features: Tensor
    """N D."""


@dataclass(frozen=True)
class Compared:
    """Features under each assumption, and why they may mean nothing."""

    table: Table
    problems: list[str]
    """Why a recipe could not start from the weights, each with what to do; none where it could."""


def compare_features(
    weights: Weights, build: Build, size: int | tuple[int, int], pixels: Preprocessing, images: Sequence[Path]
) -> Compared:
    """Features of a few images as the weights are understood, and with each assumption left out.

    The similarity of an image's features to those under the assumption is near 1 where the assumption matters little.
    The similarity of different images is near 1 where a network tells nothing apart, as one does that was filled
    wrongly, or with nothing.

    Args:
        weights: What a file holds.
        build: Builds the network that it fills, without a classifier.
        size: Side of the images, or height and width.
        pixels: How they are prepared.
        images: At least one image.

    Raises:
        UserError: An image cannot be read, or the weights do not suit the model.
    """
    views = [_view(path) for path in images]
    (adapted, report), (raw, _) = (_filled(build, weights, adapt) for adapt in (adapt_published, None))
    said = _features(adapted, views, size, pixels)
    variants = [Variant("as loaded", said)]
    for name, (mean, std) in NORMALISATIONS.items():
        if (mean, std) != (pixels.mean, pixels.std):
            other = _features(adapted, views, size, replace(pixels, mean=mean, std=std))
            variants.append(Variant(f"normalisation: {name}", other))
    as_in_file = _features(raw, views, size, pixels)
    variants.append(Variant("layout: names and shapes as in the file", as_in_file))
    variants.append(Variant("no weights at all", _features(_fresh(build), views, size, pixels)))
    return Compared(_table(said, variants, images), report.problems())


def _features(
    network: nn.Module, views: Sequence[View[Pixels]], size: int | tuple[int, int], pixels: Preprocessing
) -> Tensor:
    resize = resized_size(height_and_width(size), pixels.crop_share)
    transform = eval_pipeline(size, pixels.mean, pixels.std, resize=resize, interpolation=pixels.interpolation)
    with torch.inference_mode():
        return network(torch.stack([transform(view).image for view in views])).float()


def _view(path: Path) -> View[Pixels]:
    try:
        return View.whole(decode(str(path)))
    except BadSampleError as error:
        raise UserError(f"--features {path}: {error}; name images that can be read") from error


def _fresh(build: Build) -> nn.Module:
    torch.manual_seed(0)  # what the weights do not fill is alike in all variants
    return build().eval()


def _filled(build: Build, weights: Weights, adapt: Adapt | None) -> tuple[nn.Module, LoadReport]:
    network = _fresh(build)
    report, state = match_weights(network, weights, adapt=adapt, heads=CLASSIFIERS)
    network.load_state_dict(state, strict=False)
    return network, report


def _table(said: Tensor, variants: Sequence[Variant], images: Sequence[Path]) -> Table:
    rows = []
    for variant in variants:
        similar = functional.cosine_similarity(said, variant.features, dim=1)
        alike = functional.cosine_similarity(variant.features[:, None], variant.features[None], dim=2)
        pairs = alike[~torch.eye(len(alike), dtype=torch.bool)]
        rows.append(
            [
                variant.assumption,
                *(f"{value:.3f}" for value in similar.tolist()),
                f"{pairs.mean():.3f}" if len(pairs) else "one image",
                f"{variant.features.norm(dim=1).mean():.3g}",
            ]
        )
    columns = ["assumption", *(path.name for path in images), "images alike", "length"]
    note = (
        "Cosine similarity of each image's features to those of the first line; mean similarity of different images; "
        "mean length of the features. A line that equals the first one makes no difference; where different images are "
        "as alike as without weights, the match is wrong."
    )
    return Table("features", "Features under each assumption", columns, rows, note)
