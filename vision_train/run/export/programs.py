"""Programs of fixed steps, ONNX and those of ``torch.export``: how they are written, and how they are run."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from vision_train.importing import uncollected
from vision_train.progress import doing
from vision_train.run.export.codec import Codec, Ran, Runner, Subject
from vision_train.run.export.ranking import Ranking
from vision_train.tasks.exported import Exported, Tensors

OPSET = 20
"""ONNX has GridSample for images from opset 16 on, and for any number of dimensions from 20 on."""


def traced(exported: Exported) -> ExportedProgram:
    """The program, whose free dimensions have any length."""
    examples = exported.draw(torch.Generator().manual_seed(0))
    # AUTO, since guards that hold for every batch size are refused where the size is declared to be free.
    free = {name: dict.fromkeys(exported.free_of(name), torch.export.Dim.AUTO) for name in examples}
    with torch.no_grad(), uncollected(), doing("tracing the network"):
        return torch.export.export(exported.module, tuple(examples.values()), dynamic_shapes=free)


def _write_onnx(subject: Subject, path: Path) -> None:
    import onnx

    exported = subject.exported
    names = list(exported.draw(torch.Generator().manual_seed(0)))
    program = traced(exported)
    with warnings.catch_warnings(), uncollected(), doing("translating it to ONNX"):
        warnings.simplefilter("ignore")  # the exporter's remarks about its own insides
        translated = torch.onnx.export(
            program,
            input_names=names,
            output_names=list(exported.outputs),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,  # by patterns, which takes longer than all else; see below
            verbose=False,  # prints
        )
    assert translated is not None
    with doing("folding its constants"):
        _simplify(translated.model)
    model = translated.model_proto
    onnx.helper.set_model_props(model, {key: _text(value) for key, value in exported.card.items()})
    for each in (*model.graph.input, *model.graph.output):
        for dimension, counted in exported.free_of(each.name).items():
            each.type.tensor_type.shape.dim[dimension].dim_param = counted
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


def _open_onnx(subject: Subject, path: Path) -> Runner:
    import onnx
    import onnxruntime

    exported = subject.exported

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


def _write_program(subject: Subject, path: Path) -> None:
    exported = subject.exported
    file = io.BytesIO()  # by name, torch warns of other endings than its own
    torch.export.save(traced(exported), file, extra_files={"card.json": json.dumps(exported.card)})
    path.write_bytes(file.getvalue())


def _open_program(subject: Subject, path: Path) -> Runner:
    exported = subject.exported
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run(inputs: Tensors) -> Ran:
        with torch.inference_mode(), Ranking() as ranking:
            return Ran(exported.named(module(*inputs.values())), ranking.chosen)

    return run


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_USE_ONNX = """\
import json

import numpy as np
import onnxruntime

card = json.load(open("{name}.json"))
session = onnxruntime.InferenceSession("{name}")
shapes = {{each.name: each.shape for each in session.get_inputs()}}  # what goes in: card["inputs"]
outputs = session.run(list(card["outputs"]), inputs)  # a dict of arrays by these names"""
_USE_PROGRAM = """\
import json

import torch

card = json.load(open("{name}.json"))
program = torch.export.load("{name}").module()
outputs = program(*inputs)  # tensors in the order of card["inputs"]; what comes out: card["outputs"]"""

ONNX = Codec(_write_onnx, _open_onnx, library="onnx", use=_USE_ONNX)
PROGRAM = Codec(_write_program, _open_program, library="pytorch", use=_USE_PROGRAM)
