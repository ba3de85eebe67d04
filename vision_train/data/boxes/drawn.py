"""The drawn scenes that come with the installation, as samples in memory."""

from __future__ import annotations

from vision_train.data.boxes.annotations import Annotated, BoxSample
from vision_train.data.toy.digit_scenes import digit_scenes
from vision_train.data.toy.scenes import Scene
from vision_train.data.toy.shapes import shapes


def drawn_scenes(source: str) -> tuple[Scene, ...]:
    """All scenes of a source."""
    return shapes() if source == "shapes" else digit_scenes()


def drawn_samples(source: str) -> list[BoxSample]:
    """All scenes of a source as samples; ids name the source."""
    return [
        BoxSample(
            f"{source}/{scene.name}",
            scene.pixels,
            Annotated(scene.boxes, scene.labels, (), scene.pixels.shape[1], scene.pixels.shape[0]),
            scene.split,
        )
        for scene in drawn_scenes(source)
    ]
