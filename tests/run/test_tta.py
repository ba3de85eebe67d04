"""Test-time augmentation of ``evaluate``."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit
from vision_train.tasks import augmented_views
from vision_train.tasks.classification.views import AveragedViews


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_text) -> Path:
    folder = tmp_path_factory.mktemp("tta")
    (folder / "tiny.yaml").write_text(tiny_text)
    short = ["trainer.max_epochs=1", "trainer.limit_test_batches=2"]
    recipe = load_recipe(folder / "tiny.yaml", short)
    return fit(recipe, run_dir=folder / "run", command=[], console=Console(quiet=True)).path


class Brightness(nn.Module):
    """Two classes, by the pixels at the left and those at the right; it takes images of one size."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-2:] == (32, 32)
        return images[..., :16].mean((1, 2, 3))[:, None] * torch.tensor([3.0, 0.0])


def test_probabilities_are_averaged_over_the_image_and_its_mirror_image():
    recipe = load_recipe("quickstart")
    views = augmented_views(recipe, "flips")
    assert (views.count, views.recipe) == (2, recipe)
    images = torch.randn(4, 3, 32, 32)
    plain = Brightness()
    expected = (plain(images).softmax(1) + plain(images.flip(-1)).softmax(1)) / 2
    torch.testing.assert_close(views.averaged(plain)(images).softmax(1), expected)


def test_five_crops_are_cut_from_larger_images_and_the_centre_is_the_plain_image():
    recipe = load_recipe("quickstart", ["augment.eval.crop_share=0.8", "data.image_size=32"])
    views = augmented_views(recipe, "five-crop")
    assert views.count == 5
    assert views.recipe.data.height_and_width == (40, 40)
    assert views.recipe.augment.eval.crop_share == 1.0
    images, plain = torch.randn(4, 3, 40, 40), Brightness()
    places = [(0, 0), (0, 8), (8, 0), (8, 8), (4, 4)]
    crops = [images[..., top : top + 32, left : left + 32] for top, left in places]
    expected = torch.stack([plain(crop).softmax(1) for crop in crops]).mean(0)
    torch.testing.assert_close(views.averaged(plain)(images).softmax(1), expected)


def test_a_class_that_no_view_believes_in_costs_a_finite_loss():
    certain = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    nn.init.constant_(certain[1].bias, 0.0)
    certain[1].bias.data[0] = 1e4
    logits = AveragedViews(certain, [lambda images: images])(torch.zeros(1, 3, 2, 2))
    assert nn.functional.cross_entropy(logits, torch.tensor([1])).isfinite()


@pytest.mark.parametrize(
    ("name", "prefix", "count"), [("flips", "test_tta_flips", 2), ("five-crop", "test_tta_five_crop", 5)]
)
def test_its_figures_have_names_of_their_own_and_nothing_is_written(finished, name, prefix, count):
    before = {path: path.read_bytes() for path in finished.rglob("*.json")}
    figures = evaluate_run(finished, "test", views=name)
    assert {key.partition("/")[0] for key in figures} == {prefix}
    assert figures[f"{prefix}/views"] == count
    assert figures[f"{prefix}/seconds"] > 0
    assert 0 <= figures[f"{prefix}/accuracy"] <= 1
    assert figures[f"{prefix}/loss"] != json.loads((finished / "summary.json").read_text())["test/loss"]
    assert {path: path.read_bytes() for path in finished.rglob("*.json")} == before


@pytest.mark.parametrize("recipe", ["acmil/digit_bags", "relation_detr/shapes", "actress/referring"])
def test_tasks_that_average_no_views_refuse_them_by_name(recipe):
    loaded = load_recipe(recipe, smoke=True)
    with pytest.raises(UserError, match=rf"--tta flips: task={loaded.task} .*without --tta"):
        augmented_views(loaded, "flips")
