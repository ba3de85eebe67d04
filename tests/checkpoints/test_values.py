"""Configuration files come from anywhere: every key may hold anything, and classes stand in many forms."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from vision_train.checkpoints.conventions import (
    Said,
    said_by_open_clip,
    said_by_processor,
    said_by_timm,
    said_by_transformers,
    said_in_file,
    said_in_run,
)

WRONG: list[Any] = [
    None,
    True,
    0,
    -3,
    224,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "0.9",
    [],
    ["a"],
    [1, 2, 3],
    [3, "a", None],
    [[1]],
    {},
    {"height": "a", "width": None},
    {"shortest_edge": [1]},
    {"shortest_edge": 224},
    {1: 2},
    {"a": float("nan")},
]
PROCESSOR = {
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "rescale_offset": False,
    "do_flip_channel_order": False,
    "resample": 3,
    "size": {"shortest_edge": 256},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "crop_pct": 0.9,
}
TIMM = {
    "architecture": "vit_tiny_patch16_224",
    "label_names": ["a", "b"],
    "labels": ["a", "b"],
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "input_size": [3, 224, 224],
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
}
OPEN_CLIP = {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 224, "interpolation": "bicubic", "resize_mode": "squash"}
IN_FILE = {"mean": [0.5] * 3, "std": [0.5] * 3, "classes": ["a"], "class_to_idx": {"a": 0}, "meta": {"CLASSES": ["a"]}}
RUN = {"image_size": 224, "mean": [0.5] * 3, "std": [0.5] * 3, "crop_share": 0.9, "interpolation": "bicubic"}


def of_run(values: Mapping[str, Any]) -> Said:
    augment = {"mean": values["mean"], "std": values["std"], "eval": values}
    return said_in_run({"data": values, "augment": augment, "model": {"name": values["interpolation"]}})


READERS: dict[str, tuple[Callable[[Mapping[str, Any]], Said], dict[str, Any]]] = {
    "timm": (said_by_timm, TIMM | {"pretrained_cfg": None}),
    "timm's pretrained_cfg": (lambda values: said_by_timm({"pretrained_cfg": values}), TIMM),
    "pretrained_cfg in a file": (lambda values: said_in_file({"pretrained_cfg": values}), TIMM),
    "transformers": (
        said_by_transformers,
        {"architectures": ["A"], "model_type": "vit", "id2label": {"0": "a"}, "image_size": 224, "vision_config": {}},
    ),
    "processor": (said_by_processor, PROCESSOR),
    "ConvNeXt's processor": (said_by_processor, PROCESSOR | {"crop_size": None, "do_center_crop": False}),
    "part of a processor": (lambda values: said_by_processor({"image_processor": values}), PROCESSOR),
    "open_clip": (lambda values: said_by_open_clip({"preprocess_cfg": values}), OPEN_CLIP),
    "open_clip's model": (
        lambda values: said_by_open_clip({"model_cfg": values, "preprocess_cfg": values["vision_cfg"]}),
        {"vision_cfg": {"image_size": 224}},
    ),
    "vision_cfg": (lambda values: said_by_open_clip({"model_cfg": {"vision_cfg": values}}), {"image_size": 224}),
    "file": (said_in_file, IN_FILE),
    "settings in a file": (lambda values: said_in_file({"hyper_parameters": {"args": values}}), IN_FILE),
    "run": (of_run, RUN),
}
TYPES: dict[str, Callable[[Any], bool]] = {
    "mean": lambda value: len(value) == 3 and all(isinstance(each, float) for each in value),
    "std": lambda value: len(value) == 3 and min(value) > 0,
    "image_size": lambda value: (value > 0 and type(value) is int) if not isinstance(value, tuple) else min(value) > 0,
    "crop_share": lambda value: value == "whole" or (type(value) is float and 0 < value <= 1),
    "interpolation": lambda value: value in ("bilinear", "bicubic"),
    "classes": lambda value: len(value) > 0 and all(isinstance(each, str) for each in value),
    "architecture": lambda value: isinstance(value, str),
}


@pytest.mark.parametrize("name", READERS)
def test_any_value_under_any_key_is_read_or_left_out(name: str) -> None:
    reader, right = READERS[name]
    assert any(value is not None for value in reader(right).values())
    for key in right:
        for wrong in WRONG:
            said = reader(right | {key: wrong})
            for read, value in said.items():
                assert value is None or TYPES[read](value), (key, wrong, read, value)


@pytest.mark.parametrize(
    ("reader", "right", "key", "wrong"),
    [
        (said_by_timm, TIMM, "crop_pct", "0.9"),
        (said_by_timm, TIMM, "input_size", "224"),
        (said_by_timm, TIMM, "mean", [0.5]),
        (said_by_processor, PROCESSOR, "crop_size", "224"),
        (said_by_processor, PROCESSOR, "image_std", [0.0] * 3),
        (said_by_processor, PROCESSOR, "rescale_offset", True),
        (said_by_processor, PROCESSOR, "do_flip_channel_order", True),
        (said_by_processor, PROCESSOR, "do_rescale", False),
        (said_by_processor, PROCESSOR, "size", {"shortest_edge": 200}),
        (said_by_processor, PROCESSOR | {"crop_size": None}, "size", {"shortest_edge": 800, "longest_edge": 1333}),
    ],
)
def test_what_cannot_be_followed_is_said(reader: Any, right: dict[str, Any], key: str, wrong: Any) -> None:
    assert not reader({**right, "crop_pct": right["crop_pct"] if reader is said_by_timm else None}).remarks
    assert reader({**right, "crop_pct": None, key: wrong}).remarks


def test_a_size_may_be_one_number() -> None:
    assert said_by_timm(TIMM | {"input_size": 192})["image_size"] == 192


def test_means_in_bytes_are_brought_to_one() -> None:
    in_bytes = {"image_mean": [127.5] * 3, "image_std": [51.0] * 3, "do_rescale": False}
    said = said_by_processor(PROCESSOR | in_bytes)
    assert (said["mean"], said["std"]) == ((0.5,) * 3, (0.2,) * 3)
    # Pixels in [0, 1] do not go with means in bytes.
    assert "mean" not in said_by_processor(PROCESSOR | in_bytes | {"do_rescale": True})
    assert said_in_file({"mean": [127.5] * 3, "std": [51.0] * 3})["mean"] == (0.5,) * 3


SHIFTED = {"dog": 0, "fox": 1, "cat": 2}


@pytest.mark.parametrize(
    "facts",
    [
        {key: form}
        for form in (SHIFTED, {0: "dog", 1: "fox", 2: "cat"}, {"2": "cat", "0": "dog", "1": "fox"}, [*SHIFTED])
        for key in ("classes", "class_names", "label2id", "id2label", "class_to_idx", "idx_to_class")
    ]
    + [
        {"hyper_parameters": {"class_names": [*SHIFTED]}},
        {"datamodule_hyper_parameters": {"class_to_idx": SHIFTED}},
        {"args": {"classes": [*SHIFTED]}},
        {"config": {"label2id": SHIFTED}},
        {"meta": {"CLASSES": [*SHIFTED]}},
        {"meta": {"dataset_meta": {"classes": [*SHIFTED]}}},
        {"hyper_parameters": {"config": {"names": {0: "dog", 1: "fox", 2: "cat"}}}},
    ],
    ids=str,
)
def test_the_order_of_classes_is_read_wherever_it_stands(facts: dict[str, Any]) -> None:
    assert said_in_file(facts)["classes"] == ["dog", "fox", "cat"]


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        ({"classes": [3, 1, 2]}, ["3", "1", "2"]),
        ({"class_to_idx": {"0": 1, "1": 0}}, ["1", "0"]),
        ({"class_to_idx": {7: 1, 5: 0}}, ["5", "7"]),
        ({"idx_to_class": {0: 7, 1: 5}}, ["7", "5"]),
        ({"classes": {"0": 1, "1": 2, "2": 0}}, ["2", "0", "1"]),
    ],
    ids=str,
)
def test_classes_may_be_named_by_numbers(facts: dict[str, Any], names: list[str]) -> None:
    assert said_in_file(facts)["classes"] == names


@pytest.mark.parametrize(
    "classes", [{0: 1, 1: 0}, {"cat": 1, "dog": 2}, ["cat", "cat"], {"cat": 0, "dog": 0}, ["cat", None]], ids=str
)
def test_classes_without_an_order_are_named(classes: Any) -> None:
    said = said_in_file({"classes": classes})
    assert said["classes"] is None
    assert "classes=" in said.remarks[0]
    assert not said_in_file({"classes": 10, "names": ["a", "a"]}).remarks
