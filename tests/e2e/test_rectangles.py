"""Images that are no squares (``data.image_size: [height, width]``), through every verb."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from timm.layers import resample_abs_pos_embed

from vision_train.recipe import load_recipe
from vision_train.run.encoder import load_encoder
from vision_train.run.phase import prepare, scan

SIZE = "data.image_size=[16, 32]"
PRETRAIN = """
task: pretraining
data: {root: photos, image_size: [8, 32], batch_size: 4, workers: 0}
model: {name: vit, args: {patch_size: 4, embed_dim: 8, depth: 1, num_heads: 1}}
method: {masking: {mask_ratio: 0.25}, decoder: {width: 8, depth: 1, heads: 1}}
trainer: {max_epochs: 1, accelerator: cpu}
run: {select: {metric: val/acc1, mode: max}}
"""


@pytest.fixture
def wide(cli) -> Path:
    """A run on images of 16 x 32 pixels, evaluated on the middle of each and mixed in squares."""
    mixing = "augment.mixing={maskmix: 1, mask_patch: 8}"
    result = cli(
        "fit", "tiny.yaml", "data.root=photos", SIZE, "augment.eval.crop_share=0.8", mixing, "--run-dir", "run"
    )
    assert result.exit_code == 0, result.output
    return Path("run")


def test_a_run_is_trained_evaluated_and_predicts(wide, cli):
    assert yaml.safe_load((wide / "recipe.yaml").read_text())["data"]["image_size"] == [16, 32]
    assert (
        torch.load(wide / "checkpoints/best.ckpt", weights_only=True)["state_dict"]["network.pos_embed"].shape[1] == 9
    )
    assert "test/accuracy" in json.loads((wide / "summary.json").read_text())
    assert cli("evaluate", wide).exit_code == 0
    result = cli("predict", wide, "photos", "--render", "drawn")
    assert result.stdout.startswith("12 predictions")
    assert len(list(Path("drawn").glob("*.png"))) == 12


def test_augmentation_is_drawn(cli):
    result = cli("preview", "tiny.yaml", "data.root=photos", SIZE, "--out", "seen.png")
    assert result.exit_code == 0, result.output
    with Image.open("seen.png") as picture:
        assert picture.width > picture.height / 10


def test_a_dry_run_says_what_it_would_do(cli):
    result = cli("fit", "tiny.yaml", "data.root=photos", SIZE, "--dry-run")
    assert result.exit_code == 0, result.output


def test_its_network_encodes_tiles(wide):
    loaded = load_encoder(wide, None, device="cpu", precision="32-true")
    assert "32 x 16 pixels" in loaded.notes[-1]
    assert loaded.encoder([torch.zeros(20, 20, 3, dtype=torch.uint8).numpy()]).shape == (1, 8)


def test_a_run_starts_from_one_of_another_size(wide, cli):
    result = cli("fit", "tiny.yaml", "data.root=photos", "data.image_size=[32, 24]", f"model.checkpoint={wide}")
    assert result.exit_code == 0, result.output
    assert "resized" in result.stdout


def test_as_many_patches_that_lie_otherwise_are_resized_too(wide):
    """Tables of 2 x 4 and 4 x 2 patches have the same shape."""

    def positions(size: str) -> torch.Tensor:
        values = ["data.root=photos", f"data.image_size={size}", f"model.checkpoint={wide}"]
        return prepare(scan(load_recipe("tiny.yaml", values))).task.network.pos_embed.detach()

    table = positions("[16, 32]")
    assert torch.equal(
        table, torch.load(wide / "checkpoints/best.ckpt", weights_only=True)["state_dict"]["network.pos_embed"]
    )
    resized = resample_abs_pos_embed(table, [4, 2], [2, 4], num_prefix_tokens=1)
    assert torch.equal(positions("[32, 16]"), resized)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ("[16]", r"data\.image_size: is \[16\]; expected a whole number or a list of 2 whole numbers"),
        ("[16, wide]", r"data\.image_size: is "),
        ("[16, 0]", r"data\.image_size: is \[16, 0\]; must be at least 1"),
        ("[16, 20]", r"patches of 8 pixels; a width of 20 is no multiple, 16 and 24 fit"),
        ("[12, 16]", r"patches of 8 pixels; a height of 12 is no multiple, 8 and 16 fit"),
    ],
)
def test_other_sizes_are_refused(refused, size, says):
    refused("fit", "tiny.yaml", "data.root=photos", f"data.image_size={size}", says=says)


def test_a_mask_has_to_fit_both_sides(refused):
    mixing = "augment.mixing={maskmix: 1, mask_patch: 24}"
    says = r"mask_patch=24.*data\.image_size=\[16, 48\].*these fit: 8, 16"
    refused("fit", "tiny.yaml", "data.root=photos", "data.image_size=[16, 48]", mixing, says=says)


def test_positions_of_rectangles_are_pretrained_and_fine_tuned(cli, refused):
    Path("pre.yaml").write_text(PRETRAIN)
    result = cli("fit", "pre.yaml", "--run-dir", "before")
    assert result.exit_code == 0, result.output
    same_network = "model.args.patch_size=4"
    for size in ("[8, 32]", "16"):  # the second has as many patches, in a square
        overrides = ("data.root=photos", f"data.image_size={size}", same_network, "model.checkpoint=before")
        result = cli("fit", "tiny.yaml", *overrides)
        assert result.exit_code == 0, result.output
    result = cli("fit", "pre.yaml", "data.image_size=16", "model.checkpoint=before")
    assert result.exit_code == 0, result.output
    refused("fit", "pre.yaml", "method.smoothing.compat=official", says=r"smoothing\.compat=official .*square grid")


def test_a_recipe_that_leaves_the_size_open_takes_that_of_the_run(wide, cli):
    overrides = ("data.root=photos", "data.image_size=null", f"model.checkpoint={wide}", "--run-dir", "after")
    result = cli("fit", "tiny.yaml", *overrides)
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(Path("after/recipe.yaml").read_text())["data"]["image_size"] == [16, 32]
