"""What timm, transformers, open_clip and files of people's own say of weights, brought to the keys of a recipe.

Each function takes plain values and returns those of ``mean``, ``std``, ``interpolation``, ``crop_share``,
``image_size``, ``classes`` and ``architecture`` that they say. What stands there and cannot be read or followed is a
remark, never an error: files come from anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PIL import Image
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vision_train.checkpoints.values import channels, class_names, mapping, number, size, text, whole_number
from vision_train.recipe.preprocessing import WHOLE

CONVNEXT_WHOLE = 384
"""Side in pixels from which ConvNeXt's processor crops no more."""
CLASS_KEYS = {
    # Name -> output.
    "class_to_idx": True,
    "class_to_index": True,
    "label2id": True,
    "label_to_idx": True,
    # Output -> name.
    "idx_to_class": False,
    "index_to_class": False,
    "id2label": False,
    "idx_to_label": False,
    # A list, or a mapping either way.
    "classes": None,
    "class_names": None,
    "label_names": None,
    "CLASSES": None,
    "categories": None,
    "names": None,
}
"""Key under which people keep the classes -> whether a mapping there goes from names to outputs."""
SETTINGS = ("hyper_parameters", "datamodule_hyper_parameters", "hparams", "meta", "dataset_meta", "args", "config")
"""Where a file keeps its settings beside its tensors: Lightning's two, MMEngine's two, and people's own."""
DEEPEST = 3
"""Settings within settings."""


class Said(dict[str, Any]):
    """Values by key, with remarks on what they leave out."""

    def __init__(self, values: Mapping[str, Any] | None = None, remarks: Sequence[str] = ()) -> None:
        super().__init__(values or {})
        self.remarks = list(remarks)

    def set(self, key: str, name: str, stands: Any, read: Any) -> None:
        """Take what was read of a value, or remark that it could not be read.

        Args:
            key: The key here.
            name: The key there.
            stands: What stands there; None for nothing.
            read: What was understood of it; None for nothing.
        """
        self[key] = read
        if stands is not None and read is None:
            self.remarks.append(f"has {name}={_short(stands)}, which is not understood and not used")

    def set_channels(self, names: tuple[str, str], mean: Any, std: Any) -> None:
        """Take mean and deviation; those of bytes are brought to [0, 1]."""
        if found := channels(mean, std):
            self["mean"], self["std"] = found.mean, found.std
        elif mean is not None or std is not None:
            self.remarks.append(
                f"has {names[0]}={_short(mean)} and {names[1]}={_short(std)}, which are no mean and deviation of three "
                "channels and not used"
            )


def said_in_run(recipe: Mapping[str, Any] | None) -> Said:
    """A run of ours: its resolved recipe has the values that were really used."""
    data, augment = (mapping((recipe or {}).get(key)) for key in ("data", "augment"))
    image_size = size(data.get("image_size"))
    if not recipe or image_size is None:
        return Said()
    evaluation = mapping(augment.get("eval"))
    share = evaluation.get("crop_share")
    said = Said({"image_size": image_size, "architecture": text(mapping(recipe.get("model")).get("name"))})
    said.set_channels(("augment.mean", "augment.std"), augment.get("mean"), augment.get("std"))
    # Earlier versions resolved the whole image to null.
    said["crop_share"] = WHOLE if share in (None, WHOLE) else _share(share)
    _set_interpolation(said, evaluation.get("interpolation"))
    return said


