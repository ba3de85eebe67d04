"""A recipe takes from its weights what it leaves open, warns where it differs, and says what it assumes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vision_train.checkpoints import settle
from vision_train.recipe import Recipe, load_recipe

HALF = (0.5, 0.5, 0.5)
CONFIG = """{"architecture": "vit_tiny_patch16_224", "pretrained_cfg":
{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 96, 96], "crop_pct": 0.9,
"interpolation": "bilinear"}}"""
MINE = "task: classification\ndata: {root: photos}\nmodel: {name: vit_tiny_patch16_224}\ntrainer: {max_epochs: 1}\n"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load a recipe that leaves everything open, with changes."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(MINE)
    torch.save({"head.weight": torch.ones(2, 4)}, "weights.pth")

    def load(*overrides: str) -> Recipe:
        return load_recipe("mine.yaml", overrides)

    return load


def test_what_is_open_is_taken_from_the_source_and_said(recipe: Any) -> None:
    Path("config.json").write_text(CONFIG)
    settled = settle(recipe("model.checkpoint=weights.pth"))
    augment = settled.recipe.augment
    assert (augment.mean, augment.std, augment.eval.crop_share) == (HALF, HALF, 0.9)
    assert (augment.eval.interpolation, augment.train.interpolation) == ("bilinear", "bilinear")
    assert settled.recipe.data.image_size == 96
    (note,) = settled.notes
    for text in ("config.json", "augment.mean=[0.5,0.5,0.5]", "augment.eval.crop_share=0.9", "data.image_size=96"):
        assert text in note
    assert not settled.warnings


def test_what_the_recipe_sets_otherwise_stays_with_a_warning_that_names_both(recipe: Any) -> None:
    Path("config.json").write_text(CONFIG)
    settled = settle(recipe("model.checkpoint=weights.pth", "augment.mean=[0.1,0.2,0.3]", "data.image_size=224"))
    assert settled.recipe.augment.mean == (0.1, 0.2, 0.3)
    assert settled.recipe.data.image_size == 224
    mean, size = settled.warnings
    assert "augment.mean=[0.1,0.2,0.3]" in mean
    assert "config.json says [0.5,0.5,0.5]" in mean
    assert "data.image_size=224" in size
    assert "says 96" in size


def test_what_nobody_says_is_assumed_aloud(recipe: Any) -> None:
    settled = settle(recipe("model.checkpoint=weights.pth"))
    assert settled.recipe.augment.mean == (0.485, 0.456, 0.406)
    (note,) = settled.notes
    for text in (
        "assumed",
        "weights.pth",
        "augment.mean=[0.485,0.456,0.406]",
        "ImageNet's",
        "vit_tiny_patch16_224.augreg",
    ):
        assert text in note
    assert "mean [0.5,0.5,0.5]" in note


def test_without_weights_a_recipe_has_the_values_that_it_always_had(recipe: Any) -> None:
    settled = settle(recipe())
    augment = settled.recipe.augment
    assert (augment.mean, augment.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (augment.eval.crop_share, augment.eval.interpolation) == ("whole", "bicubic")
    assert (augment.train.interpolation, settled.recipe.data.image_size) == ("bicubic", 224)
    assert "assumed" in settled.notes[0]


def test_a_phase_takes_after_the_one_that_it_starts_from(recipe: Any) -> None:
    earlier = recipe("augment.mean=[0.1,0.2,0.3]", "augment.std=[0.4,0.4,0.4]", "data.image_size=64")
    settled = settle(recipe(), settle(earlier).recipe)
    assert settled.recipe.augment.mean == (0.1, 0.2, 0.3)
    assert settled.recipe.data.image_size == 64
    assert "phase" in settled.notes[0]


def test_settling_again_changes_and_says_nothing(recipe: Any) -> None:
    Path("config.json").write_text(CONFIG)
    first = settle(recipe("model.checkpoint=weights.pth")).recipe
    again = settle(first)
    assert again.recipe == first
    assert not again.notes
    assert not again.warnings


def test_files_of_parts_that_disagree_are_named(recipe: Any) -> None:
    for name, mean in (("a", "[0.5,0.5,0.5]"), ("b", "[0.1,0.1,0.1]")):
        Path(name).mkdir()
        torch.save({"weight": torch.ones(2)}, Path(name, "w.pth"))
        Path(name, "config.json").write_text(f'{{"architecture": "x", "mean": {mean}, "std": [0.5,0.5,0.5]}}')
    settled = settle(recipe("model.checkpoint={blocks.0: a/w.pth, blocks.1: b/w.pth}"))
    assert settled.recipe.augment.mean == HALF
    assert "b/config.json says [0.1,0.1,0.1]" in settled.warnings[0]


def test_kinds_of_data_without_images_are_left_alone() -> None:
    recipe = load_recipe("acmil/digit_bags")
    settled = settle(recipe)
    assert settled.recipe == recipe
    assert not settled.notes


def test_a_published_recipe_says_its_numbers_itself() -> None:
    settled = settle(load_recipe("droppos/vit_base", runnable=False))
    assert not settled.notes
    same = replace(settled.recipe.augment.preprocessing, crop_share=0.875)
    assert settled.recipe.augment.preprocessing == same


def test_a_square_may_be_written_as_its_sides(recipe: Any) -> None:
    Path("config.json").write_text(CONFIG)
    assert not settle(recipe("model.checkpoint=weights.pth", "data.image_size=[96,96]")).warnings
    (warning,) = settle(recipe("model.checkpoint=weights.pth", "data.image_size=[96,64]")).warnings
    assert "data.image_size=[96,64]" in warning


def test_a_file_beside_several_weights_is_named_where_it_is_not_used(recipe: Any) -> None:
    Path("preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    torch.save({"head.weight": torch.ones(2, 4)}, "last.pth")
    (note,) = settle(recipe("model.checkpoint=weights.pth")).notes
    for text in ("preprocessor_config.json", "not used", "a folder of their own", "augment.mean", "augment.std"):
        assert text in note
    assert "nothing beside" not in note
