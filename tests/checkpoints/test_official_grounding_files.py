"""Files of TransVG, DETR and BERT, loaded into a grounding network as a recipe names them.

The names of TransVG are those of the fixture that its official code computed. The ResNet, which the fixture leaves out,
has those of DETR (``visumodel.backbone.0.body.``).
"""

import copy
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from models.adapted import Adapted
from models.detr.backbones import build_single_map
from models.detr.published_backbones import adapt_backbone
from models.grounding.encoder import EncoderSizes
from models.grounding.names import TABLE, describe
from models.grounding.published import adapt_grounder, adapt_visual
from models.grounding.transvg import TransVG, TransVGSizes, build_transvg
from models.grounding.vltvg import VLTVG
from models.text import BertSizes, adapt_bert, build_bert
from vision_train.checkpoints.start import load_start
from vision_train.errors import UserError
from vision_train.recipe.sections import Model

FIXTURE = Path(__file__).parents[1] / "golden" / "transvg" / "model.safetensors"
BERT = BertSizes(40, 24, 2, 3, 36, 64)
SIZES = TransVGSizes(
    image_size=128, text_length=20, text_layer=2, dim=16, heads=2, hidden=24, visual_layers=2, fusion_layers=2
)


def build(**changed) -> TransVG:
    torch.manual_seed(0)
    backbone, channels = build_single_map("resnet50", layers=[1, 1, 1, 1], channels=[2, 4, 4, 8])
    return build_transvg(backbone, channels, BERT, TransVGSizes(**vars(SIZES) | changed))


@pytest.fixture
def network() -> TransVG:
    return build()


def official(network: TransVG, *, length: int = 20, side: int = 4) -> dict[str, torch.Tensor]:
    """Random weights for a network, as the official code would have named them."""
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(each.shape, generator=generator)
        for name, each in network.state_dict().items()
        if "_position" not in name.removeprefix("text.") or name.startswith("text.")
    }
    renamed = {}
    for name, tensor in state.items():
        for ours, theirs in (
            (r"^visual\.backbone\.", "visumodel.backbone.0.body."),
            (r"^visual\.", "visumodel."),
            (r"^text\.", "textmodel.bert."),
            (r"^fusion\.reg_token$", "reg_token.weight"),
            (r"^fusion\.encoder\.", "vl_transformer.encoder."),
            (r"^visual_proj\.", "visu_proj."),
            (r"^box_head\.", "bbox_embed."),
        ):
            name = re.sub(ours, theirs, name)
        renamed[name] = tensor
    pooler = {f"textmodel.bert.pooler.dense.{kind}": torch.randn(3) for kind in ("weight", "bias")}
    table = torch.randn(1 + length + side * side, network.fusion.dim, generator=generator)
    return renamed | pooler | {TABLE: table}


def detr(network: TransVG) -> dict[str, torch.Tensor]:
    """The visual branch as files of DETR name it, with what else is in them."""
    branch = official(network)
    state = {name.removeprefix("visumodel."): each for name, each in branch.items() if name.startswith("visumodel.")}
    decoder = {
        name.replace("encoder", "decoder"): torch.randn_like(each) for name, each in state.items() if "encoder" in name
    }
    heads = (
        "class_embed.weight",
        "bbox_embed.layers.0.weight",
        "query_embed.weight",
        "transformer.decoder.norm.weight",
    )
    return state | decoder | {name: torch.randn(2, 2) for name in heads}


def adapt(state, module) -> Adapted:
    """What the task of grounding answers."""
    if isinstance(module, TransVG):
        return adapt_grounder(state, module)
    if hasattr(module, "input_proj"):
        return adapt_visual(state, module)
    return adapt_bert(state, module) if hasattr(module, "embeddings") else adapt_backbone(state, module)


def load(network: nn.Module, state, tmp_path, part: str = ""):
    file = tmp_path / "published.pth"
    torch.save({"model": state, "epoch": 3}, file)
    (report,) = load_start(network, Model(checkpoint={part: str(file)} if part else str(file)), adapt=adapt, heads=())
    return report


