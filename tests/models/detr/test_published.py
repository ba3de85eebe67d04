"""Names of published detectors.

The names of Relation-DETR are those of the fixture that its official code computed. Those of the others were read in
the code and the issues of the repositories: IDEA-Research/DINO and fundamentalvision/Deformable-DETR
(``transformer.level_embed``, ``input_proj``, ``backbone.0.body``), IDEA-Research/detrex (``attentions.0``, ``ffns.0``),
open-mmlab/mmdetection 3 (``encoder.layers.0.ffn``, ``neck.convs.0.gn``) and 2 (below ``bbox_head.transformer``),
facebookresearch/detr (``self_attn.in_proj_weight``). No published file itself was at hand.
"""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.detr.backbones import build_backbone
from models.detr.encoder import Encoder
from models.detr.neck import ChannelMapper
from models.detr.network import RelationDetr
from models.detr.published import adapt_detector, adapt_encoder, adapt_neck, describe, spelt_classes
from models.detr.transformer import TransformerSizes

GOLDEN = Path(__file__).parents[2] / "golden" / "relation_detr" / "e_full_model.json"
SIZES = TransformerSizes(
    dim=32, heads=2, hidden=48, encoder_layers=2, decoder_layers=2, queries=6, hybrid_queries=4, levels=4
)


class EncoderWithLevels(nn.Module):
    """What ``model.checkpoint.encoder`` is for."""

    def __init__(self, *, memory_fusion: bool = True) -> None:
        super().__init__()
        self.encoder = Encoder(32, 2, 4, 48, 2, memory_fusion=memory_fusion)
        self.level_embeds = nn.Parameter(torch.randn(4, 32))


def detector(classes: int = 5) -> RelationDetr:
    backbone, channels = build_backbone("resnet10t", channels=[8, 16, 16, 32], stem_type="")
    return RelationDetr(backbone, channels, classes, SIZES)


def shaken(module: nn.Module) -> dict[str, Tensor]:
    """Weights of a module, each another number."""
    return {name: torch.randn_like(each) for name, each in module.state_dict().items() if each.is_floating_point()}


def spell(names: list[str]) -> Tensor:
    """Names as the official code writes them into ``_classes_``."""
    return torch.tensor([code for name in names for code in [*map(ord, name), -1]])


TO_DETREX = (
    (r"^encoder\.", "transformer.encoder."),
    (r"^level_embeds$", "transformer.level_embeds"),
    (r"\.self_attn\.", ".attentions.0."),
    (r"\.linear1\.", ".ffns.0.layers.0.0."),
    (r"\.linear2\.", ".ffns.0.layers.1."),
    (r"\.norm1\.", ".norms.0."),
    (r"\.norm2\.", ".norms.1."),
)
TO = {
    "idea": ((r"^encoder\.", "transformer.encoder."), (r"^level_embeds$", "transformer.level_embed")),
    "detrex": TO_DETREX,
    "mmdet2": tuple((pattern, ours.replace("transformer.", "bbox_head.transformer.")) for pattern, ours in TO_DETREX),
    "mmdet3": (
        (r"^level_embeds$", "level_embed"),
        (r"\.linear1\.", ".ffn.layers.0.0."),
        (r"\.linear2\.", ".ffn.layers.1."),
        (r"\.norm1\.", ".norms.0."),
        (r"\.norm2\.", ".norms.1."),
    ),
}
BESIDE = {
    "idea": ("label_enc.weight", "input_proj.0.0.weight"),
    "detrex": ("label_enc.weight", "neck.convs.0.conv.weight"),
    "mmdet2": ("bbox_head.cls_branches.0.weight",),
    "mmdet3": ("dn_query_generator.label_embedding.weight", "neck.convs.0.conv.weight"),
}


