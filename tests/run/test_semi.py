"""Runs that learn from labelled and unlabelled images at once.

Items are those of the specification of learning from unlabelled images.
"""

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.run.conftest import same
from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.fit import fit, resume
from vision_train.tasks.classification.task import ClassificationTask

SEMI = """
extends: semi/digits
data: {labels_per_class: 4, batch_size: 16, splits: {val: 0.1, test: 0.1}, epoch_batches: 6}
augment: {strong: {crop_scale: [0.5, 1.0], erasing: 0.5}}
model: {args: {embed_dim: 16, depth: 1, drop_path_rate: 0.1}}
optim: {warmup_steps: 2}
trainer: {max_steps: 18, check_val_every_n_epoch: 1, log_every_n_steps: 1}
"""
METHODS = ("freematch", "fixmatch", "softmatch", "mean_teacher")
SAME = ("augment.mixing={mixup: 0, cutmix: 0}", "model.args.drop_path_rate=0", "trainer.max_steps=24")


@pytest.fixture
def semi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Path of a recipe with a pool, whose runs take a second or two; the working directory is a fresh one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny_semi.yaml").write_text(SEMI)
    return str(tmp_path / "tiny_semi.yaml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunDirectory]:
    """A finished run of each method that is asked for, trained once; it is only read."""

    @cache
    def trained(method: str) -> RunDirectory:
        folder = tmp_path_factory.mktemp(method)
        (folder / "tiny_semi.yaml").write_text(SEMI)
        return run(str(folder / "tiny_semi.yaml"), *burnt_in(method), run_dir=folder / "whole")

    return trained


def burnt_in(method: str) -> tuple[str, ...]:
    return (f"semi.method={method}", "semi.burn_in=0.3")


def run(recipe: str, *overrides: str, run_dir: Path | None = None) -> RunDirectory:
    return fit(load_recipe(recipe, overrides), run_dir=run_dir, command=[], console=Console(quiet=True))


def last(directory: RunDirectory | Path) -> dict:
    path = directory if isinstance(directory, Path) else directory.path
    return torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)


def pool_figures(directory: RunDirectory) -> list[dict]:
    return [line for line in read_metrics(directory.metrics) if "val/pool_accepted" in line]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_learns_from_the_pool_after_burn_in(semi, method):
    directory = run(semi, f"semi.method={method}", "semi.threshold=0.2", "semi.burn_in=0.3")
    assert [line["step"] for line in pool_figures(directory)] == [12, 18]  # burn-in: 5.4 steps, so an epoch of 6
    checkpoint = last(directory)
    assert checkpoint["teaching"]["burn_in"] == 6
    assert {key for key in checkpoint["state_dict"] if not key.startswith(("network.", "pool."))} == set()
    assert json.loads(directory.summary.read_text())["train/steps"] == 18


def test_a_run_of_one_epoch_learns_from_the_pool_all_the_same(semi):
    directory = run(semi, "trainer.max_steps=6", "semi.burn_in=null")
    assert last(directory)["teaching"]["burn_in"] == 1  # a quarter of the steps, not the whole epoch
    assert [line["step"] for line in pool_figures(directory)] == [6]


def test_few_unlabelled_images_a_step_are_no_batch_that_cannot_be_mixed(semi):
    assert run(semi, "semi.ratio=0.05", "trainer.max_steps=6").summary.exists()


