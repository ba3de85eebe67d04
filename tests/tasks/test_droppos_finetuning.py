"""Fine-tuning from official DropPos files, through the shipped recipe: what is loaded, and what the network then says.

Item 13 of the acceptance list in ``docs/methods/droppos.md``; what the official code computed stands in
``tests/golden/droppos``. The recipe's network is cut down to the fixtures' size; nothing else of it changes.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vision_train.checkpoints import load_weights
from vision_train.recipe import load_recipe
from vision_train.tasks.classification.task import build
from vision_train.tasks.pretraining.task import build as build_pretraining

GOLDEN = Path(__file__).parents[1] / "golden" / "droppos"
FILES = json.loads((GOLDEN / "manifest.json").read_text())["files"]
MODELS = FILES["finetune.safetensors"]["models"]
FINETUNED = load_file(GOLDEN / "finetune.safetensors")
PRETRAINED, MULTITASK = (
    {name.removeprefix("state."): t for name, t in load_file(file).items() if name.startswith("state.")}
    for file in (GOLDEN / "pretrain.safetensors", GOLDEN / "multitask.safetensors")
)
CLASSES = [f"class {index}" for index in range(7)]
NAMES = pytest.mark.parametrize("name", MODELS)
AVERAGE_HEAD = ["fc_norm.bias", "fc_norm.weight", "head.bias", "head.weight"]


def recipe_of(config, *overrides, name="droppos/finetune_vit_base"):
    shape = {"patch_size": "patch", "embed_dim": "dim", "depth": "depth", "num_heads": "heads"}
    sizes = [f"model.args.{ours}={config[theirs]}" for ours, theirs in shape.items()]
    values = ["model.name=vit", f"data.image_size={config['img']}", *sizes, *overrides]
    return load_recipe(name, values, runnable=False)


def task_of(name):
    """The recipe's task at the size and pooling of one of the fixtures."""
    config = FILES["pretrain.safetensors"]["config"] | {"img": MODELS[name]["img"]}
    pool = "avg" if MODELS[name]["global_pool"] else "token"
    return build(recipe_of(config, f"model.args.global_pool={pool}"), CLASSES)