def said_by_timm(content: Mapping[str, Any]) -> Said:
    """A ``config.json`` of timm, today's or the flat one of earlier versions, or a pretrained configuration itself."""
    config = {**content, **mapping(content.get("pretrained_cfg"))}
    said = Said({"architecture": text(content.get("architecture"))})
    said.set_channels(("mean", "std"), config.get("mean"), config.get("std"))
    sides = config.get("input_size")
    said.set("image_size", "input_size", sides, size(sides[1:] if isinstance(sides, list | tuple) else sides))
    names = next(filter(None, (content.get("label_names"), config.get("label_names"), config.get("labels"))), None)
    said.set("classes", "label_names", names, class_names(names))
    _set_interpolation(said, config.get("interpolation"))
    share, mode = config.get("crop_pct"), config.get("crop_mode") or "center"
    if share is not None:
        read = _share(share)
        if read is not None and mode == "center":
            said["crop_share"] = read
        elif read == 1 and mode == "squash":
            said["crop_share"] = WHOLE
        else:
            said.remarks.append(
                f"crops by {_short(share)} in the mode {_short(mode)}, which augment.eval.crop_share cannot say"
            )
    return said


def said_by_transformers(config: Mapping[str, Any]) -> Said:
    """A ``config.json`` of transformers."""
    vision = {**config, **mapping(config.get("vision_config"))}
    architectures = config.get("architectures")
    first = architectures[0] if isinstance(architectures, list | tuple) and architectures else None
    said = Said({"architecture": text(first) or text(config.get("model_type"))})
    said.set("image_size", "image_size", vision.get("image_size"), size(vision.get("image_size")))
    _set_classes(said, config)
    return said


def said_by_processor(content: Mapping[str, Any]) -> Said:
    """A ``preprocessor_config.json`` of transformers, or the part on images of a ``processor_config.json``."""
    config = mapping(content.get("image_processor")) or content
    said = Said()
    _set_scaled_channels(said, config)
    if config.get("do_flip_channel_order") is True:
        said.remarks.append(
            "has do_flip_channel_order: true; the weights know images with blue first, and here red comes first"
        )
    resample: Any = config.get("resample")
    if (number_of_mode := whole_number(resample)) is not None:
        known = {member.value: member.name.lower() for member in Image.Resampling}
        resample = known.get(number_of_mode, str(resample))
    _set_interpolation(said, resample)
    _set_processor_size(said, config)
    return said


def _set_scaled_channels(said: Said, config: Mapping[str, Any]) -> None:
    """Mean and deviation of a processor, which may scale pixels in another way before."""
    mean, std = config.get("image_mean"), config.get("image_std")
    if config.get("do_normalize") is False:
        mean, std = [0.0] * 3, [1.0] * 3
    said.set_channels(("image_mean", "image_std"), mean, std)
    if "mean" not in said:
        return
    found = channels(mean, std)
    factor = 1 if config.get("do_rescale") is False else config.get("rescale_factor")
    scaled = factor == 1 if found and found.in_bytes else _is_byte(factor)
    if config.get("rescale_offset") is True or not scaled:
        said.remarks.append(
            f"scales pixels in another way than to [0, 1] (do_rescale {_short(config.get('do_rescale', True))}, "
            f"rescale_factor {_short(config.get('rescale_factor', '1/255'))}, rescale_offset "
            f"{_short(config.get('rescale_offset', False))}), so that its mean and deviation do not apply"
        )
        del said["mean"], said["std"]


def _set_processor_size(said: Said, config: Mapping[str, Any]) -> None:
    """Side of a processor's images, and the share of them that its crop keeps."""
    resized, crop = config.get("size"), config.get("crop_size")
    crops = bool(config.get("do_center_crop", crop is not None)) and crop is not None
    name, stands = ("crop_size", crop) if crops else ("size", resized)
    said.set("image_size", name, stands, size(stands))
    target = said["image_size"]
    if target is None:
        return
    side = target if isinstance(target, int) else min(target)
    shortest = whole_number(mapping(resized).get("shortest_edge"))
    if shortest is None and crops:
        shortest = whole_number(resized) or whole_number(mapping(resized).get("height"))
        if "height" in mapping(resized):
            said.remarks.append(
                "resizes to a square before it crops; here the shorter side is resized and cropped alike"
            )
    share = config.get("crop_pct")
    if share is not None and not crops:  # ConvNeXt divides the side by it
        # From there on it resizes the whole image.
        said.set("crop_share", "crop_pct", share, WHOLE if side >= CONVNEXT_WHOLE else _share(share))
    elif shortest is None or shortest <= 0:
        said["crop_share"] = WHOLE
    else:
        said["crop_share"] = min(1.0, side / shortest)
        if side > shortest:
            said.remarks.append(f"pads images of {shortest} pixels to {side}; here they are enlarged")
        if not crops and "longest_edge" in mapping(resized):
            said.remarks.append("keeps the image's own proportions without a crop; here its square centre is taken")


