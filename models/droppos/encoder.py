"""A timm vision transformer that sees part of an image's patches, and part of their positions."""

from __future__ import annotations

from typing import TypeGuard, cast

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from models.attention import additive_bias
from models.droppos.masks import Masks
from models.droppos.patches import take_patches
from models.positions import fix_positions, position_prefix
from models.routed_attention import RoutedVitAttention


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
        "has no blocks": len(encoder.blocks) == 0,
        "has no position embeddings": encoder.pos_embed is None,
        "has no class token": encoder.cls_token is None,
        "embeds patches by another network": not (
            type(embedding) is PatchEmbed and isinstance(getattr(embedding, "proj", None), nn.Conv2d)
        ),
        "takes images of any size": encoder.dynamic_img_size or embedding.dynamic_img_pad,
        "drops patches by itself (patch_drop_rate)": not isinstance(encoder.patch_drop, nn.Identity),
        "has a classifier; build it with num_classes=0": not isinstance(encoder.head, nn.Identity),
        "has no norm right behind its blocks; leave fc_norm and final_norm as they are with global_pool=token": (
            isinstance(encoder.norm, nn.Identity)
        ),
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
    context = _behind_prefix(encoder, masks.context)
    for block in encoder.blocks:
        tokens = _read_from(context, tokens, block)
    return encoder.norm(tokens)


def encode_whole(encoder: VisionTransformer, images: Tensor, wanted: Tensor) -> Tensor:
    """Encode whole images with all positions, and return some of the patches.

    Equals the encoder's own ``forward_features`` in evaluation mode. In the last block all tokens are read, and wanted
    ones alone are computed.

    Args:
        encoder: What ``check_encoder`` accepts, in evaluation mode.
        images: B x C x H x W.
        wanted: B x V, int64: the patches to return.

    Returns:
        B x (P + V) x D behind the final norm: class and register tokens, then the wanted patches.
    """
    *first, last = encoder.blocks
    # timm's own way from patches to the first block, the one that ``forward_features`` goes too.
    tokens = encoder.norm_pre(encoder._pos_embed(encoder.patch_embed(images)))
    for block in first:
        tokens = block(tokens)
    places = _behind_prefix(encoder, wanted)
    if not _can_be_split(last):
        return encoder.norm(_take(last(tokens), places))
    normed = last.norm1(tokens)
    tokens = _take(tokens, places) + last.ls1(
        _attend(cast(RoutedVitAttention, last.attn), _take(normed, places), normed)
    )
    return encoder.norm(tokens + last.ls2(last.mlp(last.norm2(tokens))))


def _behind_prefix(encoder: VisionTransformer, patches: Tensor) -> Tensor:
    """Places of class and register tokens, then those of patches (B x M), among all tokens of an encoder."""
    prefix = torch.arange(encoder.num_prefix_tokens, device=patches.device).expand(len(patches), -1)
    return torch.cat([prefix, patches + encoder.num_prefix_tokens], dim=1)


def _take(tokens: Tensor, places: Tensor) -> Tensor:
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def _can_be_split(block: nn.Module) -> TypeGuard[Block]:
    """Whether the steps of a block are known, and its attention can be given other tokens to read than to ask for."""
    return type(block) is Block and isinstance(block.attn, RoutedVitAttention)


def _read_from(context: Tensor, tokens: Tensor, block: nn.Module) -> Tensor:
    """Run a block in which all tokens (B x N x D) read from those at some places (B x M) alone."""
    if not _can_be_split(block):
        readable = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device).scatter(1, context, True)
        masked: Tensor = block(tokens, attn_mask=additive_bias(readable[:, None, None], tokens.dtype))
        return masked
    normed = block.norm1(tokens)
    attended = _attend(cast(RoutedVitAttention, block.attn), normed, _take(normed, context))
    tokens = tokens + block.drop_path1(block.ls1(attended))
    changed: Tensor = tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
    return changed


def _attend(layer: RoutedVitAttention, asking: Tensor, read: Tensor) -> Tensor:
    """Let some tokens (B x M x D) attend to others (B x N x D); only what is asked for or read is projected."""
    width = layer.attn_dim
    query_weight, key_value_weight = layer.qkv.weight.tensor_split([width])
    query_bias, key_value_bias = (None, None) if layer.qkv.bias is None else layer.qkv.bias.tensor_split([width])
    query = functional.linear(asking, query_weight, query_bias)
    key, value = functional.linear(read, key_value_weight, key_value_bias).chunk(2, dim=-1)
    query, key, value = (part.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    return layer.attend(asking, layer.q_norm(query), layer.k_norm(key), value, None, False)


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
