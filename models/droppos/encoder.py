"""A timm vision transformer that sees part of an image's patches, and part of their positions."""

from __future__ import annotations

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from models.attention import additive_bias
from models.droppos.masks import Masks
from models.droppos.patches import take_patches
from models.positions import fix_positions, position_prefix


def check_encoder(encoder: nn.Module) -> None:
    """Refuse networks that cannot be pre-trained by position.

    Raises:
        ValueError: It is no plain vision transformer of timm, or is built for classification; and why.
    """
    name = type(encoder).__name__
    # Subclasses, such as the distilled DeiT, put tokens together in ways of their own.
    if type(encoder) is not VisionTransformer:
        raise ValueError(f"{name} is no plain vision transformer of timm, whose positions could be dropped")
    embedding = encoder.patch_embed
    problems = {
        "has no position embeddings": encoder.pos_embed is None,
        "has no class token": encoder.cls_token is None,
        "embeds patches by another network": not (
            type(embedding) is PatchEmbed and isinstance(getattr(embedding, "proj", None), nn.Conv2d)
        ),
        "takes images of any size": encoder.dynamic_img_size or embedding.dynamic_img_pad,
        "drops patches by itself (patch_drop_rate)": not isinstance(encoder.patch_drop, nn.Identity),
        "has a classifier; build it with num_classes=0": not isinstance(encoder.head, nn.Identity),
        "has no norm behind its blocks; build it with global_pool=token": isinstance(encoder.norm, nn.Identity),
        "pools by attention; build it with global_pool=token": encoder.attn_pool is not None,
        f"has a width of {encoder.embed_dim}, and sin-cos positions need a multiple of 4": encoder.embed_dim % 4 != 0,
    }
    for problem, found in problems.items():
        if found:
            raise ValueError(f"this {name} {problem}")


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Initialise as published: Xavier for every linear layer, zero for biases, 0.02 for tokens; norms start neutral."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for name, parameter in network.named_parameters():
        if name.rpartition(".")[2] in ("cls_token", "reg_token", "mask_token", "mask_pos_token"):
            nn.init.normal_(parameter, std=0.02)


@torch.no_grad()
def initialise_embeddings(encoder: VisionTransformer) -> None:
    """Initialise the patch projection like the linear layer it is, and freeze sine-cosine positions."""
    kernel = encoder.patch_embed.proj.weight
    nn.init.xavier_uniform_(kernel.view(len(kernel), -1))
    fix_positions(encoder)


def encode(encoder: VisionTransformer, images: Tensor, masks: Masks, no_position: Tensor | None) -> Tensor:
    """Encode the visible patches; removed ones are not even embedded.

    Args:
        encoder: What ``check_encoder`` accepts.
        images: B x C x H x W.
        masks: What is hidden.
        no_position: D values added to a patch whose position is dropped; None adds nothing.

    Returns:
        B x (P + V) x D behind the final norm: class and register tokens, then the visible patches in the masks' order.

    Raises:
        ValueError: The images have another size than the encoder was built for.
    """
    tokens = encoder.norm_pre(encoder.pos_drop(_input_tokens(encoder, images, masks, no_position)))
    if masks.context is None:
        return encoder.norm(encoder.blocks(tokens))
    readable = functional.pad(masks.context, (encoder.num_prefix_tokens, 0), value=True)
    bias = additive_bias(readable[:, None, None], tokens.dtype)
    for block in encoder.blocks:
        tokens = block(tokens, attn_mask=bias)
    return encoder.norm(tokens)


def encode_whole(encoder: VisionTransformer, images: Tensor, wanted: Tensor) -> Tensor:
    """Encode whole images with all positions, and return some of the patches.

    Equals the encoder's own ``forward_features`` in evaluation mode; the last block's MLP sees wanted tokens alone.

    Args:
        encoder: What ``check_encoder`` accepts, in evaluation mode.
        images: B x C x H x W.
        wanted: B x V, int64: the patches to return.

    Returns:
        B x (P + V) x D behind the final norm: class and register tokens, then the wanted patches.
    """
    *first, last = encoder.blocks
    tokens = encoder.norm_pre(encoder._pos_embed(encoder.patch_embed(images)))
    for block in first:
        tokens = block(tokens)
    prefix = torch.arange(encoder.num_prefix_tokens, device=wanted.device).expand(len(wanted), -1)
    places = torch.cat([prefix, wanted + encoder.num_prefix_tokens], dim=1)[..., None].expand(-1, -1, tokens.shape[-1])
    if type(last) is not Block:
        return encoder.norm(last(tokens).gather(1, places))
    tokens = (tokens + last.ls1(last.attn(last.norm1(tokens)))).gather(1, places)
    return encoder.norm(tokens + last.ls2(last.mlp(last.norm2(tokens))))


def _input_tokens(encoder: VisionTransformer, images: Tensor, masks: Masks, no_position: Tensor | None) -> Tensor:
    assert encoder.pos_embed is not None
    assert encoder.cls_token is not None
    embedding, first = encoder.patch_embed, position_prefix(encoder)
    if images.shape[-2:] != embedding.img_size:
        given, built = ("{} x {}".format(*size) for size in (images.shape[-2:], embedding.img_size))
        raise ValueError(f"images of {given} pixels for an encoder built for {built}")
    patches = take_patches(images, masks.visible, embedding.patch_size).flatten(2)
    patches = embedding.norm(functional.linear(patches, embedding.proj.weight.flatten(1), embedding.proj.bias))
    positions, dropped = encoder.pos_embed[0, first:][masks.visible], masks.dropped[..., None]
    if no_position is None:
        positions = positions.masked_fill(dropped, 0.0)
    else:
        positions = torch.where(dropped, no_position, positions)
    prefix = encoder.cls_token if encoder.reg_token is None else torch.cat([encoder.cls_token, encoder.reg_token], 1)
    if first:
        prefix = prefix + encoder.pos_embed[:, :first]
    return torch.cat([prefix.expand(len(images), -1, -1), patches + positions], dim=1)