class TestWholeFile:
    def test_every_tensor_arrives_and_only_the_pooler_is_left(self, network, tmp_path):
        state = official(network)
        report = load(network, state, tmp_path)
        assert not report.missing
        assert not report.resized
        assert sorted(report.unexpected) == ["textmodel.bert.pooler.dense.bias", "textmodel.bert.pooler.dense.weight"]
        own = network.state_dict()
        assert sorted(report.matched) == sorted(own)
        table = torch.cat([own[f"fusion.{part}"] for part in ("reg_position", "text_positions", "visual_positions")])
        assert torch.equal(table, state[TABLE])
        conv = "layer4.0.conv2.weight"
        assert torch.equal(own[f"visual.backbone.{conv}"], state[f"visumodel.backbone.0.body.{conv}"])

    def test_names_are_those_of_the_fixture(self, network):
        theirs = {name.removeprefix("state/") for name in load_file(FIXTURE) if name.startswith("state/")}
        made = {name for name in official(network) if ".backbone." not in name}
        # The fixture has one layer more in its BERT, so numbers are left out.
        assert {re.sub(r"\d+", "*", name) for name in made} == {re.sub(r"\d+", "*", name) for name in theirs}

    def test_our_own_file_is_taken_whole(self, network, tmp_path):
        state = {name: torch.randn_like(each) for name, each in network.state_dict().items()}
        report = load(network, state, tmp_path)
        assert sorted(report.matched) == sorted(state)
        assert not report.unexpected

    @pytest.mark.parametrize("theirs", [None, 6])
    def test_a_quantised_head_of_other_bins_starts_anew_and_is_told(self, tmp_path, theirs):
        network = build(bins=8)
        report = load(network, official(build(bins=theirs)), tmp_path)
        assert len(report.fresh) == 6
        assert all(name.startswith("bin_head.") for name in report.fresh)
        assert any("quantised" in note for note in report.notes)

    def test_a_quantised_head_of_as_many_bins_is_kept(self, tmp_path):
        network = build(bins=8)
        report = load(network, official(network), tmp_path)
        assert not report.fresh
        assert not any("quantised" in note for note in report.notes)

    @pytest.mark.parametrize(
        "name", ["vl_transformer.encoder.layers.1.norm2.bias", "visumodel.backbone.0.body.bn1.running_var", TABLE]
    )
    def test_a_tensor_that_is_missing_is_refused_by_name(self, network, tmp_path, name):
        state = official(network)
        del state[name]
        before = {key: each.clone() for key, each in network.state_dict().items()}
        with pytest.raises(UserError) as error:
            load(network, state, tmp_path)
        ours = {TABLE: "fusion.visual_positions"}.get(
            name, re.sub(r"^(visumodel\.|vl_transformer\.)(.*\.body\.)?", "", name)
        )
        assert ours in str(error.value)
        assert all(torch.equal(each, before[key]) for key, each in network.state_dict().items())

    @pytest.mark.parametrize(
        "name",
        [
            "vl_transformer.encoder.layers.2.norm1.weight",
            "visumodel.transformer.encoder.norm.weight",
            "textmodel.bert.encoder.layer.2.output.dense.bias",
            "something_else.weight",
        ],
    )
    def test_a_tensor_without_a_place_is_refused_by_name(self, network, tmp_path, name):
        with pytest.raises(UserError, match=re.escape(name.removeprefix("textmodel.bert."))):
            load(network, official(network) | {name: torch.randn(3)}, tmp_path)


class TestDescribe:
    @pytest.mark.parametrize("ours", [True, False])
    def test_it_tells_the_sizes_that_tensors_show(self, ours):
        network = build(bins=8)
        state = network.state_dict() if ours else official(network)
        (told,) = describe(state).values()
        for each in ("TransVG", "width 16", "2 visual and 2 fusion", "BERT of 2", "37 positions", "8 bins"):
            assert each in told

    def test_of_other_networks_it_tells_nothing(self, network):
        assert describe(detr(network)) == describe(network.text.state_dict()) == {}


