"""``vision-train inspect``: what a file is, and what a model would take from it."""

import argparse
import json
import re
import sys
import types

import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from models.detr.backbones import build_backbone
from models.detr.network import RelationDetr
from models.detr.transformer import TransformerSizes
from models.mil.networks import NETWORKS
from models.vit import build_model
from vision_train.artefacts import Table
from vision_train.cli.inspect import _print_table, inspect
from vision_train.errors import UserError

app = typer.Typer()
app.command()(inspect)


@pytest.fixture
def deit(tmp_path):
    """A file in DeiT's layout: weights under `model`, training arguments in a Namespace."""
    model = build_model("vit_tiny_patch16_224", num_classes=10, image_size=224)
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "deit.pth")
    return tmp_path / "deit.pth"


def run(*arguments, exit_code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == exit_code
    return result.stdout


def test_says_what_a_file_is(deit):
    lines = dict(line.split("  ", 1) for line in run(deit).splitlines())
    facts = {name: value.strip() for name, value in lines.items()}
    assert facts["taken from"] == "model"
    assert facts["looks like"] == "ViT"
    assert facts["parameters"] == "5,526,346"
    assert facts["dtypes"] == "float32"
    assert facts["names"].startswith("cls_token, pos_embed, ")


def test_matches_a_model_in_plain_lines(deit):
    output = run(deit, "--model", "vit_tiny_patch16_224", "--image-size", 384, "--num-classes", 3)
    assert "fills 100 % of the model; resized: pos_embed (1x197x192 -> 1x577x192)" in output
    row = next(line for line in output.splitlines() if "blocks.*.attn.qkv.weight" in line)
    assert row.split()[:5] == ["matched", "blocks.*.attn.qkv.weight", "12", "576x192", "576x192"]
    assert output.splitlines()[-1].startswith("Fits: 100 % of the model would be filled")
    assert "\x1b" not in output


def test_many_classes_are_counted_and_cut_short(tmp_path):
    state = {"head.weight": torch.zeros(10, 2), "head.bias": torch.zeros(10)}
    torch.save({"state_dict": state, "classes": [f"c{k}" for k in range(10)]}, tmp_path / "w.pt")
    assert "classes            10: c0, c1, c2, c3, c4, c5, c6, c7, …\n" in run(tmp_path / "w.pt")
    torch.save({"state_dict": state, "classes": ["a", "b"]}, tmp_path / "w.pt")
    assert "classes            2: a, b\n" in run(tmp_path / "w.pt")


def test_lines_of_a_pipe_are_never_folded(tmp_path):
    name = "a." * 150 + "weight"
    torch.save({name: torch.zeros(2), "b": torch.zeros(2)}, tmp_path / "w.pt")
    output = run(tmp_path / "w.pt", "--model", "resnet18", exit_code=2)
    assert ["unexpected", name] in [line.split()[:2] for line in output.splitlines()]


def test_json_holds_every_tensor(deit):
    content = json.loads(run(deit, "--model", "vit_tiny_patch16_224", "--json"))
    assert content["tensors"]["cls_token"] == {"shape": [1, 1, 192], "dtype": "float32"}
    assert content["match"]["matched_share"] == 1
    assert content["fits"] is True
    outcomes = {entry["name"]: entry["outcome"] for entry in content["match"]["entries"]}
    assert outcomes["blocks.11.mlp.fc2.bias"] == "matched"
    assert outcomes["head.weight"] == "reinitialised"


def test_a_file_that_fit_would_refuse_is_shown_and_fails(deit):
    output = run(deit, "--model", "resnet18", exit_code=2)
    assert "fills 0 % of the model" in output
    assert "missing" in output
    assert output.splitlines()[-1] == (
        "Does not fit: only 0 % of the model would be filled; `fit` would refuse it, "
        "as it asks for 90 % (model.min_matched_share=0.9)."
    )
    assert json.loads(run(deit, "--model", "resnet18", "--json", exit_code=2))["fits"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model", "vit_tiny_patch16"],
            "--model: no model is called 'vit_tiny_patch16'.*; near to it: vit_tiny_patch16_",
        ),
        (["--model", "vit_tinyy"], "near to it: .*vit_tiny_patch16_224"),
        (["--model", "vit_tiny_patch16_224", "--image-size", "100"], "100 is no multiple, 96 and 112 fit"),
        (["--num-classes", "3"], "name it with --model"),
    ],
)
def test_mistakes_in_options(deit, options, message):
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(app, [str(deit), *options], catch_exceptions=False)


def test_files_for_bags_are_named_with_what_a_recipe_says_of_them(tmp_path):
    torch.save({"model": NETWORKS["acmil_ga"](24, 16, 3, branches=2).state_dict()}, tmp_path / "acmil.pth")
    facts = json.loads(run(tmp_path / "acmil.pth", "--json"))
    assert facts["looks like"] == "ACMIL-GA"
    assert facts["in a recipe"] == (
        "model.name=acmil_ga 'model.args={width: 16, branches: 2, attention_width: 128}', for 24 features an instance "
        "and 3 classes"
    )
    torch.save(NETWORKS["abmil"](24, 16, 3, gated=False).state_dict(), tmp_path / "abmil.pth")
    assert "model.name=abmil 'model.args={width: 16, attention_width: 128, gated: false}'" in run(
        tmp_path / "abmil.pth"
    )


