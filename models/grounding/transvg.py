"""TransVG (Deng et al., ICCV 2021): image and text become one sequence, of which one token says where the box is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.detr.layers import Mlp
from models.grounding.encoder import EncoderSizes, check_counts
from models.grounding.fusion import Fusion
from models.grounding.output import GroundingOutput
from models.grounding.quantised import QuantisedHead
from models.grounding.visual import VisualBranch
from models.text import BertSizes, build_bert, encode_text


@dataclass(frozen=True)
class TransVGSizes:
    """Sizes of a TransVG; those of the paper unless said otherwise.

    Raises:
        ValueError: A size is no whole number, or does not fit another one; the message begins with its name.
    """

    image_size: int = 640
    """Side of the padded frame in pixels, S; a multiple of the stride."""
    stride: int = 32
    """Pixels from one cell to the next: 32, 16, or 8 for small images."""
    text_length: int = 20
    """Most tokens of a text, L; 40 for RefCOCOg."""
    text_layer: int = 12
    """Layer of the BERT that is read, counted from 1."""
    dim: int = 256
    """Width of tokens, D; a multiple of 4."""
    heads: int = 8
    """Heads of attention, which divide D."""
    hidden: int = 2048
    """Width of the hidden layer of the feed-forward networks."""
    visual_layers: int = 6
    fusion_layers: int = 6
    dropout: float = 0.1
    bins: int | None = None
    """Bins of each coordinate for the quantised head, K, of which ACTRESS takes half the side (our choice); null for no
    such head."""
    sine_start: bool = False
    """Whether positions of cells begin as sines and cosines of where the cells are, not at random."""

    def __post_init__(self) -> None:
        """Refuse what is no TransVG."""
        check_counts(self, "image_size", "stride", "text_length", "text_layer", "visual_layers", "fusion_layers")
        if self.image_size % self.stride:
            raise ValueError(f"image_size: is {self.image_size}; must be a multiple of stride, which is {self.stride}")
        if self.bins is not None:
            check_counts(self, "bins", least=2)
        self.encoder(self.fusion_layers)

    def encoder(self, layers: int) -> EncoderSizes:
        """Sizes of one of the encoders."""
        return EncoderSizes(self.dim, self.heads, self.hidden, layers, self.dropout)


def build_transvg(backbone: nn.Module, channels: int, text: BertSizes, sizes: TransVGSizes) -> TransVG:
    """Build a TransVG with random weights.

    Args:
        backbone: Gives a map of the stride of ``sizes``; see :func:`models.detr.backbones.build_single_map`.
        channels: Of that map.
        text: Sizes of its BERT.
        sizes: Of all else.

    Raises:
        ValueError: The BERT has fewer layers, or positions for fewer tokens, than the sizes ask for; the message begins
            with the name of the size.
    """
    for name, most in (("text_layer", text.num_hidden_layers), ("text_length", text.max_position_embeddings)):
        if (value := getattr(sizes, name)) > most:
            raise ValueError(f"{name}: is {value}; the text encoder allows {most} at most")
    side = sizes.image_size // sizes.stride
    return TransVG(
        VisualBranch(backbone, channels, sizes.encoder(sizes.visual_layers)),
        build_bert(text),
        Fusion(sizes.encoder(sizes.fusion_layers), sizes.text_length, (side, side), sine_start=sizes.sine_start),
        text_dim=text.hidden_size,
        text_layer=sizes.text_layer,
        bins=sizes.bins,
    )


class TransVG(nn.Module):
    """A grounding network.

    Args:
        visual: Sees.
        text: A BERT, made by :func:`models.text.build_bert`.
        text_dim: Width of its tokens.
        text_layer: Layer of it that is read, counted from 1.
        fusion: Brings both together.
        bins: Bins of each coordinate, K, for a second head that classifies them; None has no such head.
    """

    def __init__(
        self,
        visual: VisualBranch,
        text: nn.Module,
        fusion: Fusion,
        *,
        text_dim: int,
        text_layer: int,
        bins: int | None = None,
    ) -> None:
        super().__init__()
        self.visual, self.text, self.fusion = visual, text, fusion
        self.text_layer = text_layer
        self.visual_proj = nn.Linear(visual.dim, fusion.dim)
        self.text_proj = nn.Linear(text_dim, fusion.dim)
        self.box_head = Mlp((fusion.dim, fusion.dim, fusion.dim, 4), xavier=False)
        self.bin_head = None if bins is None else QuantisedHead(fusion.dim, bins)

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
            with_attention: Whether the attention of [REG] to the cells is read, mean of all layers and heads.

        Raises:
            ValueError: A text or an image has another size than the positions of the network.
        """
        visual = self.visual(images, padding_mask)
        text = encode_text(self.text, token_ids, token_padding, [self.text_layer])
        cells = visual._replace(tokens=self.visual_proj(visual.tokens))
        fused = self.fusion(self.text_proj(text), token_padding, cells, with_attention=with_attention)
        reg = fused.sequence[:, 0]
        boxes = self.box_head(reg).float().sigmoid()
        logits = None if self.bin_head is None else self.bin_head(reg).float()
        return GroundingOutput(boxes, logits, fused.attention, visual.grid, visual.padding)
