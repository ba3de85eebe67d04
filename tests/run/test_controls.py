"""Recipes that the verdict on a pool compares with."""

from pathlib import Path

import pytest
from PIL import Image

from vision_train.errors import UserError
from vision_train.recipe import load_recipe, write_recipe
from vision_train.recipe.lora_section import Lora
from vision_train.recipe.sections import ALL_BUT_HEAD
from vision_train.recipe.semi_section import Semi
from vision_train.run.checked import check_phases
from vision_train.run.controls import frozen_recipe, lora_recipe, pretrain_on_pool
from vision_train.run.plan import plan_of

LEARNT = ("semi.method=freematch", "data.unlabelled=rest", "data.labels_per_class=5", "optim.ema={}")


def test_the_frozen_control_trains_the_head_alone_on_labels_alone():
    recipe = load_recipe("quickstart", [*LEARNT, "model.checkpoint=weights.pth", "model.freeze=[blocks.0.*]"])
    control = frozen_recipe(recipe)
    assert (control.model.freeze, control.model.lora, control.semi) == (ALL_BUT_HEAD, None, Semi())
    assert (control.data, control.augment, control.trainer) == (recipe.data, recipe.augment, recipe.trainer)
    assert control.optim == recipe.optim


def test_the_control_with_adapters_trains_all_of_them_at_one_rate():
    options = [*LEARNT, "model.checkpoint=weights.pth", f"model.freeze={ALL_BUT_HEAD}", "optim.layer_decay=0.75"]
    recipe = load_recipe("quickstart", options)
    control = lora_recipe(recipe, 4)
    assert (control.model.freeze, control.model.lora, control.semi) == ([], Lora(4), Semi())
    assert control.optim.layer_decay is None
    assert (control.data, control.augment, control.trainer) == (recipe.data, recipe.augment, recipe.trainer)


def test_controls_are_recipes_that_can_be_stored(tmp_path):
    recipe = load_recipe("quickstart", [*LEARNT, f"model.checkpoint={tmp_path / 'weights.pth'}"])
    for number, control in enumerate([frozen_recipe(recipe), lora_recipe(recipe, 4)]):
        write_recipe(tmp_path / f"{number}.yaml", control)
        assert load_recipe(tmp_path / f"{number}.yaml", runnable=False) == control


@pytest.mark.parametrize("control", [frozen_recipe, lambda recipe: lora_recipe(recipe, 4)])
def test_controls_that_keep_weights_need_some(control):
    with pytest.raises(UserError, match=r"model\.checkpoint: quickstart starts from random weights"):
        control(load_recipe("quickstart", LEARNT))
    control(load_recipe("droppos/finetune_digits"))  # a phase before it brings some


def test_a_pool_that_is_the_rest_is_learnt_from_before_the_labels():
    recipe = load_recipe("droppos/finetune_digits", ["run.pretrain=null", "data.unlabelled=rest"])
    control = pretrain_on_pool(recipe)
    assert control.run.pretrain == "droppos/digits"
    plan = plan_of(control)
    assert [phase.name for phase in plan.known()] == ["pretrain", "fit"]
    check_phases(plan)


def test_a_pool_in_a_folder_is_learnt_from_before_the_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("labelled/a/1", "labelled/b/2", "pool/x/3", "pool/4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(f"{name}.png")
    recipe = load_recipe("classification/vit_small", ["data.root=labelled", "data.unlabelled=pool"])
    first, last = plan_of(pretrain_on_pool(recipe)).known()
    assert (first.recipe.name, last.start) == ("droppos/vit_small", first.name)
    assert first.recipe.data.root == str(tmp_path / "pool")
    assert last.recipe.data.root == str(tmp_path / "labelled")


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("classification/vit_small", ["model.checkpoint=w.pth", "data.unlabelled=pool"], r"model\.checkpoint: .*"),
        ("droppos/finetune_digits", ["data.unlabelled=rest"], r"run\.pretrain: .*starts from weights already"),
        ("classification/vit_small", ["data.unlabelled=pool.csv"], r"data\.unlabelled=.*pool\.csv: .*folder"),
        ("classification/vit_small", ["data.unlabelled=labelled"], r"data\.unlabelled=labelled: .*folder"),
        ("classification/swin_tiny", ["data.unlabelled=pool"], r"semi\.verdict\.pretrain: no recipe .*swin_tiny"),
        (
            "quickstart",
            ["data.unlabelled=rest", "data.labels_per_class=5"],
            r"semi\.verdict\.pretrain: no recipe .*vit .*args",
        ),
        (
            "droppos/finetune_digits",
            ["run.pretrain=null", "data={source: images, root: labelled, unlabelled: pool}"],
            r"semi\.verdict\.pretrain: no recipe .*samples",
        ),
    ],
)
def test_where_pre_training_on_the_pool_cannot_be_it_is_refused(name, overrides, message):
    with pytest.raises(UserError, match=message):
        pretrain_on_pool(load_recipe(name, overrides, runnable=False))
