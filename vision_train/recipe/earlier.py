"""Resolved recipes of runs that an earlier version trained, brought to today's keys."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from vision_train.recipe.layers import Layer
from vision_train.tasks import kind_of_data, task_packages

ONE_SECTION = {
    *("source", "root", "labels", "probe", "splits", "label_map", "variant", "feature_width", "encoder"),
    *("labels_per_class", "image_size", "batch_size", "workers", "on_bad_image", "on_bad_bag"),
}
"""The keys of `data` when one section served all kinds of data."""


def upgraded(layer: Layer) -> Layer:
    """Rename and drop keys of a resolved recipe that has the `data` section of an earlier version.

    Only a resolved recipe holds all of those keys; a recipe that someone wrote is returned as it is, so that its
    mistakes are named. The keys of other kinds of data hold nothing there: they were refused when the run started.
    """
    data, task = layer.values.get("data"), layer.values.get("task")
    if not isinstance(data, dict) or not data.keys() >= ONE_SECTION or task not in task_packages():
        return layer
    known = {each.name for each in fields(kind_of_data(task).section)}
    bad = "on_bad_bag" if data["source"] in ("bags", "digit_bags") else "on_bad_image"
    kept: dict[str, Any] = {key: value for key, value in data.items() if key in known}
    origins = {
        path: origin
        for path, origin in layer.origins.items()
        if path[0] != "data" or len(path) == 1 or path[1] in known
    }
    origins["data", "on_bad"] = layer.origin_of(("data", bad))
    return replace(layer, values={**layer.values, "data": {**kept, "on_bad": data[bad]}}, origins=origins)
