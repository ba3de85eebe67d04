"""Pre-training from the command line: from a folder of photos to a fine-tuned classifier, and what is refused."""

import json
import re
import shutil
from pathlib import Path

import pytest

PRETRAIN = """
description: A network of 2,536 parameters.
task: pretraining
data: {image_size: 16, batch_size: 4, workers: 0}
model: {name: vit, args: {patch_size: 4, embed_dim: 8, depth: 1, num_heads: 1}}
method: {masking: {mask_ratio: 0.25}, decoder: {width: 8, depth: 1, heads: 1}}
trainer: {max_epochs: 1, accelerator: cpu}
run: {select: {metric: val/acc1, mode: max}}
"""
FINETUNE = """
description: A classifier of the same encoder.
task: classification
data: {image_size: 16, batch_size: 4, workers: 0}
model:
  name: vit
  positions: sincos
  head_std: 2.0e-5
  args: {patch_size: 4, embed_dim: 8, depth: 1, num_heads: 1, global_pool: avg}
trainer: {max_epochs: 1, accelerator: cpu}
"""
FIT = ("fit", "pre.yaml", "data.root=photos")


@pytest.fixture(autouse=True)
def recipes(place: Path) -> None:
    Path("pre.yaml").write_text(PRETRAIN)
    Path("fine.yaml").write_text(FINETUNE)


@pytest.fixture
def pretrained(cli) -> Path:
    assert cli(*FIT, "--run-dir", "pretrained").exit_code == 0
    return Path("pretrained")


def test_two_commands_lead_from_photos_to_a_classifier(cli):
    result = cli(*FIT)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    data, start, attention, assumed, steps, few, progress, headline, place = result.stdout.splitlines()
    assert data == "pre: 11 train, 1 val images without labels -> runs/pre/0"
    assert start.startswith("starting from random weights")
    assert attention.startswith("attention: sdpa")
    assert "augment.mean" in assumed
    assert steps.startswith("steps: 3 an epoch, 3 in all")
    assert few.startswith("warning: 3 optimiser steps")
    assert progress.startswith("epoch 1/1  val positions right ")
    measured = "positions right", "positions right, weighted", "hard cross-entropy", "mean grid distance, in patches"
    assert re.findall(r"val (\D+) \d", headline) == list(measured)
    assert place == "runs/pre/0/report.html"

    result = cli("fit", "fine.yaml", "data.root=photos", "model.checkpoint=runs/pre/0")
    assert result.exit_code == 0, result.output
    assert re.search(
        r"note: \d of the \d test images, such as .* are among those that .*runs/pre/0 learnt from", result.stdout
    )
    assert "best.ckpt: fills 100 % of the model; fresh head: fc_norm.weight, fc_norm.bias, head.weight" in result.stdout
    assert cli("predict", "runs/fine/0", "photos").exit_code == 0


def test_one_command_leaves_out_what_it_is_tested_on(cli):
    result = cli("fit", "fine.yaml", "data.root=photos", "run.pretrain=pre.yaml")
    assert result.exit_code == 0, result.output
    assert (
        "phase pretrain: pre\npre: 8 train, 1 val images without labels -> runs/fine/0\nleft out 3 images"
        in result.stdout
    )


def test_only_one_start_is_taken(refused):
    refused(
        *("fit", "fine.yaml", "data.root=photos", "run.pretrain=pre.yaml", "model.checkpoint=photos"),
        says=r"model\.checkpoint=.*photos and run\.pretrain=.*pre\.yaml: fine can start from one of them",
    )


def test_nothing_to_learn_is_told(cli):
    result = cli(*FIT, "method.masking.position_mask_ratio=0")
    assert result.exit_code == 0, result.output
    assert "note: method.masking drops no position, so there is nothing to learn" in result.stdout


