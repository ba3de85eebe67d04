"""The drawn scenes that come with the installation, as samples in memory."""

from __future__ import annotations

from vision_train.data.phrases.annotations import PhraseSample, Referred
from vision_train.data.toy.referring import referring


def drawn_samples() -> list[PhraseSample]:
    """All expressions of the scenes; ids name the source, as those of a written folder name the file."""
    samples = []
    for described in referring():
        scene, image = described.scene, f"referring/{described.scene.name}"
        height, width = scene.pixels.shape[:2]
        for expression in described.expressions:
            truth = Referred(
                expression.text, scene.boxes[expression.thing], width, height, scene.labels[expression.thing]
            )
            name = f"{image}#{expression.number}"
            split, letters = described.part
            samples.append(PhraseSample(name, scene.pixels, truth, split, image, expression.text, letters))
    return samples