def test_item_10_views_of_the_pool_are_the_same_whether_labelled_images_are_mixed_or_not(semi, monkeypatch):
    step, seen = ClassificationTask.training_step, []

    def noting(task, batch, batch_idx):
        seen[-1] += [batch["unlabelled"][view]["image"].clone() for view in ("weak", "strong")]
        return step(task, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", noting)
    states = []
    for mixing in ("{mixup: 0.5, cutmix: 0.5}", "{mixup: 0, cutmix: 0}"):
        seen.append([])
        states.append(last(run(semi, f"augment.mixing={mixing}", "trainer.max_steps=6"))["state_dict"])
    assert not all(map(torch.equal, *(state.values() for state in states))), "labelled images were mixed"
    assert len(seen[0]) == len(seen[1]) == 12
    assert all(torch.equal(mixed, plain) for mixed, plain in zip(*seen, strict=True))


def test_the_average_is_delivered_and_another_run_starts_from_it(semi):
    directory = run(semi)
    best = torch.load(directory.path / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["averaged"].keys() == {key.removeprefix("network.") for key in best["state_dict"] if "pool." not in key}
    again = run(semi, f"model.checkpoint={directory.path}", "semi.burn_in=null")
    assert last(again)["teaching"]["burn_in"] == 0  # a run of the same classes needs no burn-in


@pytest.mark.parametrize("step", [4, 9, 14])
@pytest.mark.parametrize("method", ["freematch", "mean_teacher"])
def test_item_5_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(semi, whole, cut_short, quiet, method, step):
    with cut_short(ClassificationTask, step):
        run(semi, *burnt_in(method), run_dir=Path("cut"))
    resumed, uninterrupted = last(resume(Path("cut"), console=quiet)), last(whole(method))
    assert resumed["teaching"] == uninterrupted["teaching"]
    for part in ("state_dict", "averaged"):
        for name, tensor in uninterrupted[part].items():
            assert torch.equal(resumed[part][name], tensor), name


@pytest.mark.slow
def test_item_5_killed_at_20_random_steps_a_run_ends_as_if_uninterrupted(semi, cut_short, quiet):
    """One run, killed at 20 of its 23 inner steps in turn; each time it begins its epoch of 3 steps again."""
    short = (*burnt_in("freematch"), "data.epoch_batches=3", "trainer.max_steps=24")
    uninterrupted, epoch, saved = last(run(semi, *short, run_dir=Path("uncut"))), 3, 0
    for place in sorted(random.Random(0).sample(range(1, 24), 20)):
        with cut_short(ClassificationTask, place - saved):
            resume(Path("cut"), console=quiet) if Path("cut").exists() else run(semi, *short, run_dir=Path("cut"))
        saved = place // epoch * epoch
    resumed = last(resume(Path("cut"), console=quiet))
    assert resumed["global_step"] == 24
    for part in ("state_dict", "averaged", "optimizer_states", "teaching", "random_state", "ImageDataModule"):
        same(resumed[part], uninterrupted[part], part)


@pytest.mark.parametrize("item", ["optimizer_states.0.state.0", "random_state.0.own.mixing"])
def test_item_5_what_is_saved_for_single_tensors_and_draws_makes_a_difference(semi, whole, cut_short, quiet, item):
    """No run can know that these are missing: what is trained tells."""
    with cut_short(ClassificationTask, 9):
        run(semi, *burnt_in("freematch"), run_dir=Path("cut"))
    file = Path("cut/phases/fit/checkpoints/last.ckpt")
    checkpoint = inner = torch.load(file, weights_only=True)
    *outer, name = (int(key) if key.isdecimal() else key for key in item.split("."))
    for key in outer:
        inner = inner[key]
    del inner[name]
    file.unlink()  # best.ckpt may be the same file
    torch.save(checkpoint, file)
    resumed, uninterrupted = last(resume(Path("cut"), console=quiet)), last(whole("freematch"))
    assert any(not torch.equal(resumed["averaged"][each], value) for each, value in uninterrupted["averaged"].items())


def _fit(rank: int, recipe: str, overrides: tuple[str, ...], run_dir: Path) -> None:
    run(recipe, *overrides, run_dir=run_dir)


def test_item_6_two_processes_are_one_with_the_same_global_batch(semi, two_processes):
    one, two = Path("one").absolute(), Path("two").absolute()
    options = (*SAME, "semi.burn_in=0.2", "optim.name=sgd", "optim.lr=0.1")
    _fit(0, semi, (*options, "data.batch_size=16"), one)
    devices = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu")
    two_processes(_fit, semi, (*options, *devices, "data.batch_size=8"), two)
    mine, theirs = last(one)["state_dict"], last(two)["state_dict"]
    for name in ("threshold", "mean_probabilities", "label_shares"):
        torch.testing.assert_close(mine[f"pool.rule.{name}"], theirs[f"pool.rule.{name}"], rtol=0, atol=1e-6)
    for name, tensor in mine.items():
        if name.startswith("network."):
            torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_averages_over_the_pool_stay_in_float32_at_bfloat16(semi, precision):
    state = last(run(semi, f"trainer.precision={precision}", "semi.burn_in=0"))["state_dict"]
    rule = {name: tensor for name, tensor in state.items() if name.startswith("pool.rule.")}
    assert rule
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in rule.values())
    assert rule["pool.rule.threshold"] != 0.1  # it has moved from 1/C


def test_item_8_a_threshold_out_of_reach_of_the_smoothing_is_refused(semi):
    with pytest.raises(UserError, match=r"semi\.threshold=0\.95: .*0\.89.*method\.label_smoothing"):
        run(semi, "semi.method=fixmatch", "method.label_smoothing=0.1")


def test_a_start_for_other_classes_is_not_used_without_burn_in(semi):
    directory = run(semi)
    other = (f"model.checkpoint={directory.path}", "data.source=images", "data.labels_per_class=null")
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            folder = Path("photos", split, name)
            folder.mkdir(parents=True)
            _picture(folder / f"{split}_{name}.png")
    _picture(Path("pool") / "pool.png")
    places = ("data.root=photos", "data.unlabelled=pool")
    with pytest.raises(UserError, match=r"semi\.burn_in=0: .*other classes"):
        run(semi, *other, *places, "semi.burn_in=0")
    assert last(run(semi, *other, *places))["teaching"]["burn_in"] == 12  # half of 18 steps, in whole epochs


def test_a_network_with_batch_norms_that_are_trained_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("residual.yaml").write_text(
        "extends: _parts/digits\ntask: classification\ndata: {labels_per_class: 4, unlabelled: rest}\n"
        "model: {name: resnet10t}\nsemi: {method: freematch}\noptim: {ema: {half_life: run}}\n"
        "trainer: {max_epochs: 1}\n"
    )
    with pytest.raises(
        UserError, match=r"semi\.method=freematch: model\.name=resnet10t has batch norms .*model\.freeze"
    ):
        run("residual.yaml")


def test_the_teacher_is_named_where_it_is_missing(semi):
    with pytest.raises(UserError, match=r"optim\.ema: is null, and semi\.method=freematch has it as teacher"):
        run(semi, "optim.ema=null")


def test_a_teacher_that_returns_no_numbers_is_left_and_the_run_goes_on(semi, monkeypatch):
    from vision_train.tasks.classification import pool

    asked = pool.ask_teacher
    monkeypatch.setattr(pool, "ask_teacher", lambda *arguments: asked(*arguments) * float("nan"))
    for method in METHODS:
        directory = run(semi, f"semi.method={method}", "semi.burn_in=0")
        state = last(directory)
        assert state["teaching"]["monitor"]["stopped"]
        assert all(tensor.isfinite().all() for name, tensor in state["state_dict"].items() if "network." in name)
        assert "not finite" in (directory.path / "log.txt").read_text()


def _picture(path: Path) -> None:
    import numpy as np
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, path.name))
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
