"""Formats of exported programs: how one is written, and how it is run again to be compared."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from vision_train.errors import UserError
from vision_train.tasks.exported import Exported, Tensors

Runner = Callable[[Tensors], Tensors]
OPSET = 20
"""Of ONNX; the first with GridSample for any number of dimensions is 20, and 16 has that of images."""


@dataclass(frozen=True)
class Format:
    """A format of files that hold a whole program."""

    suffix: str
    packages: tuple[str, ...]
    """Of the extra `export`, without which it cannot be written and checked."""
    write: Callable[[Exported, Path], None]
    open: Callable[[Exported, Path], Runner]
    """A written file as a function of inputs by name."""

    def check_installed(self, name: str) -> None:
        """Refuse a format whose packages are not there.

        Raises:
            UserError: One is not installed.
        """
        if missing := [package for package in self.packages if importlib.util.find_spec(package) is None]:
            raise UserError(
                f"--format {name}: needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
                "pip install 'vision-train[export]'"
            )


def traced(exported: Exported) -> ExportedProgram:
    """The program with any number of samples at a time."""
    examples = exported.draw(torch.Generator().manual_seed(0))
    # AUTO, since guards that hold for every batch size are refused where the size is declared to be free.
    free = {name: {0: torch.export.Dim.AUTO} for name in examples}
    with torch.no_grad():
        return torch.export.export(exported.module, tuple(examples.values()), dynamic_shapes=free)


def _write_onnx(exported: Exported, path: Path) -> None:
    import onnx

    names = list(exported.draw(torch.Generator().manual_seed(0)))
    with _quiet():
        program = torch.onnx.export(
            traced(exported), input_names=names, output_names=list(exported.outputs), opset_version=OPSET, dynamo=True
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {key: _text(value) for key, value in exported.card.items()})
    for dimension in (each.type.tensor_type.shape.dim[0] for each in (*model.graph.input, *model.graph.output)):
        dimension.dim_param = "batch"
    onnx.save(model, path)


def _open_onnx(exported: Exported, path: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Tensors) -> Tensors:
        arrays = session.run(list(exported.outputs), {name: tensor.numpy() for name, tensor in inputs.items()})
        return exported.named([torch.from_numpy(array) for array in arrays])

    return run


def _write_program(exported: Exported, path: Path) -> None:
    file = io.BytesIO()  # by name, torch warns of other endings than its own
    torch.export.save(traced(exported), file, extra_files={"card.json": json.dumps(exported.card)})
    path.write_bytes(file.getvalue())


def _open_program(exported: Exported, path: Path) -> Runner:
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run(inputs: Tensors) -> Tensors:
        with torch.inference_mode():
            return exported.named(module(*inputs.values()))

    return run


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own insides from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxruntime", "onnxscript"), _write_onnx, _open_onnx),
    "torch-export": Format(".pt2", (), _write_program, _open_program),
}