def official_file(folder, state):
    """A file as the released code writes it: the model's *name* stands under ``model``."""
    content = {"epoch": 799, "model": "DropPos_mae_vit_base_patch16_dec512d2b", "optimizer": {"state": {}}}
    content["state_dict"] = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(content, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


def load(task, path):
    """Load a checkpoint as a run does."""
    share = task.recipe.model.min_matched_share
    return load_weights(task.network, path, adapt=task.adapt_published, heads=task.heads, min_matched_share=share)


@pytest.fixture
def droppos(tmp_path):
    return official_file(tmp_path, PRETRAINED)


@pytest.fixture
def multitask(tmp_path):
    return official_file(tmp_path, MULTITASK)


@pytest.fixture
def mae(tmp_path):
    """A file as MAE publishes it with its decoder, around the same encoder; its other tensors predict pixels."""
    of_droppos = ("mask_pos_token", "decoder_pred.weight", "decoder_pred.bias")
    state = {name: tensor for name, tensor in PRETRAINED.items() if name not in of_droppos}
    state |= {"mask_token": torch.zeros(1, 1, 32), "decoder_pos_embed": torch.zeros(1, 65, 32)}
    state |= {"decoder_pred.weight": torch.zeros(192, 32), "decoder_pred.bias": torch.zeros(192)}
    torch.save({"model": state}, tmp_path / "mae.pth")
    return tmp_path / "mae.pth"


def give_head(task, name):
    """Put the fixture's classifier on, and its norm of average pooling, but not its positions."""
    state = {key.removeprefix(f"{name}.state."): t for key, t in FINETUNED.items() if key.startswith(f"{name}.state.")}
    positions = state.pop("pos_embed")
    assert not task.network.load_state_dict(state, strict=False).unexpected_keys
    assert set(state) == {key for key in task.network.state_dict() if key.startswith(task.heads)}
    return positions


def logits(task, name):
    with torch.no_grad():
        return task.eval()(FINETUNED[f"{name}.in.images"])


@NAMES
def test_item_13_missing_and_unexpected_keys_are_the_official_ones(name, droppos):
    report = load(task_of(name), droppos)
    assert sorted(report.missing + report.reinitialised) == MODELS[name]["missing_keys"]
    assert sorted(report.unexpected) == MODELS[name]["unexpected_keys"]
    assert report.missing == []
    assert report.matched_share == 1
    assert report.resized == ([] if MODELS[name]["img"] == 64 else ["pos_embed"])
    assert report.family == "DropPos pre-training"


@NAMES
def test_item_13_logits_are_the_official_ones_at_any_size(name, droppos):
    task = task_of(name)
    load(task, droppos)
    positions = give_head(task, name)
    torch.testing.assert_close(task.network.pos_embed.data, positions, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits(task, name), FINETUNED[f"{name}.out.logits"], atol=1e-5, rtol=0)


@NAMES
def test_item_13_positions_are_fixed_and_blocks_dropped_as_officially(name):
    network = task_of(name).network
    assert network.pos_embed.requires_grad == MODELS[name]["pos_embed_requires_grad"]
    dropped = [getattr(block.drop_path1, "drop_prob", 0.0) for block in network.blocks]
    assert dropped == pytest.approx(MODELS[name]["drop_path_per_block"])
    assert dropped == [getattr(block.drop_path2, "drop_prob", 0.0) for block in network.blocks]


def test_item_13_positions_at_the_native_size_are_the_fixed_table_itself():
    task = task_of("gap64")
    torch.testing.assert_close(task.network.pos_embed.data, PRETRAINED["pos_embed"], atol=1e-6, rtol=0)


def test_item_13_positions_at_another_size_are_resized_and_no_table_of_that_size(droppos):
    task = task_of("gap96")
    fresh = task.network.pos_embed.clone()
    load(task, droppos)
    assert (task.network.pos_embed - fresh).abs().max() > 0.1


def test_item_13_a_fresh_head_is_almost_zero():
    """The standard deviation is the recipe's 2e-5; the norm of average pooling starts neutral."""
    network = task_of("gap64").network
    assert network.head.weight.std().item() == pytest.approx(2e-5, rel=0.2)
    assert network.head.weight.abs().max() > 0
    assert not network.head.bias.any()
    assert torch.equal(network.fc_norm.weight, torch.ones(48))
    assert network.fc_norm.eps == network.blocks[0].norm1.eps == 1e-6


def test_item_13_average_pooling_leaves_the_class_token_out(droppos):
    task = task_of("gap64")
    load(task, droppos)
    give_head(task, "gap64")
    tokens = task.eval().network.forward_features(FINETUNED["gap64.in.images"])
    pooled = task.network.head(task.network.fc_norm(tokens[:, 1:].mean(1)))
    torch.testing.assert_close(logits(task, "gap64"), pooled, atol=1e-5, rtol=0)


def encoder_names(state):
    return {name for name in state if name.startswith(("cls_token", "pos_embed", "patch_embed.", "blocks."))}


def test_multi_task_file_is_not_mistaken_for_dinov2(multitask):
    """timm takes any file with a ``mask_token`` for DINOv2."""
    task = build(recipe_of(FILES["multitask.safetensors"]["config"]), CLASSES)
    report = load(task, multitask)
    loaded, expected = task.network.state_dict(), encoder_names(MULTITASK)
    assert set(report.matched) == expected
    assert all(torch.equal(loaded[name], MULTITASK[name]) for name in expected)
    assert sorted(report.reinitialised) == AVERAGE_HEAD
    assert set(report.unexpected) == MULTITASK.keys() - expected
    assert {"mask_token", "aux_decoder_pos_embed", "mask_pos_token"} <= set(report.unexpected)
    assert (report.family, report.missing, report.resized) == ("DropPos pre-training", [], [])


@pytest.mark.parametrize("recipe", ["droppos/vit_base", "droppos/vit_base_pixels"])
def test_multi_task_file_goes_on_in_pre_training(recipe, multitask):
    config = FILES["multitask.safetensors"]["config"]
    decoder = f"method.decoder={{width: {config['ddim']}, depth: {config['ddepth']}, heads: {config['dheads']}}}"
    task = build_pretraining(recipe_of(config, decoder, name=recipe), [])
    report = load(task, multitask)
    assert report.matched == list(task.network.state_dict())
    pixels = {name for name in MULTITASK if name.startswith(("aux_decoder_", "mask_token"))}
    assert set(report.unexpected) == (set() if "pixels" in recipe else pixels)
    assert torch.equal(task.network.mask_pos_token, MULTITASK["mask_pos_token"])
    assert torch.equal(task.network.decoder.pred.weight, MULTITASK["decoder_pred.weight"])


def test_mae_file_loads_for_comparison(mae, droppos):
    ours, theirs = task_of("gap64"), task_of("gap64")
    report, _ = load(theirs, mae), load(ours, droppos)
    assert report.family == "MAE pre-training"
    assert sorted(report.reinitialised) == AVERAGE_HEAD
    assert (report.missing, report.matched_share) == ([], 1)
    assert {"mask_token", "decoder_pos_embed", "decoder_pred.weight", "norm.weight"} <= set(report.unexpected)
    for task in (ours, theirs):
        give_head(task, "gap64")
    assert torch.equal(logits(ours, "gap64"), logits(theirs, "gap64"))


def test_mae_file_starts_a_pre_training_by_its_encoder(mae):
    config = FILES["pretrain.safetensors"]["config"]
    task = build_pretraining(recipe_of(config, "method.decoder={width: 32, heads: 4}", name="droppos/vit_base"), [])
    report = load(task, mae)
    assert report.missing == []
    assert all(name.startswith("decoder.") or name == "mask_pos_token" for name in report.reinitialised)
    assert "mask_pos_token" in report.reinitialised
    assert {"decoder_embed.weight", "decoder_pred.weight", "mask_token"} <= set(report.unexpected)
    assert torch.equal(task.network.encoder.cls_token, PRETRAINED["cls_token"])