class TestPositions:
    @pytest.mark.parametrize(("ours", "theirs"), [(20, 40), (40, 20), (12, 20)])
    def test_another_length_of_text_changes_its_part_alone_and_is_told(self, tmp_path, ours, theirs):
        network = build(text_length=ours, image_size=160)
        state = official(network, length=theirs, side=5)
        report = load(network, state, tmp_path)
        assert report.resized == ["fusion.text_positions"]
        kept = min(ours, theirs)
        assert torch.equal(network.fusion.text_positions[:kept], state[TABLE][1 : 1 + kept])
        assert not network.fusion.text_positions[kept:].any()
        assert torch.equal(network.fusion.visual_positions, state[TABLE][1 + theirs :])
        assert any(f"{theirs} tokens" in note and str(ours) in note for note in report.notes)

    def test_another_size_of_images_resizes_the_cells_alone_and_is_told(self, tmp_path):
        network = build(image_size=96)
        state = official(network, side=7)
        # A plane is kept by bicubic interpolation, at the places of the new cells.
        rows = torch.arange(7.0)[:, None].expand(7, 7).flatten()
        state[TABLE][21:] = rows[:, None]
        report = load(network, state, tmp_path)
        assert report.resized == ["fusion.visual_positions"]
        assert torch.equal(network.fusion.text_positions, state[TABLE][1:21])
        torch.testing.assert_close(network.fusion.visual_positions[3:6], torch.full((3, 16), 3.0))
        assert any("7 x 7" in note and "3 x 3" in note for note in report.notes)

    @pytest.mark.parametrize("rows", [9, 57])  # 57: 20 words and 6 x 6 cells, or 40 words and 4 x 4
    def test_a_table_that_cannot_be_split_is_refused_by_its_length(self, tmp_path, rows):
        network = build()
        state = official(network)
        state[TABLE] = torch.randn(rows, 16)
        with pytest.raises(UserError, match=f"{rows} rows"):
            load(network, state, tmp_path)

    def test_positions_of_our_own_files_are_fitted_too(self, tmp_path):
        larger, network = build(image_size=160, text_length=24), build()
        report = load(network, larger.state_dict(), tmp_path)
        assert sorted(report.resized) == ["fusion.text_positions", "fusion.visual_positions"]


class TestParts:
    def test_detr_fills_the_visual_branch(self, network, tmp_path):
        state = detr(network)
        report = load(network, state, tmp_path, "visual")
        assert sorted(report.matched) == sorted(network.visual.state_dict())
        assert all(re.search("decoder|class_embed|bbox_embed|query_embed", name) for name in report.unexpected)
        assert len(report.unexpected) == len(state) - len(report.matched)
        name = "transformer.encoder.layers.1.self_attn.in_proj_weight"
        assert torch.equal(network.visual.state_dict()[name], state[name])

    @pytest.mark.parametrize("name", ["transformer.encoder.layers.2.norm1.weight", "mask_head.lay1.weight"])
    def test_what_else_detr_holds_is_refused_by_name(self, network, tmp_path, name):
        with pytest.raises(UserError, match=re.escape(name)):
            load(network, detr(network) | {name: torch.randn(3)}, tmp_path, "visual")

    @pytest.mark.parametrize("part", ["visual", "visual.backbone", "text"])
    @pytest.mark.parametrize("ours", [True, False])
    def test_a_file_of_a_whole_network_fills_each_part(self, network, tmp_path, part, ours):
        other = build()
        state = official(other)
        if ours:
            state = {name: torch.randn_like(each) for name, each in other.state_dict().items()}
        report = load(network, state, tmp_path, part)
        assert sorted(report.matched) == sorted(network.get_submodule(part).state_dict())

    @pytest.mark.parametrize("part", ["visual", "text"])
    def test_a_vltvg_of_ours_fills_each_part(self, network, tmp_path, part):
        sizes = EncoderSizes(16, 2, 24, 1)
        other = VLTVG(copy.deepcopy(network.visual), build_bert(BERT), sizes, text_dim=24, text_layers=(2,))
        state = {name: torch.randn_like(each) for name, each in other.state_dict().items()}
        report = load(network, state, tmp_path, part)
        assert sorted(report.matched) == sorted(network.get_submodule(part).state_dict())

    def test_bert_fills_the_text(self, network, tmp_path):
        own = network.text.state_dict()
        state = {
            f"bert.{name.replace('LayerNorm.weight', 'LayerNorm.gamma')}": torch.randn_like(own[name]) for name in own
        }
        beside = {"bert.pooler.dense.bias": torch.randn(24), "cls.predictions.bias": torch.randn(40)}
        report = load(network, state | beside, tmp_path, "text")
        assert sorted(report.matched) == sorted(own)
        assert len(report.unexpected) == 2

    @pytest.mark.parametrize(
        ("part", "prefix"), [("visual", ""), ("text", "textmodel."), ("visual.backbone", "visumodel.backbone.0.body.")]
    )
    def test_a_file_of_a_part_is_refused_for_the_whole_with_the_way_to_name_it(self, network, tmp_path, part, prefix):
        state = official(network)
        below = {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}
        with pytest.raises(UserError, match=re.escape(f"model.checkpoint={{{part}: FILE}}")):
            load(network, detr(network) if part == "visual" else below, tmp_path)

    def test_deformable_detr_is_refused_with_the_part_that_fits(self, network, tmp_path):
        state = detr(network) | {"transformer.encoder.layers.0.self_attn.sampling_offsets.weight": torch.randn(2, 2)}
        with pytest.raises(UserError, match=r"model\.checkpoint\.visual\.backbone"):
            load(network, state, tmp_path, "visual")
