"""The call of ``timm.create_model`` that builds the same network as :func:`models.vit.build_model`."""

from __future__ import annotations

from typing import Any, NamedTuple

import timm

ANY_VIT = "vit_base_patch16_224"
"""The name in timm that builds a ``VisionTransformer`` with the defaults of that class."""


class TimmCall(NamedTuple):
    """A call of ``timm.create_model``."""

    architecture: str
    args: dict[str, Any]
    """Plain values."""

    def __str__(self) -> str:
        """The call as a line of Python."""
        args = "".join(f", {key}={value!r}" for key, value in self.args.items())
        return f"timm.create_model({self.architecture!r}{args})"


def timm_call(name: str, *, num_classes: int, image_size: tuple[int, int], **args: Any) -> TimmCall:
    """Say how timm builds a model, with parameters of the same names.

    Args:
        name: As for :func:`models.vit.build_model`.
        num_classes: Outputs of the classifier; 0 leaves it out.
        image_size: Height and width of the input in pixels.
        **args: As for :func:`models.vit.build_model`.

    Raises:
        ValueError: timm has no argument for one of them.
    """
    if "norm_eps" in args:
        raise ValueError("norm_eps is none of the values that timm's configuration holds")
    architecture = ANY_VIT if name == "vit" else name
    published = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    sized = name == "vit" or (published is not None and published.fixed_input_size)
    size: dict[str, Any] = {"img_size": tuple(image_size)} if sized else {}
    return TimmCall(architecture, {"num_classes": num_classes, **size, **args})
