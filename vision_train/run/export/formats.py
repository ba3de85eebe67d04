"""All formats, by the names that ``--format`` takes."""

from __future__ import annotations

from vision_train.run.export.format import Format
from vision_train.run.export.programs import ONNX, PROGRAM
from vision_train.run.export.weights import SAFETENSORS, TIMM, TRANSFORMERS

FORMATS: dict[str, Format] = {
    "onnx": ONNX,
    "torch-export": PROGRAM,
    "safetensors": SAFETENSORS,
    "timm": TIMM,
    "hf": TRANSFORMERS,
}
