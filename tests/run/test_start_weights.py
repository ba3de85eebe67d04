"""Runs that start from several files, and that train only a part of the network."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.checkpoints import read_weights
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.dry_run import dry_run
from vision_train.run.fit import fit
from vision_train.run.phase import prepare, scan

QUIET = Console(quiet=True)
TWO = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu")


def run(recipe: str, *overrides: str, run_dir: str) -> RunDirectory:
    return fit(load_recipe(recipe, overrides), run_dir=Path(run_dir), command=[], console=QUIET)


def test_a_run_starts_from_a_file_for_each_part(tiny):
    first = run(tiny, "trainer.max_epochs=1", run_dir="first")
    source = read_weights(first.path)
    torch.save({n: t for n, t in source.state.items() if n != "patch_embed.proj.weight"}, "part.pth")
    parts = "model.checkpoint={blocks.0: part.pth, patch_embed: part.pth}"
    with pytest.raises(UserError, match=r"model\.checkpoint\.patch_embed: .*part\.pth"):
        prepare(scan(load_recipe(tiny, [parts])))
    second = run(tiny, parts, "model.fresh=[patch_embed.proj.weight]", "trainer.max_epochs=1", run_dir="second")
    assert json.loads(second.summary.read_text())["checkpoint/matched_share"] == 1
    assert load_recipe(second.recipe).model.checkpoint == {
        "blocks.0": str(Path.cwd() / "part.pth"),
        "patch_embed": str(Path.cwd() / "part.pth"),
    }
    page = (second.path / "report.html").read_text()
    assert "What the checkpoint of blocks.0 filled" in page
    assert "What the checkpoint of patch_embed filled" in page


def test_an_earlier_run_hands_on_pixels_and_classes(tiny):
    pixels = ("augment.mean=[0.1,0.2,0.3]", "augment.std=[0.4,0.5,0.6]", "augment.eval.crop_share=0.8")
    first = run(tiny, *pixels, "trainer.max_epochs=1", run_dir="first")
    left_open = ("augment.mean=null", "augment.std=null", "data.image_size=null", "trainer.max_epochs=1")
    said = Console(file=io.StringIO(), width=1000)
    start = load_recipe(tiny, [*left_open, "model.checkpoint=first"])
    second = fit(start, run_dir=Path("second"), command=[], console=said)
    stored = load_recipe(second.recipe)
    assert stored.augment.mean == (0.1, 0.2, 0.3)
    assert stored.augment.std == (0.4, 0.5, 0.6)
    assert stored.augment.eval.crop_share == 0.8
    assert stored.data.image_size == 16
    assert load_recipe(first.recipe).augment.eval.interpolation == "bicubic"  # what was used, though nobody asked
    output = said.file.getvalue()
    assert "augment.mean=[0.1,0.2,0.3]" in output
    assert "best.ckpt is kept; it was trained on the same 10 classes" in output
    warned = scan(load_recipe(tiny, ["model.checkpoint=first"])).data.warnings
    assert any("augment.mean=[0.5,0.5,0.5]" in each and "[0.1,0.2,0.3]" in each for each in warned)
    tried = dry_run(start)
    assert "preprocessing      data.image_size=16 augment.mean=[0.1,0.2,0.3]" in tried
    assert "taken from" in tried


def test_the_smallest_share_of_the_parts_is_recorded(tiny):
    source = read_weights(run(tiny, "trainer.max_epochs=1", run_dir="first").path)
    torch.save({n: t for n, t in source.state.items() if not n.startswith("blocks.0.attn.")}, "part.pth")
    parts = "model.checkpoint={blocks.0: part.pth, patch_embed: part.pth}"
    second = run(tiny, parts, "model.min_matched_share=0.6", "trainer.max_epochs=1", run_dir="second")
    assert 0.6 < json.loads(second.summary.read_text())["checkpoint/matched_share"] < 0.7


def test_frozen_parameters_stay_as_they_were(tiny):
    first = run(tiny, "trainer.max_epochs=1", run_dir="first")
    frozen = ("model.checkpoint=first", "model.freeze=[blocks.*, patch_embed.*]", "trainer.max_epochs=2")
    second = run(tiny, *frozen, run_dir="second")
    before, after = read_weights(first.path).state, read_weights(second.path).state
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in after if not name.startswith(("blocks.", "patch_embed."))}
    optimizer = torch.load(second.best, weights_only=True)["optimizer_states"][0]
    assert sum(len(group["params"]) for group in optimizer["param_groups"]) == len(changed)
    assert ", of which" in dry_run(load_recipe(tiny, frozen))


def _fit(rank: int, recipe: str, overrides: tuple[str, ...], run_dir: Path) -> None:
    fit(load_recipe(recipe, overrides), run_dir=run_dir, command=[], console=QUIET)


def test_two_processes_train_a_network_that_is_frozen_in_part(tiny, two_processes):
    path = Path("two").absolute()
    options = (*TWO, "data.batch_size=16", "trainer.max_epochs=1", "model.freeze=[blocks.0.*]")
    two_processes(_fit, tiny, options, path)
    fresh = prepare(scan(load_recipe(tiny))).task.network.state_dict()
    trained = read_weights(path).state
    assert torch.equal(trained["blocks.0.attn.qkv.weight"], fresh["blocks.0.attn.qkv.weight"])
    assert not torch.equal(trained["blocks.1.attn.qkv.weight"], fresh["blocks.1.attn.qkv.weight"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.freeze=[block.*]", r"model\.freeze: `block.\*`.*blocks\.\*"),
        ("model.fresh=[heads.*]", r"model\.fresh: `heads.\*`.*head\.\*"),
        ("optim.lr_factors={block.*: 0.1}", r"optim\.lr_factors: `block.\*`.*blocks\.\*"),
    ],
)
def test_globs_that_match_nothing_are_refused_before_a_run_begins(tiny, override, message):
    with pytest.raises(UserError, match=message):
        run(tiny, override, run_dir="run")
    assert not Path("run").exists()


def test_a_warm_up_in_steps_is_described_and_compared_with_the_training(tiny):
    steps = ("optim.warmup_epochs=0", "optim.warmup_steps=3", "trainer.max_epochs=1")
    assert "3 steps" in dry_run(load_recipe(tiny, steps))
    long = dry_run(load_recipe(tiny, [*steps, "optim.warmup_steps=500"]))
    assert "optim.warmup_steps" in long
