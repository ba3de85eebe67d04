"""Text by BERT (Devlin et al., NAACL 2019), through the library transformers, which is imported late."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from models.adapted import Adapted

UNUSED = re.compile(r"^(.*\.)?(pooler|cls)\.|position_ids$")
"""What files of BERT hold beside the layers: a vector of the sentence, outputs of pre-training, counters."""
_EARLIER = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}
"""Names in the first files of BERT, and those of today."""
_SETTINGS = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
    "is_decoder": False,
}
"""What a configuration says of the network beside its sizes, and means by leaving it out."""


@dataclass(frozen=True)
class BertSizes:
    """Sizes of a BERT, by the names of its configuration; those of BERT-base, uncased, unless said otherwise.

    Raises:
        ValueError: A size is no whole number of at least 1, or does not fit another one; the message begins with its
            name.
    """

    vocab_size: int = 30_522
    """Pieces of words that it knows."""
    hidden_size: int = 768
    """Width of tokens, D."""
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    """Width of the hidden layer of the feed-forward networks."""
    max_position_embeddings: int = 512
    """Most tokens of a text."""
    type_vocab_size: int = 2
    """Kinds of text that it tells apart; ours are all of the first."""

    def __post_init__(self) -> None:
        """Refuse what is no BERT."""
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{field.name}: is {value!r}; must be a whole number of at least 1")
        if self.hidden_size % self.num_attention_heads:
            heads, width = self.num_attention_heads, self.hidden_size
            raise ValueError(f"num_attention_heads: is {heads}; must divide hidden_size, which is {width}")

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> BertSizes:
        """Read the sizes in a ``config.json`` that lies beside weights.

        Raises:
            ValueError: It is of another network; the message begins with the key that says so.
        """
        for key, ours in _SETTINGS.items():
            if (value := config.get(key, ours)) != ours:
                raise ValueError(f"{key}: is {value!r}, and only a BERT with {ours!r} is known here")
        return cls(**{field.name: config[field.name] for field in fields(cls) if field.name in config})


def build_bert(sizes: BertSizes) -> nn.Module:
    """Build a BERT with random weights and without a pooler; its names are those of transformers' ``BertModel``.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(**asdict(sizes)), add_pooling_layer=False)


def encode_text(bert: nn.Module, token_ids: Tensor, padding: Tensor, layers: Sequence[int]) -> Tensor:
    """Read the output of a layer, or the mean of several.

    Args:
        bert: Made by :func:`build_bert`.
        token_ids: B x L, beginning with [CLS].
        padding: B x L, True on padding.
        layers: Counted from 1; 0 is the embedding that the first layer reads.

    Returns:
        B x L x D. On padding it means nothing.

    Raises:
        ValueError: There is no such layer.
    """
    output = bert(input_ids=token_ids, attention_mask=(~padding).long(), output_hidden_states=True)
    states: tuple[Tensor, ...] = output.hidden_states
    if absent := [layer for layer in layers if not 0 <= layer < len(states)]:
        raise ValueError(f"layer {absent[0]} of the text is asked for, and this BERT has {len(states) - 1}")
    if len(layers) == 1:
        return states[layers[0]]
    return torch.stack([states[layer] for layer in layers]).mean(dim=0)


def adapt_bert(state: Mapping[str, Tensor], bert: nn.Module) -> Adapted:
    """Bring files of BERT to today's names; a pure function.

    Args:
        state: Weights by name, those of a BERT without a prefix or below ``bert.``.
        bert: Made by :func:`build_bert`.

    Raises:
        ValueError: The file has tensors for which a BERT of this size has no place, such as more layers.
    """
    own = bert.state_dict()
    named = {_of_today(name): tensor for name, tensor in state.items()}
    strange = [name for name in named if name not in own and name.startswith(("embeddings.", "encoder."))]
    if strange := [name for name in strange if not UNUSED.search(name)]:
        raise ValueError(
            f"it has {', '.join(strange[:3])}{' and more' if len(strange) > 3 else ''}, for which a BERT of "
            f"{sum(name.endswith('intermediate.dense.weight') for name in own)} layers has no place"
        )
    return Adapted(named, named)


def _of_today(name: str) -> str:
    name = name.removeprefix("bert.")
    for earlier, today in _EARLIER.items():
        if name.endswith(earlier):
            return name.removesuffix(earlier) + today
    return name