def published(state: dict[str, Tensor], layout: str) -> dict[str, Tensor]:
    """An encoder under the names of other code, with a decoder layer and what else stands beside it."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, theirs in TO[layout]:
            name = re.sub(pattern, theirs, name)
        renamed[name] = tensor
    decoder = {name.replace("encoder.", "decoder."): torch.zeros_like(each) for name, each in renamed.items()}
    return decoder | renamed | {name: torch.zeros(3, 3) for name in BESIDE[layout]}


class TestDetector:
    def test_official_names_are_ours(self):
        names = {name.removeprefix("state.") for name in json.loads(GOLDEN.read_text())["tensors"]}
        theirs = {name for name in names if name.startswith(("neck.", "transformer.", "denoising_generator."))}
        ours = {name for name in detector().state_dict() if not name.startswith("backbone.")}
        # The fixture has three decoder layers and levels of its own, so numbers are left out.
        assert {re.sub(r"\d+", "*", name) for name in theirs} == {re.sub(r"\d+", "*", name) for name in ours}

    def test_counters_and_the_spelt_classes_are_no_weights(self):
        network = detector()
        state = network.state_dict() | {
            "_classes_": spell(["none", "person", "hair drier", "none", "tv"]),
            "backbone.bn1.num_batches_tracked": torch.tensor(7),
        }
        adapted = adapt_detector(state, network)
        assert adapted.keys() == network.state_dict().keys()
        assert adapted.classes == ("none", "person", "hair drier", "none", "tv")
        assert not adapted.fresh
        assert not adapted.notes

    def test_what_only_training_needs_may_be_absent_and_is_told(self):
        network = detector()
        stripped = {
            name: each for name, each in network.state_dict().items() if "hybrid" not in name and "denois" not in name
        }
        adapted = adapt_detector(stripped, network)
        assert adapted.fresh == network.state_dict().keys() - stripped.keys()
        assert len(adapted.notes) == 2
        assert "hybrid queries" in adapted.notes[0]

    def test_half_of_the_hybrid_branch_is_no_file_for_inference(self):
        network = detector()
        state = {name: each for name, each in network.state_dict().items() if "hybrid_bbox_head" not in name}
        assert not adapt_detector(state, network).fresh

    @pytest.mark.parametrize(
        ("state", "remedy"),
        [
            (published(shaken(EncoderWithLevels()), "idea"), "{backbone: FILE, encoder: FILE}"),
            ({"transformer.encoder.layers.0.self_attn.in_proj_weight": torch.zeros(1),
              "transformer.decoder.layers.0.norm1.weight": torch.zeros(1)}, "{backbone: FILE}"),
            ({"conv1.weight": torch.zeros(1)}, "{backbone: FILE}"),
        ],
        ids=["DINO", "DETR", "a classifier"],
    )  # fmt: skip
    def test_another_detector_is_refused_with_the_parts_that_fit(self, state, remedy):
        with pytest.raises(ValueError, match=r"model\.checkpoint") as error:
            adapt_detector(state, detector())
        assert remedy in str(error.value)


class TestSpeltClasses:
    @pytest.mark.parametrize(
        "codes",
        [None, spell(["0", "1", "2"]), torch.tensor([65]), torch.tensor([-7, -1]), torch.zeros(2, 2, dtype=torch.long)],
    )
    def test_what_spells_no_names(self, codes):
        assert spelt_classes({} if codes is None else {"_classes_": codes}) is None

    def test_names_with_spaces_and_accents(self):
        assert spelt_classes({"_classes_": spell(["été", "", "a b"])}) == ["été", "", "a b"]


class TestEncoder:
    @pytest.mark.parametrize("layout", TO)
    def test_every_tensor_arrives_under_our_name(self, layout):
        module = EncoderWithLevels(memory_fusion=False)
        state = shaken(module)
        adapted = adapt_encoder(published(state, layout), module)
        assert all(torch.equal(adapted[name], tensor) for name, tensor in state.items())
        assert not adapted.fresh

    @pytest.mark.parametrize("layout", TO)
    def test_a_fusion_of_memory_starts_anew_and_is_told(self, layout):
        module = EncoderWithLevels()
        state = {name: each for name, each in shaken(module).items() if "memory_fusion" not in name}
        adapted = adapt_encoder(published(state, layout), module)
        assert adapted.fresh == {name for name in module.state_dict() if "memory_fusion" in name}
        assert "fusion" in adapted.notes[0]
        assert any("temperature" in note for note in adapted.notes) is (layout in ("idea", "mmdet3"))

    def test_one_of_our_own_is_taken_whole(self):
        module = EncoderWithLevels()
        state = shaken(module)
        adapted = adapt_encoder(state, module)
        assert dict(adapted) == state
        assert not adapted.fresh

    def test_the_encoder_alone_takes_names_without_a_prefix(self):
        module = EncoderWithLevels(memory_fusion=False).encoder
        state = shaken(module)
        assert dict(adapt_encoder(state, module)) == state

    @pytest.mark.parametrize(
        "name", ["self_attn.in_proj_weight", "self_attn.attn.in_proj_weight", "self_attn.q_proj.weight"]
    )
    def test_plain_detr_is_refused_with_the_reason(self, name):
        with pytest.raises(ValueError, match=r"plain DETR.*model\.checkpoint\.backbone"):
            adapt_encoder({f"transformer.encoder.layers.0.{name}": torch.zeros(2)}, EncoderWithLevels())

    def test_a_file_without_an_encoder_is_refused(self):
        with pytest.raises(ValueError, match="no encoder"):
            adapt_encoder({"layer1.0.conv1.weight": torch.zeros(2)}, EncoderWithLevels())


class TestNeck:
    @pytest.mark.parametrize(("norm", "prefix"), [("gn", "neck."), ("norm", "neck.")])
    def test_convolutions_without_biases_fit(self, norm, prefix):
        neck = ChannelMapper((8, 16, 32), 32, 5)
        state = shaken(neck)
        theirs = {}
        for name, tensor in state.items():
            _, level, inner, kind = name.split(".")
            number = int(level)
            place = f"convs.{number}" if number < 3 else f"extra_convs.{number - 3}"
            theirs[f"{prefix}{place}.{'conv' if inner == '0' else norm}.{kind}"] = tensor
        adapted = adapt_neck(theirs, neck)
        assert all(torch.equal(adapted[name], tensor) for name, tensor in state.items())

    def test_biases_have_no_place_and_are_refused_by_name(self):
        state = {"input_proj.0.0.weight": torch.zeros(32, 8, 1, 1), "input_proj.0.0.bias": torch.zeros(32)}
        with pytest.raises(ValueError, match=r"input_proj\.0\.0\.bias.*leave the part out"):
            adapt_neck(state, ChannelMapper((8, 16, 32), 32, 4))

    def test_the_one_convolution_of_plain_detr_is_no_neck(self):
        with pytest.raises(ValueError, match="no neck"):
            adapt_neck({"input_proj.weight": torch.zeros(1)}, ChannelMapper((8, 16, 32), 32, 4))


class TestDescribe:
    def test_a_relation_detr_says_its_sizes_and_what_it_lacks(self):
        network = detector()
        assert "in a recipe" not in describe(network.state_dict())  # its backbone is that of no recipe
        fifty = {f"backbone.layer{place}.conv3.weight": torch.zeros(1) for place in ("3.5", "4.2")}
        told = describe(network.state_dict() | fifty | {"_classes_": spell(["a"] * 5)})
        assert told["detector"] == "Relation-DETR, 5 classes, 6 queries, the names of 5 classes"
        sizes = "dim: 32, heads: 2, hidden: 48, encoder_layers: 2, decoder_layers: 2, queries: 6, hybrid_queries: 4"
        assert told["in a recipe"] == f"relation_detr/resnet50 model.checkpoint=FILE 'model.args={{{sizes}}}'"
        stripped = {name: each for name, each in network.state_dict().items() if "hybrid" not in name}
        assert "without hybrid queries" in describe(stripped)["detector"]

    def test_others_say_which_parts_fit(self):
        assert "encoder: FILE" in describe(published(shaken(EncoderWithLevels()), "mmdet3"))["in a recipe"]
        assert describe({"blocks.0.attn.qkv.weight": torch.zeros(1)}) == {}
