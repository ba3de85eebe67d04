"""Files of VLTVG, loaded into a grounding network as a recipe names them.

Names and values are those of the fixture that the official code computed. The ResNet, which the fixture leaves out, has
the names that it has in the official network with a ResNet-50, all of whose tensors are listed beside the fixture.
"""

import argparse
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.detr.backbones import build_single_map
from models.detr.published import describe as describe_detector
from models.detr.published_backbones import adapt_backbone
from models.families import guess_family
from models.grounding.names import describe
from models.grounding.published import adapt_grounder, adapt_visual
from models.grounding.transvg import TransVG, TransVGSizes, build_transvg
from models.grounding.vltvg import VLTVG, VLTVGSizes, build_vltvg
from models.text import BertSizes, adapt_bert
from vision_train.checkpoints.start import load_start
from vision_train.errors import UserError
from vision_train.recipe.sections import Model

GOLDEN = Path(__file__).parents[1] / "golden" / "vltvg"
OF_R50 = json.loads((GOLDEN / "r50_names.json").read_text())["shapes"]
SETTINGS = json.loads((GOLDEN / "model.json").read_text())["settings"]
BERT = BertSizes(**SETTINGS["bert"])
SIZES = {
    "dim": SETTINGS["hidden_dim"],
    "heads": SETTINGS["nheads"],
    "hidden": SETTINGS["decoder_feedforward"],
    "visual_layers": SETTINGS["enc_layers"],
    "stages": SETTINGS["stages"],
}
OFFSETS = [f"trans_decoder.decoder.extra_encoder_layers.0.img2img_attn.pos_{axis}" for axis in "xy"]
POOLER = [f"bert.pooler.dense.{kind}" for kind in ("bias", "weight")]


def small_backbone():
    torch.manual_seed(0)
    return build_single_map("resnet50", layers=[1, 1, 1, 1], channels=[2, 4, 4, 8])


def build(**changed) -> VLTVG:
    return build_vltvg(*small_backbone(), BERT, VLTVGSizes(**{**SIZES, **changed}))


def official() -> dict[str, torch.Tensor]:
    """The fixture's file, with a small ResNet and as wide a feed-forward network in the visual branch as elsewhere."""
    tensors = load_file(GOLDEN / "model.safetensors")
    state = {name.removeprefix("state/"): each for name, each in tensors.items() if name.startswith("state/")}
    visual = build().visual.state_dict()
    for name, each in visual.items():
        if name.startswith("backbone."):
            state[f"backbone.0.body.{name.removeprefix('backbone.')}"] = torch.randn_like(each)
        elif name.startswith("input_proj.") or ".linear" in name:
            state[name.replace("transformer.", "trans_encoder.")] = torch.randn_like(each)
    return state


def adapt(state, module):
    """What the task of grounding answers."""
    if isinstance(module, VLTVG | TransVG):
        return adapt_grounder(state, module)
    if hasattr(module, "input_proj"):
        return adapt_visual(state, module)
    return adapt_bert(state, module) if hasattr(module, "embeddings") else adapt_backbone(state, module)


def load(network, state, tmp_path, part=""):
    file = tmp_path / "VLTVG_R50_unc.pth"
    args = argparse.Namespace(lr=1e-4, freeze_modules=["bert"], train_transforms=[{"type": "ColorJitter"}])
    torch.save({"model": state, "epoch": 89, "args": args}, file)
    (report,) = load_start(network, Model(checkpoint={part: str(file)} if part else str(file)), adapt=adapt, heads=())
    return report