def test_photos_need_no_class_folders_and_a_probe_may_have_some(cli):
    Path("pool/deep/er").mkdir(parents=True)
    for index, photo in enumerate(sorted(Path("photos").rglob("*.*"))):
        shutil.copy(photo, Path("pool" if index % 2 else "pool/deep/er", f"{index}{photo.suffix}"))
    result = cli("fit", "pre.yaml", "data.root=pool", "data.probe=photos", "--run-dir", "run")
    assert result.exit_code == 0, result.output
    assert "pre: 11 train, 1 val images without labels; 8 of 2 classes for the linear probe, which" in result.stdout
    assert re.search(
        r"epoch 1/1  val positions right [\d.]+ %\s+val accuracy of the linear probe [\d.]+ %", result.stdout
    )
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary.keys() >= {"val/acc1", "val/hard_ce", "val/probe_accuracy"}


def test_evaluation_takes_the_validation_images_unless_told_otherwise(cli, pretrained, refused):
    summary = json.loads((pretrained / "summary.json").read_text())
    figures = json.loads(cli("evaluate", pretrained, "--json").stdout)
    assert figures["val/samples"] == 1
    assert {key: figures[key] for key in ("val/acc1", "val/hard_ce")} == {
        key: summary[key] for key in ("val/acc1", "val/hard_ce")
    }
    assert json.loads(cli("evaluate", pretrained, "--split", "train", "--json").stdout)["train/samples"] == 11
    refused("evaluate", pretrained, "--split", "test", says=r"--split test: .*there are train, val")


def test_verbs_that_need_classes_refuse(pretrained, refused):
    refused("predict", pretrained, "photos", says="pretrained: is a run of pretraining.*model.checkpoint=pretrained")
    arms = ("pre.yaml", "fine.yaml", "data.root=photos", "--seeds", "2")
    refused("compare", *arms, says=r"pre: task=pretraining: has no test samples to be compared on; .* as run\.pretrain")


