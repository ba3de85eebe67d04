"""Folders of weights: ours by our names, and models of timm, which transformers loads as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
import torch
from timm.models import save_for_hf

from vision_train.checkpoints import read_weights, write_weights
from vision_train.files import write_json
from vision_train.run.export.codec import Codec, Ran, Runner, Subject
from vision_train.tasks.exported import Tensors

OURS, CONFIG = "weights.safetensors", "config.json"
OF_NETWORK = (
    *("input_size", "fixed_input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std"),
    *("num_classes", "pool_size", "first_conv", "classifier", "custom_load"),
)
"""The keys of timm's configuration that describe the network and how its images are prepared."""


def _write_ours(subject: Subject, folder: Path) -> None:
    write_weights(folder / OURS, subject.weights)


def _open_ours(subject: Subject, folder: Path) -> Runner:
    rebuilt = subject.rebuild(read_weights(folder / OURS).state)
    return lambda inputs: Ran(rebuilt.run(inputs), [])


def _write_timm(subject: Subject, folder: Path) -> None:
    model = subject.exported.timm
    assert model is not None, "Format.check_suits has refused it"
    network = timm.create_model(model.call.architecture, **model.call.args)
    network.load_state_dict(model.state)
    problem = {key: value for key, value in subject.exported.card.items() if key == "problem_type"}
    settings = {key: value for key, value in model.call.args.items() if key != "num_classes"}
    classes = subject.exported.card.get("classes")
    save_for_hf(
        network,
        str(folder),
        model_config={"pretrained_cfg": model.pixels, **({"label_names": classes} if classes else {}), **problem},
        model_args=settings,
        safe_serialization=True,
    )
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    # It stands above too, where timm reads it; transformers takes it from there and would give it twice.
    config["model_args"].pop("num_classes", None)
    # The rest, such as tag and license, is that of weights which others published under the network's name.
    config["pretrained_cfg"] = {
        key: config["pretrained_cfg"][key] for key in OF_NETWORK if key in config["pretrained_cfg"]
    }
    write_json(folder / CONFIG, config)


def _open_timm(subject: Subject, folder: Path) -> Runner:
    (output,) = subject.exported.outputs
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

    def run(inputs: Tensors) -> Ran:
        with torch.inference_mode():
            return Ran({output: network(*inputs.values())}, [])

    return run


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the progress bars of transformers off the terminal, where ours says what is done."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _open_transformers(subject: Subject, folder: Path) -> Runner:
    (output,) = subject.exported.outputs
    from transformers import AutoModel, AutoModelForImageClassification

    classifies = bool(subject.exported.card.get("classes"))
    loader = AutoModelForImageClassification if classifies else AutoModel
    with _without_bars():
        network = loader.from_pretrained(folder, local_files_only=True).eval()

    def run(inputs: Tensors) -> Ran:
        with torch.inference_mode():
            found = network(*inputs.values())
        return Ran({output: found.logits if classifies else found.pooler_output}, [])

    return run


_USE_OURS = """\
from safetensors.torch import load_file

weights = load_file("{name}/weights.safetensors")  # by name; in a recipe: model.checkpoint={name}{call}"""
_USE_TIMM = """\
import timm

model = timm.create_model("{repository}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
output = model(transform(image).unsqueeze(0))  # image: of PIL, in RGB"""
_USE_TRANSFORMERS = """\
from transformers import AutoImageProcessor, {auto}

processor = AutoImageProcessor.from_pretrained("{folder}")
model = {auto}.from_pretrained("{folder}").eval()
output = model(**processor(image))  # image: of PIL, in RGB"""

SAFETENSORS = Codec(_write_ours, _open_ours, use=_USE_OURS)
TIMM = Codec(_write_timm, _open_timm, library="timm", use=_USE_TIMM)
TRANSFORMERS = Codec(_write_timm, _open_transformers, library="transformers", use=_USE_TRANSFORMERS)
