"""Where a detector starts, from end to end: a run of pre-training, and starts that are refused."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.checkpoints import read_weights, settle
from vision_train.errors import UserError
from vision_train.recipe import Recipe, load_recipe
from vision_train.run.fit import fit, resume
from vision_train.tasks.detection.task import DetectionTask

PLAIN = "model.args.backbone_args={patch_size: 4, image_size: [64, 64], embed_dim: 24, depth: 1, num_heads: 2}"
"""The network of the smallest pre-training on digits."""


def trained(recipe: Recipe, place: Path) -> Path:
    return fit(recipe, run_dir=place, command=[], console=Console(quiet=True)).path


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    return trained(load_recipe("droppos/digits", smoke=True), tmp_path_factory.mktemp("pretrained") / "run")


@pytest.fixture(scope="module")
def detector(pretrained, tmp_path_factory) -> Path:
    start = [PLAIN, f"model.checkpoint={{backbone: {pretrained}}}", "optim.lr=1.0e-12", "optim.weight_decay=0"]
    recipe = load_recipe("relation_detr/vit_small_droppos", [*start, "optim.ema=null"], smoke=True)
    return trained(recipe, tmp_path_factory.mktemp("detector") / "run")


class TestPretrainedTransformer:
    def test_the_encoder_of_a_droppos_run_becomes_the_backbone(self, pretrained, detector):
        theirs, ours = read_weights(pretrained).state, read_weights(detector).state
        for name in ("blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "cls_token"):
            assert torch.allclose(ours[f"backbone.model.model.{name}"], theirs[f"encoder.{name}"], atol=1e-6)

    def test_positions_are_those_of_its_grid_resized(self, pretrained, detector):
        theirs, ours = read_weights(pretrained).state, read_weights(detector).state
        assert theirs["encoder.pos_embed"].shape == (1, 1 + 4 * 4, 24)
        assert ours["backbone.model.model.pos_embed"].shape == (1, 1 + 16 * 16, 24)
        class_row = ours["backbone.model.model.pos_embed"][0, 0]
        assert torch.allclose(class_row, theirs["encoder.pos_embed"][0, 0], atol=1e-6)

    def test_the_run_says_what_was_filled(self, detector):
        assert json.loads((detector / "summary.json").read_text())["checkpoint/matched_share"] == 1
        table = json.loads((detector / "artefacts" / "fit_backbone_checkpoint.json").read_text())
        assert "pyramid of maps starts anew" in json.dumps(table)

    def test_a_detector_goes_on_from_a_detector(self, detector, tmp_path):
        recipe = load_recipe(
            "relation_detr/vit_small_droppos", [PLAIN, f"model.checkpoint={detector}", "optim.lr=1.0e-12"], smoke=True
        )
        run = trained(recipe, tmp_path / "run")
        theirs, ours = read_weights(detector).state, read_weights(run).state
        name = "transformer.decoder.class_head.0.weight"  # the same classes, so the head is kept
        assert torch.allclose(ours[name], theirs[name], atol=1e-5)


class TestRandomStart:
    def large(self, *overrides: str) -> Recipe:
        sizes = ["model.args.backbone=resnet18", "model.args.backbone_args={channels: [64, 128, 256, 512]}"]
        few = ["data.share=0.05"]
        return load_recipe("relation_detr/resnet50", [*sizes, *few, *overrides], smoke=True)

    def test_is_refused_before_anything_is_written(self, tmp_path):
        recipe = self.large("model.args.backbone_args.layers=[2, 2, 2, 2]")
        with pytest.raises(UserError, match=r"backbone would start from random weights") as error:
            trained(recipe, tmp_path / "run")
        assert "model.fresh=['*']" in str(error.value)
        assert not (tmp_path / "run").exists()

    def test_a_run_that_began_with_weights_goes_on_without_them(
        self, pretrained, tmp_path, monkeypatch, cut_short, quiet
    ):
        monkeypatch.setattr("vision_train.tasks.detection.random_start.LARGE", 0)
        monkeypatch.setattr("vision_train.tasks.detection.random_start.FEW", 10**9)
        overrides = [PLAIN, "trainer.max_epochs=2", "trainer.limit_train_batches=1"]
        with pytest.raises(UserError, match="random weights"):
            trained(load_recipe("relation_detr/vit_small_droppos", overrides, smoke=True), tmp_path / "none")
        overrides.append(f"model.checkpoint={{backbone: {pretrained}}}")
        recipe = load_recipe("relation_detr/vit_small_droppos", overrides, smoke=True)
        with cut_short(DetectionTask, 1):
            trained(recipe, tmp_path / "run")
        run = resume(tmp_path / "run", console=quiet)
        assert json.loads(run.summary.read_text())["train/epochs"] == 2


class TestMeanAndDeviation:
    def test_are_taken_from_the_weights_where_the_recipe_leaves_them_open(self, detector):
        recipe = load_recipe(detector / "recipe.yaml", runnable=False)
        assert recipe.augment.mean == (0.5, 0.5, 0.5)  # of the digits; ImageNet's is 0.485, ...
        assert recipe.augment.train.interpolation is None

    def test_others_in_the_recipe_are_warned_of(self, pretrained):
        overrides = [PLAIN, f"model.checkpoint={{backbone: {pretrained}}}", "augment.mean=[0.4, 0.4, 0.4]"]
        settled = settle(load_recipe("relation_detr/vit_small_droppos", overrides, smoke=True))
        assert any("augment.mean=" in warning and "0.5" in warning for warning in settled.warnings)