def said_by_open_clip(content: Mapping[str, Any]) -> Said:
    """An ``open_clip_config.json``; what it leaves out has open_clip's defaults."""
    pixels = mapping(content.get("preprocess_cfg"))
    vision = mapping(mapping(content.get("model_cfg")).get("vision_cfg"))
    said = Said({"architecture": text(vision.get("timm_model_name"))})
    said.set_channels(("mean", "std"), pixels.get("mean", OPENAI_CLIP_MEAN), pixels.get("std", OPENAI_CLIP_STD))
    sides = pixels.get("size", vision.get("image_size"))
    said.set("image_size", "size", sides, size(sides))
    _set_interpolation(said, pixels.get("interpolation", "bicubic"))
    shares = {"shortest": 1.0, "squash": WHOLE}
    mode = pixels.get("resize_mode", "shortest")
    if text(mode) in shares:
        said["crop_share"] = shares[mode]
    else:
        said.remarks.append(f"resizes by {_short(mode)}, which augment.eval.crop_share cannot say")
    return said


def said_in_file(facts: Mapping[str, Any]) -> Said:
    """What a file of torch.save keeps beside its tensors, under the keys that people use."""
    said = said_by_timm(facts) if isinstance(facts.get("pretrained_cfg"), Mapping) else Said()
    for place in _settings(facts, 0):
        if said.get("mean") is None and channels(place.get("mean"), place.get("std")) is not None:
            said.set_channels(("mean", "std"), place["mean"], place["std"])
        if said.get("classes") is None:
            _set_classes(said, place)
    return said


def _settings(facts: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
    """What a file says at its top level, then its settings."""
    yield facts
    for key in SETTINGS if depth < DEEPEST else ():
        if inside := mapping(facts.get(key)):
            yield from _settings(inside, depth + 1)


def _set_classes(said: Said, place: Mapping[str, Any]) -> None:
    """Names of classes under the first key that has any; a list or mapping that gives no order is remarked on."""
    said.setdefault("classes", None)
    unread = []
    for key, to_index in CLASS_KEYS.items():
        stands = place.get(key)
        found = class_names(stands, to_index=to_index)
        if found and all(re.fullmatch(r"LABEL_\d+", name) for name in found):
            continue  # transformers' own stand-ins
        if found:
            said["classes"] = found
            return
        if stands and isinstance(stands, Mapping | list) and key != "names":
            unread.append(f"has {key}={_short(stands)}, which gives no order of classes and is not used")
    said.remarks += unread


def _short(value: Any) -> str:
    """A value as a message shows it."""
    shown = repr(value) if not isinstance(value, str) else f"`{value}`"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _share(value: Any) -> float | None:
    """A share above 0 and up to 1."""
    share = number(value)
    return share if share is not None and 0 < share <= 1 else None


def _is_byte(factor: Any) -> bool:
    """Whether a factor brings bytes to [0, 1]; one that is not said does."""
    return factor is None or (isinstance(factor, int | float) and abs(factor * 255 - 1) < 1e-3)


def _set_interpolation(said: Said, name: Any) -> None:
    if text(name) in ("bilinear", "bicubic"):
        said["interpolation"] = name
    elif name is not None and name != "":
        said.remarks.append(f"resamples by {_short(name)}, which is not among bilinear and bicubic")
