"""All formats, by the names that ``--format`` takes."""

from __future__ import annotations

from vision_train.run.export.format import Format

_PROGRAMS, _WEIGHTS = "vision_train.run.export.programs", "vision_train.run.export.weights"

FORMATS: dict[str, Format] = {
    "onnx": Format(".onnx", ("onnx", "onnxruntime", "onnxscript"), f"{_PROGRAMS}:ONNX", is_program=True),
    "torch-export": Format(".pt2", (), f"{_PROGRAMS}:PROGRAM", is_program=True),
    "safetensors": Format("", (), f"{_WEIGHTS}:SAFETENSORS"),
    "timm": Format("", (), f"{_WEIGHTS}:TIMM", is_timm=True),
    "hf": Format("", ("transformers",), f"{_WEIGHTS}:TRANSFORMERS", is_timm=True),
}
