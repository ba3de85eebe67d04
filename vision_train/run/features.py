"""What a network's features say of the assumptions under which its weights were loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from augment.geometry import View
from augment.pipeline import eval_pipeline
from models.vit import adapt_published, build_model
from vision_train.artefacts import Table
from vision_train.checkpoints import Weights, match_weights
from vision_train.checkpoints.match import Adapt
from vision_train.data.decode import decode
from vision_train.errors import BadSampleError, UserError
from vision_train.recipe.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Channels, Preprocessing

HALF = (0.5, 0.5, 0.5)
PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Variant:
    """A network on its images, with one assumption changed."""

    assumption: str
    features: Tensor
    """N D."""


def compare_features(
    weights: Weights, model: str, image_size: int, pixels: Preprocessing, images: Sequence[Path]
) -> Table:
    """Features of a few images as the weights are understood, and with each assumption left out.

    The similarity of an image's features to those under the assumption is near 1 where the assumption matters little.
    The similarity of different images is near 1 where a network tells nothing apart, as one does that was filled
    wrongly, or with nothing.

    Args:
        weights: What a file holds.
        model: The timm model that it fills.
        image_size: Side of the images.
        pixels: How they are prepared.
        images: At least one image.

    Raises:
        UserError: An image cannot be read, or the weights do not suit the model.
    """
    views = [_view(path) for path in images]

    def features(network: nn.Module, mean: Channels, std: Channels) -> Tensor:
        transform = eval_pipeline(image_size, mean, std, interpolation=pixels.interpolation)
        with torch.inference_mode():
            return network(torch.stack([transform(view).image for view in views])).float()

    adapted, raw = _network(weights, model, image_size, adapt_published), _network(weights, model, image_size, None)
    fresh = _network(None, model, image_size, None)
    said = features(adapted, pixels.mean, pixels.std)
    others = {
        "ImageNet's mean and std": (IMAGENET_MEAN, IMAGENET_STD),
        "mean and std 0.5": (HALF, HALF),
        "pixels in [0, 1]": PLAIN,
    }
    variants = [Variant("as loaded", said)]
    variants += [
        Variant(f"normalisation: {name}", features(adapted, *values))
        for name, values in others.items()
        if values != (pixels.mean, pixels.std)
    ]
    variants.append(Variant("layout: names and shapes as in the file", features(raw, pixels.mean, pixels.std)))
    variants.append(Variant("no weights at all", features(fresh, pixels.mean, pixels.std)))
    return _table(said, variants, images)


def _view(path: Path) -> View:
    try:
        return View.whole(decode(str(path)))
    except BadSampleError as error:
        raise UserError(f"--features {path}: {error}; name images that can be read") from error


def _network(weights: Weights | None, model: str, image_size: int, adapt: Adapt | None) -> nn.Module:
    torch.manual_seed(0)  # what the weights do not fill is alike in all variants
    network = build_model(model, num_classes=0, image_size=image_size)
    if weights is not None:
        _, state = match_weights(network, weights, adapt=adapt)
        network.load_state_dict(state, strict=False)
    return network.eval()


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
