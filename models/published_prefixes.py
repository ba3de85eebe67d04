"""Names of official files that stand below another prefix than the one by which timm knows them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_KNOWN = (
    # The first tensor of a layout, what stands beside it, and the prefix by which timm's conversion knows them.
    (re.compile(r"^(.*\.)?class_embedding$"), ("conv1.weight", "ln_pre.weight"), "visual."),  # CLIP
    (re.compile(r"^(.*\.)?downsample_layers\.0\.0\.weight$"), ("downsample_layers.0.1.weight",), ""),  # ConvNeXt
)


def with_known_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring an official layout within another module, or without its own prefix, to where timm looks; a pure function.

    CLIP's tower stands below ``visual.``; saved alone it has no prefix, and within another module a longer one.

    Args:
        state: Weights by name.

    Raises:
        ValueError: There are several networks of such a layout.
    """
    for first, others, wanted in _KNOWN:
        found = [match[1] or "" for name in state if (match := first.match(name))]
        leads = [lead for lead in found if all(f"{lead}{other}" in state for other in others)]
        if len(leads) > 1:
            named = ", ".join(f"`{lead.rstrip('.')}`" if lead else "the top level" for lead in leads)
            raise ValueError(f"it holds several networks, below {named}; name one with model.checkpoint_key")
        if leads and leads[0] != wanted:
            return {_moved(name, leads[0], wanted): tensor for name, tensor in state.items()}
    return dict(state)


def _moved(name: str, lead: str, wanted: str) -> str:
    return f"{wanted}{name.removeprefix(lead)}" if name.startswith(lead) else name
