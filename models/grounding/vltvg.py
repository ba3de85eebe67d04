"""VLTVG (Yang et al., CVPR 2022): cells are verified by the text, and one query reasons over both in stages.

It equals the official code, whose files it loads: parts of ``verification`` and ``reasoning`` have the official names,
and ``names`` has those of the others. Padding is left out of attention unless ``mask_padding`` is false. The official
network can do so too, but the official data call nothing padding, so its files have learnt with padding in attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.detr.layers import Mlp
from models.grounding.encoder import EncoderSizes, check_counts
from models.grounding.output import GroundingOutput
from models.grounding.quantised import QuantisedHead
from models.grounding.reasoning import ReasoningDecoder
from models.grounding.verification import DiscriminativeEncoder
from models.grounding.visual import VisualBranch
from models.text import BertSizes, build_bert, encode_text


@dataclass(frozen=True)
class VLTVGSizes:
    """Sizes of a VLTVG; those of the paper unless said otherwise.

    Raises:
        ValueError: A size is no whole number, or does not fit another one; the message begins with its name.
    """

    text_layers: int = 4
    """Last layers of the BERT whose mean is read."""
    dim: int = 256
    """Width of tokens, D; a multiple of 4."""
    heads: int = 8
    """Heads of attention, which divide D."""
    hidden: int = 2048
    """Width of the hidden layer of the feed-forward networks."""
    visual_layers: int = 6
    stages: int = 6
    """Stages of the decoder, each of which names a box."""
    dropout: float = 0.1
    """In training; in the visual branch as TransVG has it, behind it of attention weights alone."""
    mask_padding: bool = True
    """Whether padding is left out of attention; false for official files, which have learnt with padding in it."""
    bins: int | None = None
    """Bins of each coordinate for the quantised head, K; null for no such head."""

    def __post_init__(self) -> None:
        """Refuse what is no VLTVG."""
        check_counts(self, "text_layers", "visual_layers", "stages")
        if self.bins is not None:
            check_counts(self, "bins", least=2)
        if not isinstance(self.mask_padding, bool):
            raise ValueError(f"mask_padding: is {self.mask_padding!r}; must be true or false")
        self.encoder(self.stages)

    def encoder(self, layers: int) -> EncoderSizes:
        """Sizes of the encoder or decoder."""
        return EncoderSizes(self.dim, self.heads, self.hidden, layers, self.dropout)


def build_vltvg(backbone: nn.Module, channels: int, text: BertSizes, sizes: VLTVGSizes) -> VLTVG:
    """Build a VLTVG with random weights.

    Args:
        backbone: Gives a map of any stride; see :func:`models.detr.backbones.build_single_map`.
        channels: Of that map.
        text: Sizes of its BERT.
        sizes: Of all else.

    Raises:
        ValueError: The BERT has fewer layers than are read; the message begins with the name of the size.
    """
    depth = text.num_hidden_layers
    if sizes.text_layers > depth:
        raise ValueError(f"text_layers: is {sizes.text_layers}; the text encoder allows {depth} at most")
    return VLTVG(
        VisualBranch(backbone, channels, sizes.encoder(sizes.visual_layers)),
        build_bert(text),
        sizes.encoder(sizes.stages),
        text_dim=text.hidden_size,
        text_layers=range(depth - sizes.text_layers + 1, depth + 1),
        mask_padding=sizes.mask_padding,
        bins=sizes.bins,
    )


class VLTVG(nn.Module):
    """A grounding network for images and texts of any size.

    Args:
        visual: Sees; its tokens have the width of the decoder, D.
        text: A BERT, made by :func:`models.text.build_bert`.
        sizes: Of the decoder.
        text_dim: Width of the tokens of the text.
        text_layers: Layers of the BERT whose mean is read, counted from 1; VLTVG reads the last four.
        mask_padding: Whether padding is left out of attention.
        bins: Bins of each coordinate, K, for a second head that classifies them; None has no such head.

    Raises:
        ValueError: The visual branch has another width.
    """

    def __init__(
        self,
        visual: VisualBranch,
        text: nn.Module,
        sizes: EncoderSizes,
        *,
        text_dim: int,
        text_layers: Sequence[int],
        mask_padding: bool = True,
        bins: int | None = None,
    ) -> None:
        super().__init__()
        if visual.dim != sizes.dim:
            raise ValueError(f"dim: is {sizes.dim}; the visual branch has a width of {visual.dim}, and both must agree")
        self.visual, self.text = visual, text
        self.text_layers, self.mask_padding = tuple(text_layers), mask_padding
        self.text_proj = nn.Linear(text_dim, sizes.dim)
        self.verification = DiscriminativeEncoder(sizes)
        self.reasoning = ReasoningDecoder(sizes)
        self.box_head = Mlp((sizes.dim, sizes.dim, sizes.dim, 4), xavier=False)
        self.bin_head = None if bins is None else QuantisedHead(sizes.dim, bins)

    def forward(
        self,
        images: Tensor,
        padding_mask: Tensor,
        token_ids: Tensor,
        token_padding: Tensor,
        *,
        with_attention: bool = False,
    ) -> GroundingOutput:
        """Find the box of each expression in its image.

        Args:
            images: B x 3 x H x W, normalised, zeros on padding.
            padding_mask: B x H x W, True on padding.
            token_ids: B x L, beginning with [CLS].
            token_padding: B x L, True on padding.
            with_attention: Whether the attention of the query to the cells is read, mean of all stages and heads.
        """
        visual = self.visual(images, padding_mask if self.mask_padding else torch.zeros_like(padding_mask))
        text = self.text_proj(encode_text(self.text, token_ids, token_padding, self.text_layers))
        verified = self.verification(visual, text, token_padding)
        states, attention = self.reasoning(visual, verified, text, token_padding, with_attention=with_attention)
        boxes = self.box_head(states).float().sigmoid()
        logits = None if self.bin_head is None else self.bin_head(states[-1]).float()
        return GroundingOutput(boxes[-1], logits, attention, visual.grid, visual.padding, boxes[:-1])