class TestWholeFile:
    def test_every_tensor_arrives_and_pooler_and_offsets_alone_are_left(self, tmp_path):
        network, state = build(), official()
        report = load(network, state, tmp_path)
        own = network.state_dict()
        assert not report.missing
        assert not report.resized
        assert sorted(report.unexpected) == sorted(POOLER + OFFSETS)
        assert sorted(report.matched) == sorted(own)
        for ours, theirs in (
            ("visual.backbone.layer4.0.conv2.weight", "backbone.0.body.layer4.0.conv2.weight"),
            ("visual.transformer.encoder.layers.1.linear1.bias", "trans_encoder.encoder.layers.1.linear1.bias"),
            ("text.encoder.layer.4.output.dense.weight", "bert.encoder.layer.4.output.dense.weight"),
            ("verification.tf_sigma", "trans_decoder.decoder.extra_encoder_layers.0.tf_sigma"),
            ("reasoning.layers.2.ffn.3.weight", "trans_decoder.decoder.layers.2.ffn.3.weight"),
            ("box_head.layers.2.bias", "bbox_embed.layers.2.bias"),
        ):
            assert torch.equal(own[ours], state[theirs])

    @pytest.mark.parametrize("masked", [True, False])
    def test_that_it_has_learnt_with_padding_is_told_where_padding_is_masked(self, tmp_path, masked):
        report = load(build(mask_padding=masked), official(), tmp_path)
        assert any("model.args.mask_padding=false" in note for note in report.notes) == masked

    def test_our_own_file_is_taken_whole_and_nothing_is_said_of_padding(self, tmp_path):
        network = build()
        state = {name: torch.randn_like(each) for name, each in network.state_dict().items()}
        report = load(network, state, tmp_path)
        assert sorted(report.matched) == sorted(state)
        assert not report.unexpected
        assert not report.notes

    def test_a_quantised_head_starts_anew_and_is_told(self, tmp_path):
        report = load(build(bins=8), official(), tmp_path)
        assert len(report.fresh) == 6
        assert all(name.startswith("bin_head.") for name in report.fresh)
        assert any("quantised" in note for note in report.notes)

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("trans_decoder.decoder.extra_encoder_layers.0.tf_scale", "verification.tf_scale"),
            ("trans_decoder.decoder.layers.1.norm.2.bias", "reasoning.layers.1.norm.2.bias"),
            ("trans_encoder.encoder.layers.0.norm1.weight", "visual.transformer.encoder.layers.0.norm1.weight"),
            ("backbone.0.body.bn1.running_var", "visual.backbone.bn1.running_var"),
            ("bert.embeddings.LayerNorm.bias", "text.embeddings.LayerNorm.bias"),
        ],
    )
    def test_a_tensor_that_is_missing_is_refused_by_name(self, tmp_path, theirs, ours):
        network, state = build(), official()
        del state[theirs]
        before = {key: each.clone() for key, each in network.state_dict().items()}
        with pytest.raises(UserError, match=re.escape(ours)):
            load(network, state, tmp_path)
        assert all(torch.equal(each, before[key]) for key, each in network.state_dict().items())

    @pytest.mark.parametrize(
        "name",
        [
            "trans_decoder.decoder.layers.3.norm.0.weight",
            "trans_decoder.decoder.extra_encoder_layers.1.norm_img.weight",
            "trans_encoder.encoder.norm.weight",
            "bert.encoder.layer.5.output.dense.bias",
            "something_else.weight",
        ],
    )
    def test_a_tensor_without_a_place_is_refused_by_name(self, tmp_path, name):
        with pytest.raises(UserError, match=re.escape(name.removeprefix("bert."))):
            load(build(), official() | {name: torch.randn(3)}, tmp_path)

    def test_offsets_of_another_reach_are_refused(self, tmp_path):
        with pytest.raises(UserError, match=re.escape(OFFSETS[0])):
            load(build(), official() | {OFFSETS[0]: torch.randn(33, 8)}, tmp_path)


def test_the_official_network_with_a_resnet_50_has_our_names_and_shapes():
    with torch.device("meta"):
        network = build_vltvg(*build_single_map("resnet50"), BertSizes(), VLTVGSizes())
        state = {name: torch.empty(shape) for name, shape in OF_R50.items()}
    own = {name: tuple(each.shape) for name, each in network.state_dict().items()}
    adapted = {name: tuple(each.shape) for name, each in adapt_grounder(state, network).items()}
    assert {name: shape for name, shape in adapted.items() if name in own} == own
    assert sorted(adapted.keys() - own.keys()) == sorted(POOLER + OFFSETS)


def test_the_fixture_has_the_names_of_that_network():
    small, large = (
        {re.sub(r"\d+", "*", name) for name in names if "backbone" not in name} for names in (official(), OF_R50)
    )
    assert small == large


class TestParts:
    @pytest.mark.parametrize("part", ["visual", "visual.backbone", "text"])
    @pytest.mark.parametrize("kind", ["vltvg", "transvg"])
    def test_it_fills_each_part_of_either_network(self, tmp_path, part, kind):
        network = build()
        if kind == "transvg":
            shared = {name: SIZES[name] for name in ("dim", "heads", "hidden", "visual_layers")}
            sizes = TransVGSizes(image_size=128, text_length=8, text_layer=5, fusion_layers=1, **shared)
            network = build_transvg(*small_backbone(), BERT, sizes)
        report = load(network, official(), tmp_path, part)
        assert sorted(report.matched) == sorted(network.get_submodule(part).state_dict())

    def test_a_file_of_transvg_is_refused_for_the_whole(self, tmp_path):
        state = {"vl_transformer.encoder.layers.0.norm1.weight": torch.ones(3)}
        state["visumodel.transformer.encoder.layers.0.self_attn.in_proj_weight"] = torch.ones(3, 3)
        with pytest.raises(UserError, match=r"no file of VLTVG.*model\.checkpoint=\{visual: FILE\}"):
            load(build(), state, tmp_path)


@pytest.mark.parametrize("ours", [True, False])
def test_weights_tell_their_sizes(ours):
    state = build(bins=8).state_dict() if ours else official()
    (told,) = describe(state).values()
    for each in ("VLTVG", "width 16", "2 visual layers and 3 stages", "BERT of 5 layers"):
        assert each in told
    assert ("8 bins" in told) == ours
    assert not describe_detector(state)
    if not ours:
        assert guess_family(state) == "VLTVG"
