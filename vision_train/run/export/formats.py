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
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.export import ExportedProgram

from vision_train.errors import UserError
from vision_train.run.export.ranking import Ranking
from vision_train.tasks.exported import Exported, Tensors


class Ran(NamedTuple):
    """What a written program made of inputs."""

    outputs: Tensors
    chosen: list[Tensor]
    """Indices that it took where it chose the best of a list, in the order of the program."""


Runner = Callable[[Tensors], Ran]
OPSET = 20
"""ONNX has GridSample for images from opset 16 on, and for any number of dimensions from 20 on."""


@dataclass(frozen=True)
class Format:
    """A format of files that hold a whole program."""

    suffix: str
    packages: tuple[str, ...]
    """Packages that write and check it; the extra `export` installs them."""
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
            traced(exported),
            input_names=names,
            output_names=list(exported.outputs),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,  # by patterns, which takes longer than all else; see below
        )
    assert program is not None
    _simplify(program.model)
    model = program.model_proto
    onnx.helper.set_model_props(model, {key: _text(value) for key, value in exported.card.items()})
    for dimension in (each.type.tensor_type.shape.dim[0] for each in (*model.graph.input, *model.graph.output)):
        dimension.dim_param = "batch"
    onnx.save(model, path)


def _simplify(model: Any) -> None:
    """Compute what is constant and drop what is unused or double; programs that run it fuse operations anyway."""
    import onnx_ir.passes.common as passes
    from onnxscript.optimizer import fold_constants

    said = [(each.name, each.type, each.shape) for each in model.graph.outputs]
    fold_constants(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.DeduplicateInitializersPass()(model)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.RemoveUnusedOpsetsPass()(model)
    passes.OutputFixPass()(model)
    for output, (name, kind, shape) in zip(model.graph.outputs, said, strict=True):
        output.name, output.type, output.shape = name, kind, shape  # what was folded into may say less
    passes.NameFixPass()(model)


def _open_onnx(exported: Exported, path: Path) -> Runner:
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    model = onnx.load(path)
    chosen = [node.output[1] for node in model.graph.node if node.op_type == "TopK"]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None) for name in chosen)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(inputs: Tensors) -> Ran:
        arrays = session.run([*exported.outputs, *chosen], {name: tensor.numpy() for name, tensor in inputs.items()})
        tensors = [torch.from_numpy(array) for array in arrays]
        count = len(exported.outputs)
        return Ran(exported.named(tensors[:count]), tensors[count:])

    return run


def _write_program(exported: Exported, path: Path) -> None:
    file = io.BytesIO()  # by name, torch warns of other endings than its own
    torch.export.save(traced(exported), file, extra_files={"card.json": json.dumps(exported.card)})
    path.write_bytes(file.getvalue())


def _open_program(exported: Exported, path: Path) -> Runner:
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run(inputs: Tensors) -> Ran:
        with torch.inference_mode(), Ranking() as ranking:
            return Ran(exported.named(module(*inputs.values())), ranking.chosen)

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