def test_item_1_an_official_acmil_file_is_inspected(tmp_path, monkeypatch):
    """With settings of a class that only the released code has."""
    struct = type("Struct", (), {"__module__": "utils.utils"})
    content = {"model": NETWORKS["acmil_mha"](24, 16, 3).state_dict(), "epoch": 1, "config": struct()}
    with monkeypatch.context() as patch:
        for name in ("utils", "utils.utils"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["utils.utils"].Struct = struct
        torch.save(content, tmp_path / "acmil.pth")
    output = run(tmp_path / "acmil.pth")
    assert "looks like         ACMIL-MHA\n" in output
    assert "taken from         model\n" in output


def test_a_detector_says_in_which_recipe_it_starts(tmp_path, monkeypatch):
    # It tries all models of timm, which takes a minute, and none of them is a detector.
    monkeypatch.setattr("vision_train.run.inspection.fitting_model", lambda *_: pytest.fail("needless"))
    with torch.device("meta"):
        backbone, channels = build_backbone("resnet50")
        network = RelationDetr(backbone, channels, 91, TransformerSizes(queries=300))
    state = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in network.state_dict().items()}
    torch.save({"model": state}, tmp_path / "detector.pth")
    output = run(tmp_path / "detector.pth")
    assert "looks like         Relation-DETR\n" in output
    assert "Relation-DETR, 91 classes, 300 queries" in output
    assert "relation_detr/resnet50 model.checkpoint=FILE 'model.args={queries: 300}'" in output
    assert "no model of timm" not in output


@pytest.fixture
def hub_folder(tmp_path):
    """A model of timm with its configuration, as hubs keep it, and two images."""
    model = build_model("vit_tiny_patch16_224", num_classes=2, image_size=224)
    (tmp_path / "hub").mkdir()
    save_file(model.state_dict(), tmp_path / "hub" / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "label_names": ["cat", "dog"],
        "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 224, 224], "crop_pct": 0.9},
    }
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    for number, colour in enumerate([(200, 30, 30), (30, 30, 200)]):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{number}.png")
    return tmp_path


def test_names_the_model_pixels_classes_and_recipe_with_who_says_so(hub_folder):
    facts = json.loads(run(hub_folder / "hub" / "model.safetensors", "--json"))
    assert facts["architecture"].startswith("vit_tiny_patch16_224 of timm, by its shapes")
    assert facts["input size"].startswith("224 (")
    assert "mean [0.5,0.5,0.5] (" in facts["normalisation"]
    assert "config.json" in facts["normalisation"]
    assert "interpolation bicubic (assumed" in facts["resizing"]
    assert facts["classes"] == ["cat", "dog"]
    # Its recipe crops otherwise.
    command = "vision-train fit classification/vit_tiny augment.eval.crop_share=null model.checkpoint="
    assert facts["recipe"].startswith(command)


def test_what_nobody_says_of_the_pixels_is_assumed_aloud(deit):
    facts = json.loads(run(deit, "--json"))
    assert facts["architecture"].startswith("vit_tiny_patch16_224 of timm")
    assert facts["normalisation"].count("assumed") == 2


def test_a_model_without_a_recipe_of_its_own_gets_the_nearest(tmp_path):
    model = build_model("resnet18", num_classes=3, image_size=64)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    facts = json.loads(run(tmp_path / "w.pth", "--json"))
    assert facts["architecture"].startswith("one of resnet18, resnetblur18 of timm")
    assert " model.name=NAME " in facts["recipe"]
    torch.save(build_model("vit_tiny_patch16_384", num_classes=0, image_size=96).state_dict(), tmp_path / "w.pth")
    assert "data.image_size=96 augment.eval.crop_share=null" in json.loads(run(tmp_path / "w.pth", "--json"))["recipe"]


def test_timm_s_own_weights_of_a_model_are_told_where_nobody_says_how_images_were_prepared(deit):
    assert "vit_tiny_patch16_224.augreg_in21k_ft_in1k have mean [0.5,0.5,0.5]" in run(deit)


def test_what_fit_refuses_for_a_small_tensor_does_not_fit(deit):
    state = build_model("vit_tiny_patch16_224", num_classes=10, image_size=224).state_dict()
    del state["cls_token"]
    torch.save(state, deit)
    output = run(deit, "--model", "vit_tiny_patch16_224", exit_code=2)
    assert "Does not fit" in output.splitlines()[-1]
    assert "cls_token" in output.splitlines()[-1]
    content = json.loads(run(deit, "--model", "vit_tiny_patch16_224", "--json", exit_code=2))
    assert content["fits"] is False
    assert "model.fresh=[cls_token]" in content["match"]["problems"][0]
    assert "but `fit` would refuse it" in content["architecture"]


