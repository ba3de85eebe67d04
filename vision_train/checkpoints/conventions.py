"""What timm, transformers, open_clip and files of people's own say of weights, brought to the keys of a recipe.

Each function takes plain values and returns those of ``mean``, ``std``, ``interpolation``, ``crop_share``,
``image_size``, ``classes`` and ``architecture`` that they say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vision_train.recipe.preprocessing import WHOLE

CONVNEXT_WHOLE = 384
"""Side in pixels from which ConvNeXt's processor crops no more."""


class Said(dict[str, Any]):
    """Values by key, with remarks on what they leave out."""

    def __init__(self, values: Mapping[str, Any] | None = None, remarks: Sequence[str] = ()) -> None:
        super().__init__(values or {})
        self.remarks = list(remarks)


def said_in_run(recipe: Mapping[str, Any] | None) -> Said:
    """A run of ours: its resolved recipe has the values that were really used."""
    data, augment = (_mapping((recipe or {}).get(key)) for key in ("data", "augment"))
    if not recipe or data.get("image_size") is None:
        return Said()
    evaluation = _mapping(augment.get("eval"))
    share = evaluation.get("crop_share")
    return Said(
        {
            **_channels(augment.get("mean"), augment.get("std")),
            # Earlier versions resolved the whole image to null.
            "crop_share": WHOLE if share is None else share,
            "interpolation": evaluation.get("interpolation"),
            "image_size": _size(data["image_size"]),
            "architecture": _mapping(recipe.get("model")).get("name"),
        }
    )


def said_by_timm(content: Mapping[str, Any]) -> Said:
    """A ``config.json`` of timm, today's or the flat one of earlier versions, or a pretrained configuration itself."""
    config = {**content, **_mapping(content.get("pretrained_cfg"))}
    said = Said(
        {
            **_channels(config.get("mean"), config.get("std")),
            "image_size": _size(list(config.get("input_size") or [])[1:]),
            "architecture": content.get("architecture"),
            "classes": _names(content.get("label_names") or config.get("label_names") or config.get("labels")),
        }
    )
    _set_interpolation(said, config.get("interpolation"))
    share, mode = config.get("crop_pct"), config.get("crop_mode") or "center"
    if share is not None:
        if mode == "center" and 0 < share <= 1:
            said["crop_share"] = float(share)
        elif mode == "squash" and share == 1:
            said["crop_share"] = WHOLE
        else:
            said.remarks.append(f"crops by {share:g} in the mode {mode}, which augment.eval.crop_share cannot say")
    return said


def said_by_transformers(config: Mapping[str, Any]) -> Said:
    """A ``config.json`` of transformers."""
    vision = {**config, **_mapping(config.get("vision_config"))}
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else config.get("model_type")
    classes = _names(config.get("id2label"))
    if classes and all(re.fullmatch(r"LABEL_\d+", name) for name in classes):
        classes = None  # transformers' own stand-ins
    return Said({"architecture": named, "classes": classes, "image_size": _size(vision.get("image_size"))})


def said_by_processor(content: Mapping[str, Any]) -> Said:
    """A ``preprocessor_config.json`` of transformers, or the part on images of a ``processor_config.json``."""
    config = _mapping(content.get("image_processor")) or content
    said = Said(_channels(config.get("image_mean"), config.get("image_std")))
    if config.get("do_normalize") is False:
        said |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if "mean" in said and (config.get("do_rescale") is False or not _is_byte(config.get("rescale_factor"))):
        said.remarks.append("scales pixels in another way than to [0, 1], so that its mean and deviation do not apply")
        del said["mean"], said["std"]
    if isinstance(resample := config.get("resample"), int):
        known = {member.value: member.name.lower() for member in Image.Resampling}
        _set_interpolation(said, known.get(resample, str(resample)))
    size, crop = config.get("size"), config.get("crop_size")
    crops = config.get("do_center_crop", crop is not None) and crop is not None
    target = _size(crop) if crops else _size(size)
    said["image_size"] = target
    shortest = _mapping(size).get("shortest_edge")
    if shortest is None and crops:
        shortest = size if isinstance(size, int) else _mapping(size).get("height")
        if "height" in _mapping(size):
            said.remarks.append(
                "resizes to a square before it crops; here the shorter side is resized and cropped alike"
            )
    share = config.get("crop_pct")
    if isinstance(share, int | float) and not crops:  # ConvNeXt divides the side by it
        # From there on it resizes the whole image.
        said["crop_share"] = float(share) if shortest and shortest < CONVNEXT_WHOLE else WHOLE
    elif shortest and target is not None:
        side = target if isinstance(target, int) else min(target)
        said["crop_share"] = min(1.0, side / shortest)
    elif target is not None:
        said["crop_share"] = WHOLE
    return said


