"""Names, paths, overrides, interpolation, smoke sizes: what makes up a recipe when nothing is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_train.errors import UserError
from vision_train.recipe import Recipe, load_recipe

MINIMAL = "task: classification\ndata: {source: digits}\nmodel: {name: vit}\ntrainer: {max_epochs: 3}\n"


def test_sections_are_typed_and_defaults_filled(folder: Path):
    (folder / "mine.yaml").write_text(MINIMAL + "optim: {lr: 1, betas: [0.9, 0.95]}\nmethod: {label_smoothing: 1e-1}\n")
    recipe = load_recipe("mine.yaml")
    assert isinstance(recipe, Recipe)
    assert (recipe.name, recipe.description, recipe.seed) == ("mine", "", 0)
    assert recipe.optim.lr == 1.0
    assert isinstance(recipe.optim.lr, float)  # a whole number is welcome where any number is
    assert recipe.optim.betas == (0.9, 0.95)
    assert recipe.method.label_smoothing == 0.1
    assert recipe.trainer == {"max_epochs": 3}
    assert recipe.data.batch_size == 64


@pytest.mark.parametrize("given", ["mine", "mine.yaml", "./mine.yaml", "{folder}/mine.yaml", "~/mine.yaml"])
def test_a_path_with_or_without_ending(folder: Path, monkeypatch: pytest.MonkeyPatch, given: str):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "mine.yaml").write_text(MINIMAL)
    assert load_recipe(given.format(folder=folder)).name == "mine"


def test_a_builtin_name_comes_before_a_file_of_that_name(folder: Path):
    (folder / "quickstart.yaml").write_text(MINIMAL)
    assert load_recipe("quickstart").trainer["max_epochs"] != 3
    assert load_recipe("quickstart.yaml").trainer["max_epochs"] == 3


def test_builtin_recipes_resolve_from_any_working_directory(folder: Path):
    code = "from vision_train.recipe import load_recipe; print(load_recipe('quickstart').name)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "quickstart\n"), done.stderr


def test_overrides_are_yaml_and_the_last_one_wins():
    overrides = ["optim.lr=1e-3", "optim.betas=[0.8, 0.9]", "model.args={depth: 2}", "optim.ema.decay=0.5"]
    overrides += ["optim.lr=2e-4", "description='a=b: c'", "data.workers=3", "data.workers=", "data.workers=1"]
    recipe = load_recipe("quickstart", overrides)
    assert recipe.optim.lr == 2e-4
    assert recipe.optim.betas == (0.8, 0.9)
    assert recipe.model.args == {"patch_size": 4, "embed_dim": 96, "depth": 2, "num_heads": 3}
    assert recipe.optim.ema is not None
    assert recipe.optim.ema.decay == 0.5
    assert recipe.description == "a=b: c"
    assert recipe.data.workers == 1


@given(st.lists(st.tuples(st.sampled_from(["seed", "data.batch_size", "model.args.depth"]), st.integers(2, 99))))
@settings(max_examples=25)
def test_the_last_override_of_each_key_wins(pairs: list[tuple[str, int]]):
    recipe = load_recipe("quickstart", [f"{key}={value}" for key, value in pairs])
    found = {"seed": recipe.seed, "data.batch_size": recipe.data.batch_size}
    found["model.args.depth"] = recipe.model.args["depth"]
    assert {key: found[key] for key, _ in pairs} == dict(pairs)


def test_null_removes_what_was_set_below():
    assert load_recipe("quickstart", ["augment=null"]).augment.mixing.mixup == 0
    assert load_recipe("quickstart", ["optim.ema.decay=0.5", "optim.ema=null"]).optim.ema is None
    assert load_recipe("quickstart", ["model.args=null", "model.args.depth=1"]).model.args == {"depth": 1}


def test_a_section_whose_keys_are_commented_out_is_its_defaults(folder: Path):
    (folder / "mine.yaml").write_text(MINIMAL + "augment:\n  # mixing: {mixup: 0.5}\n")
    assert load_recipe("mine").augment.mixing.mixup == 0


def test_interpolation_sees_the_merged_values(folder: Path):
    (folder / "mine.yaml").write_text(MINIMAL + "seed: 7\ndescription: seed ${seed}\noptim: {min_lr: '${optim.lr}'}\n")
    recipe = load_recipe("mine", ["seed=8", "optim.lr=0.5"])
    assert recipe.description == "seed 8"
    assert recipe.optim.min_lr == 0.5


def test_smoke_sizes_lie_between_the_files_and_the_overrides(folder: Path):
    (folder / "base.yaml").write_text(
        MINIMAL + "smoke: {data: {batch_size: 2, workers: 0}, trainer: {max_epochs: 1}}\n"
    )
    (folder / "mine.yaml").write_text("extends: base\ndata: {batch_size: 32}\nsmoke: {data: {workers: 1}}\n")
    assert load_recipe("mine").data.batch_size == 32
    small = load_recipe("mine", ["trainer.max_epochs=2"], smoke=True)
    assert (small.data.batch_size, small.data.workers, small.trainer["max_epochs"]) == (2, 1, 2)


def test_relative_paths_mean_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/someone")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "mine.yaml").write_text(MINIMAL)
    overrides = [
        "data.source=images",
        "data.root=photos/../images",
        "data.labels=~/labels.csv",
        "model.checkpoint=/w.pth",
    ]
    recipe = load_recipe("recipes/mine.yaml", overrides)
    assert recipe.data.root == str(folder / "images")
    assert recipe.data.labels == "/home/someone/labels.csv"
    assert recipe.model.checkpoint == "/w.pth"
    parts = load_recipe("recipes/mine.yaml", ["model.checkpoint={encoder: runs/0, text: ~/b.pth}"]).model
    assert parts.start == {"encoder": str(folder / "runs" / "0"), "text": "/home/someone/b.pth"}


@pytest.mark.parametrize("name", ["ph\udcf6tos", "ph\udcf6tos/{of}/[two]", "猫"])
def test_a_path_on_the_command_line_may_be_no_utf_8(folder: Path, name: str):
    (folder / "mine.yaml").write_text(MINIMAL)
    assert load_recipe("mine.yaml", ["data.source=images", f"data.root={name}"]).data.root == str(folder / name)


def test_pretrain_is_a_builtin_name_or_a_path_made_absolute(folder: Path):
    (folder / "first.yaml").write_text(MINIMAL)
    assert load_recipe("quickstart", ["run.pretrain=quickstart"]).run.pretrain == "quickstart"
    assert load_recipe("quickstart", ["run.pretrain=first.yaml"]).run.pretrain == str(folder / "first.yaml")


def test_what_the_user_must_give_is_demanded_only_to_run(folder: Path):
    assert load_recipe("classification/vit_small", runnable=False).data.root is None
    assert load_recipe("classification/vit_small", ["data.root=images"]).data.root == str(folder / "images")
    with pytest.raises(UserError, match=r"^data\.root: no images named; set data\.root=FOLDER"):
        load_recipe("classification/vit_small")