def test_a_dry_run_says_what_fit_would_do(cli, refused, place):
    before = sorted(place.rglob("*"))
    result = cli("fit", "fine.yaml", "data.root=photos", "run.pretrain=pre.yaml", "--dry-run")
    assert result.exit_code == 0, result.output
    first, second = (dict(re.findall(r"^(\S.*?)  +(.*)$", part, re.M)) for part in result.stdout.split("phase fit"))
    assert first["images"] == "8 train, 1 val"
    assert first["classes"] == "none; images without labels"
    assert first["unused parameters"] == "none; every parameter receives a gradient"
    assert second["images"] == "8 train, 2 val, 2 test"
    assert second["checkpoint"] == "the weights of phase pretrain"
    assert sorted(place.rglob("*")) == before
    Path("pre.yaml").write_text(PRETRAIN.replace("embed_dim: 8", "embed_dim: 12"))
    refused(
        *("fit", "fine.yaml", "data.root=photos", "run.pretrain=pre.yaml", "--dry-run"),
        says=r"run\.pretrain=pre: fills \d+ % of the model",
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.image_size=18"],
            r"model\.name=vit: .*patches of 4 pixels; a height of 18 is no multiple, 16 and 20 fit",
        ),
        (["method.masking.mask_ratio=1"], r"method\.masking\.mask_ratio: is 1\.0; must lie in \[0, 1\)"),
        (["method.masking.mask_ratio=0.99"], r"method\.masking\.mask_ratio=0\.99 leaves none of 16 patches visible"),
        (["method.masking.position_mask_ratio=1.1"], r"position_mask_ratio: is 1\.1; must lie in \[0, 1\]"),
        (["method.masking.context_ratio=0"], r"context_ratio: is 0\.0; must lie in \(0, 1\]"),
        (["method.masking.context_ratio=0.01"], r"context_ratio=0\.01 leaves none of 12 patches as context; raise it"),
        (["method.masking.mask_ratio=abc"], r"method\.masking\.mask_ratio: is `abc`; expected a number"),
        (["method.smoothing.sigma=-1"], r"method\.smoothing\.sigma: is -1\.0; must be 0 or more"),
        (["method.smoothing.compat=official", "data.image_size=24"], r"smoothing\.compat=official .*leave compat out"),
        (["method.affinity.every=0"], r"method\.affinity\.every: is 0; must be at least 1"),
        (["method.affinity.temperature=0"], r"method\.affinity\.temperature: is 0\.0; must be above 0"),
        (["method.decoder.heads=3"], r"method\.decoder\.heads: is 3, which does not divide the width of 8"),
        (["method.position_weight=0"], r"method\.position_weight: is 0\.0; must be above 0"),
        (
            ["method.position_weight=0.1", "method.masking.mask_ratio=0"],
            r"method\.position_weight: reconstructs removed patches, and masking\.mask_ratio=0 removes none",
        ),
        (["method.mask_ratio=0.5"], r"method\.mask_ratio: unknown key"),
        (["model.args.global_pool=avg"], r"model\.args\.global_pool: .*pre-training pools nothing"),
        (["optim.clip_each_norm=0"], r"optim\.clip_each_norm: is 0\.0; must be above 0"),
        (["optim.layer_decay=0.5"], r"optim\.layer_decay: .*leave it null"),
        (["model.args.drop_path_rate=2"], r"drop_path_rate=2 must lie in \[0, 1\): it is a probability"),
        (["run.pretrain=photos"], r"run\.pretrain: is `photos`, a folder; to start from a finished run, set it as"),
        (["data.probe=nowhere"], r"data\.probe .*/nowhere: no such folder or csv file"),
        (["data.root=nowhere"], r"data\.root .*/nowhere: no such folder"),
        (["data.root=empty"], r"empty: no images in it"),
        (["data.root=one"], r"one: one image is too few"),
        (["run.select.metric=val/probe_accuracy"], r"val/probe_accuracy: no such metric; there are val/acc1"),
        (["run.select.metric=val/accuracy"], r"val/accuracy: no such metric; there are val/acc1"),
        (["trainer.devices=12", "trainer.strategy=ddp"], "12 processes for 11 training images"),
        (["model.checkpoint=photos/class_0/0000.jpg"], r"0000\.jpg: is no format of weights we know"),
    ],
)
def test_what_cannot_be_pretrained(refused, overrides, message):
    Path("empty").mkdir()
    Path("one").mkdir()
    shutil.copy("photos/class_0/0000.jpg", "one")
    refused(*FIT, *overrides, says=message)


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_networks_that_are_no_plain_vision_transformers(refused, name):
    lines = PRETRAIN.replace("name: vit, args: {patch_size: 4, embed_dim: 8, depth: 1, num_heads: 1}", f"name: {name}")
    Path("pre.yaml").write_text(lines.replace("image_size: 16", "image_size: 224"))
    refused(*FIT, says=rf"model\.name={name}: .*pre-training takes plain vision transformers of timm")
    lines = FINETUNE.replace("args: {patch_size: 4, embed_dim: 8, depth: 1, num_heads: 1, global_pool: avg}", "")
    Path("fine.yaml").write_text(lines.replace("name: vit", f"name: {name}").replace("size: 16", "size: 224"))
    says = r"model\.positions=sincos: (ResNet|SwinTransformer) has no table of positions .*leave it `learned`"
    refused("fit", "fine.yaml", "data.root=photos", says=says)


def test_a_negative_spread_of_the_head(refused):
    refused(
        "fit", "fine.yaml", "data.root=photos", "model.head_std=-1", says=r"model\.head_std: is -1\.0; must be 0 or"
    )


def test_an_image_that_cannot_be_read(refused, cli):
    Path("photos/class_0/0003.png").write_bytes(b"")
    fit = (*FIT, "data.batch_size=1")
    refused(*fit, says=r"unreadable image .*0003\.png: the file is empty.*data\.on_bad=skip")
    result = cli(*fit, "data.on_bad=skip")
    assert result.exit_code == 0, result.output
    assert "skipped 1 unreadable image" in result.stdout
