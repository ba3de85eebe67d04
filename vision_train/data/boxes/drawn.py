"""The drawn scenes that come with the installation, as samples in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vision_train.data.boxes.annotations import Annotated, BoxSample
from vision_train.data.toy.digit_scenes import digit_scenes
from vision_train.data.toy.scenes import Scene
from vision_train.data.toy.shapes import shapes
from vision_train.data.toy.thing_scenes import thing_scenes

DRAWN: Mapping[str, Callable[[], Sequence[Scene]]] = {
    "shapes": shapes,
    "digit_scenes": digit_scenes,
    "things": thing_scenes,
}
"""Source in a recipe -> what draws its scenes."""


def drawn_samples(source: str) -> list[BoxSample]:
    """All scenes of a source as samples; ids name the source."""
    return [
        BoxSample(
            f"{source}/{scene.name}",
            scene.pixels,
            Annotated(scene.boxes, scene.labels, (), scene.pixels.shape[1], scene.pixels.shape[0]),
            scene.split,
        )
        for scene in DRAWN[source]()
    ]