def test_one_of_several_networks_is_named_by_its_key(tmp_path):
    networks = {name: build_model("test_vit", num_classes=2, image_size=160).state_dict() for name in ("net1", "net2")}
    torch.save(networks, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"`inspect` takes --key net\d"):
        CliRunner().invoke(app, [str(tmp_path / "w.pth")], catch_exceptions=False)
    facts = json.loads(run(tmp_path / "w.pth", "--key", "net2", "--json"))
    assert facts["taken from"] == "net2"
    assert " model.checkpoint_key=net2 " in facts["recipe"]


def test_the_order_of_classes_in_lightning_s_settings_is_shown(tmp_path):
    state = build_model("test_vit", num_classes=2, image_size=160).state_dict()
    torch.save({"state_dict": state, "hyper_parameters": {"class_names": ["dog", "cat"]}}, tmp_path / "w.ckpt")
    facts = json.loads(run(tmp_path / "w.ckpt", "--model", "test_vit", "--json"))
    assert facts["classes"] == ["dog", "cat"]
    shapes = {entry["name"]: entry["model_shape"] for entry in facts["match"]["entries"]}
    assert shapes["head.weight"][0] == 2


def test_features_show_what_each_assumption_does(hub_folder):
    images = [hub_folder / "0.png", hub_folder / "1.png"]
    result = json.loads(run(hub_folder / "hub" / "model.safetensors", "--json", "--features", *images))["features"]
    assert result["columns"] == ["assumption", "0.png", "1.png", "images alike", "length"]
    rows = {row[0]: row[1:] for row in result["rows"]}
    assert rows["as loaded"][:2] == ["1.000", "1.000"]
    assert rows["normalisation: ImageNet's mean and std"][0] != "1.000"
    assert rows["layout: names and shapes as in the file"] == rows["as loaded"]
    assert float(rows["no weights at all"][0]) < 0.9


def test_features_of_weights_that_fit_would_refuse_say_so(hub_folder):
    state = build_model("test_vit", num_classes=2, image_size=160).state_dict()
    del state["cls_token"]
    torch.save(state, hub_folder / "w.pth")
    arguments = hub_folder / "w.pth", "--model", "test_vit", "--features", hub_folder / "0.png"
    output = run(*arguments, exit_code=2)
    assert output.index("`fit` would refuse the weights") < output.index("no weights at all")
    assert "cls_token" in json.loads(run(*arguments, "--json", exit_code=2))["features"]["problems"][0]


def test_features_of_a_run_of_ours_are_those_of_its_own_network(hub_folder):
    args = {"patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 3}
    recipe = {"name": "mine", "data": {"image_size": 32}, "model": {"name": "vit", "args": args}}
    state = build_model("vit", num_classes=2, image_size=32, **args).state_dict()
    content = {"state_dict": {f"network.{name}": each for name, each in state.items()}, "recipe": recipe}
    torch.save(content | {"pytorch-lightning_version": "2", "classes": ["a", "b"]}, hub_folder / "best.ckpt")
    features = json.loads(run(hub_folder / "best.ckpt", "--json", "--features", hub_folder / "0.png"))["features"]
    assert not features["problems"]
    rows = {row[0]: row[1:] for row in features["rows"]}
    assert rows["layout: names and shapes as in the file"] == rows["as loaded"]


def test_features_crop_as_the_weights_say(hub_folder):
    Image.effect_mandelbrot((60, 40), (-3, -2.5, 2, 2.5), 50).convert("RGB").save(hub_folder / "0.png")
    file, lengths = hub_folder / "hub" / "config.json", []
    for share in (0.9, 0.5):
        config = json.loads(file.read_text())
        config["pretrained_cfg"]["crop_pct"] = share
        file.write_text(json.dumps(config))
        output = run(hub_folder / "hub" / "model.safetensors", "--json", "--features", hub_folder / "0.png")
        lengths.append(json.loads(output)["features"]["rows"])
    assert lengths[0] != lengths[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--features", "absent.png"], "absent.png"), (["more.pth"], "more.pth: one file is inspected at a time")],
)
def test_mistakes_in_images(hub_folder, arguments, message):
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(app, [str(hub_folder / "hub" / "model.safetensors"), *arguments], catch_exceptions=False)


@pytest.mark.parametrize("columns", [80, 200])
def test_names_are_whole_on_a_terminal(columns, monkeypatch, capsys):
    """They are copied from there; where a table is too wide, its rows stand on lines of their own."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    name = "transformer.decoder.layers.*.cross_attention.sampling_offsets.weight"
    titles = ["outcome", "name", "tensors", "shape in file", "shape in model", "parameters", "share of model"]
    rows = [["matched", name, 12, "1152 x 384", "1152 x 384", 5308416, "24.4 %"], ["missing", "b", 1, "", "8", 8, ""]]
    _print_table(Table("checkpoint", "What was filled", titles, rows, ""), names=2)
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert any(name in line for line in lines)
    assert max(len(line.rstrip()) for line in lines) <= columns
    told = " ".join(" ".join(lines).split())
    for figure in ("5,308,416", "24.4 %", "1152 x 384"):
        assert figure in told
    if columns == 80:
        assert "parameters 5,308,416 share of model 24.4 %" in told
