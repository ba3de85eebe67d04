"""Every layout of weights that was tried, with the largest difference to the library that it comes from.

Run ``python docs/studies/checkpoints.py`` for the table of ``docs/checkpoints.md``. Weights are random, under the names
that the published files have, in networks of a few small blocks; ``tests/checkpoints/test_layouts.py`` runs the same.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from checkpoint_layouts import LAYOUTS, Layout
from checkpoint_names import State
from torch import Tensor, nn

from models.vit import adapt_published, build_model, head_names
from vision_train.checkpoints import load_weights

TABLE = Path(__file__).parents[1] / "checkpoints.md"


def difference(layout: Layout, folder: Path, size: int) -> float:
    """Largest difference between the loaded target and the reference, on two images of a size."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        if layout.reference is not None:
            return _to_transformers(layout, folder, images)
        return _to_timm(layout, folder, images)


def _to_transformers(layout: Layout, folder: Path, images: Tensor) -> float:
    assert layout.reference is not None
    theirs, compute = layout.reference()
    randomise(theirs)
    theirs.eval()
    path = folder / "w.pth" if layout.saved == "state dict" else folder
    if layout.saved == "state dict":
        torch.save(theirs.state_dict(), path)
    else:
        theirs.save_pretrained(folder, max_shard_size="30KB" if layout.saved == "shards" else "1GB")
    ours = build(layout, images.shape[-1])
    load_weights(ours, path, adapt=adapt_published, heads=head_names(ours))
    return (compute(theirs, images) - layout.features(ours, images)).abs().max().item()


def _to_timm(layout: Layout, folder: Path, images: Tensor) -> float:
    assert layout.published is not None
    native = build(layout, layout.sizes[0])
    randomise(native)
    state = layout.published(native)
    torch.save({layout.container: state} if layout.container else state, folder / "w.pth")
    ours, theirs = build(layout, images.shape[-1]), build(layout, images.shape[-1])
    load_weights(ours, folder / "w.pth", adapt=adapt_published, heads=head_names(ours))
    inside = {name: tensor for name, tensor in state.items() if name.startswith(layout.prefix)}
    given = _timm_filter(theirs)({name.removeprefix(layout.prefix): w for name, w in inside.items()}, theirs)
    result = theirs.load_state_dict(given, strict=False)
    absent = [name for name in result.missing_keys if not name.startswith(("head", "fc_norm"))]
    assert not absent, absent
    return (layout.features(theirs, images) - layout.features(ours, images)).abs().max().item()


def _timm_filter(model: nn.Module) -> Callable[[State, nn.Module], State]:
    convert = sys.modules[type(model).__module__].checkpoint_filter_fn
    deit = "deit" in str(model.pretrained_cfg.get("architecture", ""))
    return partial(convert, adapt_layer_scale=True) if deit else convert


def build(layout: Layout, size: int) -> nn.Module:
    """The target for images of a size, in evaluation mode."""
    args = dict(layout.args)
    return build_model(layout.model, num_classes=args.pop("num_classes"), image_size=size, **args).eval()


def randomise(model: nn.Module) -> None:
    """Draw all parameters, so that nothing passes by luck; norms and scales stay near 1."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        near = (
            1.0
            if re.search(r"norm\d?\.weight|layernorm\w*\.weight|lambda|gamma|layer_scale|logit_scale", name)
            else 0.0
        )
        values = torch.randn(parameter.shape, generator=generator) * (0.1 if parameter.ndim > 1 else 0.05)
        parameter.data.copy_(near + values)


def rows() -> Iterator[str]:
    """The table, a line at a time, measured anew."""
    yield "| file | reference | target | largest difference |"
    yield "|---|---|---|---|"
    for layout in LAYOUTS:
        found = {}
        for size in dict.fromkeys(layout.sizes):
            with tempfile.TemporaryDirectory() as folder:
                found[size] = difference(layout, Path(folder), size)
        measured = ", ".join(f"{value:.1g} at {size} pixels" for size, value in found.items())
        yield f"| {layout.title} | {layout.package} | `{layout.model}` | {measured} |"


if __name__ == "__main__":
    logging.disable()
    warnings.simplefilter("ignore")
    for line in rows():
        print(line, flush=True)