def said_by_open_clip(content: Mapping[str, Any]) -> Said:
    """An ``open_clip_config.json``; what it leaves out has open_clip's defaults."""
    pixels = _mapping(content.get("preprocess_cfg"))
    vision = _mapping(_mapping(content.get("model_cfg")).get("vision_cfg"))
    said = Said(
        {
            **_channels(pixels.get("mean", OPENAI_CLIP_MEAN), pixels.get("std", OPENAI_CLIP_STD)),
            "image_size": _size(pixels.get("size", vision.get("image_size"))),
            "architecture": vision.get("timm_model_name"),
        }
    )
    _set_interpolation(said, pixels.get("interpolation", "bicubic"))
    shares = {"shortest": 1.0, "squash": WHOLE}
    mode = pixels.get("resize_mode", "shortest")
    said["crop_share"] = shares.get(mode)
    if mode not in shares:
        said.remarks.append(f"resizes by `{mode}`, which augment.eval.crop_share cannot say")
    return said


def said_in_file(facts: Mapping[str, Any]) -> Said:
    """What a file of torch.save keeps beside its tensors, under the keys that people use."""
    said = said_by_timm(facts) if isinstance(facts.get("pretrained_cfg"), Mapping) else Said()
    said |= {key: value for key, value in _channels(facts.get("mean"), facts.get("std")).items() if key not in said}
    by_name = facts.get("class_to_idx")
    lists = ("classes", "class_names", "label_names", "idx_to_class", "id2label", "idx_to_label", "names")
    candidates = [_by_index(by_name), *(facts.get(key) for key in lists), _mapping(facts.get("meta")).get("CLASSES")]
    if found := next(filter(None, map(_names, candidates)), None):
        said["classes"] = found
    return said


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _channels(mean: Any, std: Any) -> dict[str, tuple[float, ...]]:
    """Mean and deviation of three channels in [0, 1]; those of other channels or of bytes say nothing here."""
    found = {}
    for key, values in (("mean", mean), ("std", std)):
        if not isinstance(values, list | tuple) or len(values) != 3:
            return {}
        if not all(isinstance(value, int | float) for value in values):
            return {}
        found[key] = tuple(float(value) for value in values)
    return found if min(found["std"]) > 0 and max(found["mean"]) <= 1 else {}


def _is_byte(factor: Any) -> bool:
    """Whether a factor brings bytes to [0, 1]; one that is not said does."""
    return factor is None or (isinstance(factor, int | float) and abs(factor * 255 - 1) < 1e-3)


def _set_interpolation(said: Said, name: Any) -> None:
    if name in ("bilinear", "bicubic"):
        said["interpolation"] = name
    elif isinstance(name, str) and name:
        said.remarks.append(f"resamples by `{name}`, which is not among bilinear and bicubic")


def _size(value: Any) -> int | tuple[int, int] | None:
    """Side of a square, or height and width."""
    if isinstance(value, Mapping):
        sides = [value.get("height"), value.get("width")] if "height" in value else [value.get("shortest_edge")] * 2
    elif isinstance(value, list | tuple):
        sides = [*value]
    else:
        sides = [value, value]
    whole = [side for side in sides if isinstance(side, int) and side > 0]
    if len(sides) != 2 or len(whole) != 2:
        return None
    height, width = whole
    return height if height == width else (height, width)


def _by_index(indices: Any) -> dict[int, str] | None:
    if not isinstance(indices, Mapping):
        return None
    return {index: name for name, index in indices.items() if isinstance(index, int)}


def _names(value: Any) -> list[str] | None:
    """Names of classes in the order of the outputs, from a list or from a mapping of numbers to names."""
    if isinstance(value, Mapping):
        try:
            numbered = {int(index): name for index, name in value.items()}
        except (TypeError, ValueError):
            return None
        if sorted(numbered) != list(range(len(numbered))):
            return None
        value = [numbered[index] for index in range(len(numbered))]
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        return None
    return [*value] if len(set(value)) == len(value) else None
