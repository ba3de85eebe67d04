"""How often a training step of a detector would make the host wait for a GPU, counted without one."""

import traceback
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vision_train.recipe import load_recipe
from vision_train.tasks.detection.task import build

MOST = 15
READS = {"cpu", "tolist"}
"""Methods that copy a tensor to the host; ``item`` and comparisons end in ``_local_scalar_dense``."""
DEPENDENT = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}
"""Operators whose result, or its shape, the host has to know."""


def place() -> str:
    """The innermost line of ours."""
    ours = [each for each in traceback.extract_stack() if "/models/" in each.filename or "/tasks/" in each.filename]
    inner = [each for each in ours if "/tests/" not in each.filename] or ours
    return f"{inner[-1].filename.rpartition('/')[2]}:{inner[-1].lineno}"


class Copies(TorchFunctionMode):
    """Notes copies from the device to the host and, since host memory is not pinned, those to the device."""

    def __init__(self, noted: list[str]) -> None:
        super().__init__()
        self.noted = noted

    def __torch_function__(self, function, types, args=(), kwargs=None) -> Any:
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        moved = name == "to" and any(isinstance(each, torch.device) for each in (*args[1:], *kwargs.values()))
        made = name in ("tensor", "as_tensor") and kwargs.get("device") is not None
        if name in READS or (moved and not kwargs.get("non_blocking")) or made:
            self.noted.append(f"{name} at {place()}")
        return function(*args, **kwargs)


class Waits(TorchDispatchMode):
    """Notes operators that wait for the device."""

    def __init__(self, noted: list[str]) -> None:
        super().__init__()
        self.noted = noted

    def __torch_dispatch__(self, function, types, args=(), kwargs=None) -> Any:
        name = function.overloadpacket.__name__
        chosen = args[1] if name in ("index", "index_put", "index_put_") else []
        if name in DEPENDENT or any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in chosen):
            self.noted.append(f"{name} at {place()}")
        return function(*args, **(kwargs or {}))


@pytest.fixture
def task(monkeypatch):
    # On a GPU labels are not checked one by one.
    monkeypatch.setattr("models.detr.denoising.DenoisingGenerator._check", lambda *_: None)
    recipe = load_recipe("relation_detr/shapes", ["model.args.dim=64", "model.args.hybrid_queries=12"], smoke=True)
    return build(recipe, ["circle", "square", "triangle"])


def batch(*counts: int, ignored: int) -> dict[str, Any]:
    return {
        "image": torch.rand(len(counts), 3, 64, 64),
        "padding_mask": torch.zeros(len(counts), 64, 64, dtype=torch.bool),
        "boxes": [torch.rand(count, 4) * 0.3 + 0.3 for count in counts],
        "class_ids": [torch.randint(0, 3, (count,)) for count in counts],
        "ignore": [torch.rand(ignored, 4) * 0.3 + 0.3 for _ in counts],
    }


@pytest.mark.parametrize(("counts", "ignored"), [((3, 5), 0), ((3, 5), 1), ((0, 0), 0), ((1, 2, 0, 9, 4, 7), 2)])
def test_a_training_step_synchronises_at_most_15_times_whatever_the_batch(task, counts, ignored):
    given, noted = batch(*counts, ignored=ignored), []
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=1e-4)
    with Copies(noted), Waits(noted):
        loss = task.training_step(given, 0)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(task.network.parameters(), 0.1)
    optimizer.step()
    assert loss.isfinite()
    assert 1 <= len(noted) <= MOST, "\n".join(noted)
    assert [each for each in noted if "matching.py" not in each] == [], "all but the costs stays on the device"


def test_what_waits_is_noted():
    noted: list[str] = []
    with Copies(noted), Waits(noted):
        x = torch.arange(4.0)
        x.sum().item(), x.cpu(), x.tolist(), x[x > 1], x.nonzero(), x.to(torch.device("cpu"))
        torch.tensor(1.0, device="cpu")
        x + 1, x.to(torch.float64), x[[1]]
    assert [each.split()[0] for each in noted] == [
        "_local_scalar_dense",
        "cpu",
        "tolist",
        *("index", "nonzero", "to", "tensor"),
    ]
