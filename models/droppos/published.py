"""Names and shapes of published weights, brought to those of the masked-position network."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from models.adapted import Adapted
from models.droppos.network import MaskedPositionNetwork
from models.positions import fit_positions, made_for, position_prefix, source_grid, stated_size
from models.transformers_layout import from_transformers, is_transformers
from models.vit import adapt_published as adapt_encoder

_OWN_PARTS = ("decoder.", "pixel_decoder.", "mask_pos_token")
_RENAMED = (
    (re.compile(r"^decoder_(embed|blocks|norm|pred)\."), r"decoder.\1."),
    (re.compile(r"^aux_decoder_(embed|blocks|norm|pred)\."), r"pixel_decoder.\1."),
    (re.compile(r"^aux_decoder_pos_embed$"), "pixel_decoder.pos_embed"),
    (re.compile(r"^mask_token$"), "pixel_decoder.mask_token"),
)


def adapt_published(state: Mapping[str, Tensor], model: nn.Module) -> Adapted:
    """Rename and resize published weights for a masked-position network; a pure function.

    Takes files of DropPos, whole; of MAE, DeiT, timm or transformers, their encoder; and our own, of any grid. The
    position head belongs to one grid and is never resized. A file of MAE has decoders of the same names that predict
    something else; they stay in place for the caller to report, like all else the model lacks.

    Args:
        state: Weights by name, without wrapper prefixes.
        model: The network they are meant for; may live on the meta device.

    Raises:
        ValueError: The model is no masked-position network.
    """
    if not isinstance(model, MaskedPositionNetwork):
        raise ValueError(f"{type(model).__name__} is no masked-position network")
    state = from_transformers(state) if is_transformers(state) else state
    renamed = {_rename(name): weight for name, weight in state.items()} if "mask_pos_token" in state else dict(state)
    parts = {name: weight for name, weight in renamed.items() if name.startswith(_OWN_PARTS)}
    renamed_parts = dict(parts)
    rest = {name.removeprefix("encoder."): weight for name, weight in renamed.items() if name not in parts}
    with made_for(model.encoder, stated_size(model)):
        encoder = adapt_encoder(rest, model.encoder)
        positions = encoder.named.get("pos_embed")
        if positions is not None and parts:
            _fit_parts(parts, source_grid(positions.shape[1] - position_prefix(model.encoder), model.encoder), model)
    # What has no place keeps the name that the file gives it.
    own, before = model.state_dict(), {_rename(name): name for name in state}
    placed = {name if name in own else before.get(name, name): weight for name, weight in renamed_parts.items()}
    return Adapted(_of_encoder(encoder, model) | parts, _of_encoder(encoder.named, model) | placed)


def _fit_parts(parts: dict[str, Tensor], grid: tuple[int, int], model: MaskedPositionNetwork) -> None:
    """Bring the decoders' tensors to the model's grid of patches."""
    if grid == model.grid:
        return
    table = parts.get("pixel_decoder.pos_embed")
    if table is not None and table.ndim == 3:
        parts["pixel_decoder.pos_embed"] = fit_positions(table, model.grid, prefix=1, before=grid)
    if grid[0] * grid[1] == model.grid[0] * model.grid[1]:
        # The head would have the right shape, and mean other positions.
        for name in [name for name in parts if name.startswith("decoder.pred.")]:
            del parts[name]


def _of_encoder(weights: Mapping[str, Tensor], model: MaskedPositionNetwork) -> dict[str, Tensor]:
    own = model.encoder.state_dict().keys()
    return {f"encoder.{name}" if name in own else name: weight for name, weight in weights.items()}


def _rename(name: str) -> str:
    for pattern, ours in _RENAMED:
        name = pattern.sub(ours, name)
    return name
