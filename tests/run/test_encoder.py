"""Encoders from runs and files: the right pooling, no head, and a name that tells weights apart."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import timm
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn

from augment.geometry import View
from augment.pipeline import eval_pipeline
from models.droppos.decoders import DecoderShape
from models.droppos.network import MaskedPositionNetwork
from models.vit import build_model
from vision_train.checkpoints import load_weights
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.encoder import choose_device, load_encoder
from vision_train.run.fit import fit
from vision_train.run.inference import load_for_inference
from vision_train.run.phase import build_task

TILES = [np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8) for seed in range(3)]
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)

Runs = Callable[..., Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A finished run of a recipe at its smallest size, trained once."""
    folder = tmp_path_factory.mktemp("runs")

    @cache
    def finished(recipe: str, *overrides: str) -> Path:
        place = folder / str(len(list(folder.iterdir())))
        pixels = (f"augment.mean={[*MEAN]}", f"augment.std={[*STD]}", "trainer.limit_train_batches=2")
        loaded = load_recipe(recipe, [*pixels, *overrides], smoke=True)
        return fit(loaded, run_dir=place, command=[], console=Console(quiet=True)).path

    return finished


def load(checkpoint: Path, model: str | None = None, precision: str = "32-true") -> Any:
    return load_encoder(checkpoint, model, device="cpu", precision=precision)


def trained(run: Path) -> nn.Module:
    """The network of a run, as evaluation has it."""
    task = build_task(load_for_inference(run / "recipe.yaml"), [str(digit) for digit in range(10)])
    load_weights(task.network, run, min_matched_share=1.0)
    return task.network.eval()


def batch(image_size: int, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    transform = eval_pipeline(image_size, mean, std)
    return torch.stack([transform(View.whole(tile)).image for tile in TILES])


@pytest.mark.parametrize("position_mask_ratio", [0.75, 1.0])
def test_a_pretraining_run_gives_the_mean_of_its_patches(runs: Runs, position_mask_ratio: float) -> None:
    run = runs("droppos/digits", f"method.masking.position_mask_ratio={position_mask_ratio}", "method.affinity=null")
    loaded = load(run)
    network = cast(MaskedPositionNetwork, trained(run))
    with torch.no_grad():
        expected = network.features(batch(16, MEAN, STD), positions=position_mask_ratio < 1)
        other = network.features(batch(16, MEAN, STD), positions=position_mask_ratio == 1)
    assert torch.allclose(loaded.encoder(TILES), expected, atol=1e-6)
    assert not torch.allclose(loaded.encoder(TILES), other, atol=1e-3)
    assert "fills 100 % of the model" in loaded.notes[0]
    assert ("without positions" in loaded.notes[-1]) == (position_mask_ratio == 1)


def test_a_classification_run_gives_what_its_classifier_reads(runs: Runs) -> None:
    run = runs("quickstart")
    loaded = load(run)
    network = cast(Any, trained(run))
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(batch(16, MEAN, STD)), pre_logits=True)
    features = loaded.encoder(TILES)
    assert torch.allclose(features, expected, atol=1e-6)
    assert not features.requires_grad
    assert loaded.encoder.name.startswith("vit-")


def test_a_run_says_its_model_itself(runs: Runs) -> None:
    run = runs("quickstart")
    assert load(run, "vit").encoder.name == load(run).encoder.name
    with pytest.raises(UserError, match=r"--model resnet18: the run .* has trained vit; leave --model out"):
        load(run, "resnet18")


def test_a_network_fine_tuned_from_pretraining_keeps_its_fixed_positions(runs: Runs) -> None:
    pretrained = runs("droppos/digits", "method.masking.position_mask_ratio=0.75", "method.affinity=null")
    run = runs("droppos/finetune_digits", f"model.checkpoint={pretrained}")
    loaded = load(run)
    network = cast(Any, trained(run))
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(batch(16, MEAN, STD)), pre_logits=True)
    assert torch.allclose(loaded.encoder(TILES), expected, atol=1e-6)
    assert "mean of patches" in loaded.notes[-1]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[nn.Module], Path]:
    def save(network: nn.Module) -> Path:
        torch.save({"model": network.state_dict()}, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return save


def test_a_file_is_normalised_as_timm_says_of_its_model(saved: Callable[[nn.Module], Path]) -> None:
    network = timm.create_model("test_vit", num_classes=5).eval()
    loaded = load(saved(network), "test_vit")
    cast(Any, network).reset_classifier(0)
    with torch.no_grad():
        expected = network(batch(160, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    assert torch.allclose(loaded.encoder(TILES), expected, atol=1e-5)
    assert "64 features (class token); tiles resized to 160 x 160 pixels, normalised by mean 0.5" in loaded.notes[-1]


def test_a_tag_stands_for_the_normalisation_of_its_weights(saved: Callable[[nn.Module], Path]) -> None:
    file = saved(timm.create_model("convnext_atto", num_classes=0))
    own, tagged = load(file, "convnext_atto"), load(file, "convnext_atto.d2_in1k")
    assert own.encoder.name == tagged.encoder.name  # what timm takes for the name alone
    file = saved(timm.create_model("resnet18", num_classes=0))
    own, tagged = load(file, "resnet18"), load(file, "resnet18.tv_in1k")  # bicubic and bilinear
    assert own.encoder.name != tagged.encoder.name
    assert not torch.allclose(own.encoder(TILES), tagged.encoder(TILES), atol=1e-3)
    with pytest.raises(UserError, match=r"--model resnet18\.nothing: Invalid pretrained tag"):
        load(file, "resnet18.nothing")


def test_what_lies_beside_a_file_says_counts_more_than_timm(saved: Callable[[nn.Module], Path]) -> None:
    file = saved(timm.create_model("test_vit", num_classes=5))
    file.with_name("config.json").write_text(
        '{"architecture": "test_vit", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.4, 0.4]}'
    )
    notes = load(file, "test_vit").notes
    assert any("config.json" in note and "[0.1,0.2,0.3]" in note and "[0.5,0.5,0.5]" in note for note in notes)
    assert "normalised by mean 0.1, 0.2, 0.3" in notes[-1]


def test_names_tell_weights_apart_however_they_are_stored(saved: Callable[[nn.Module], Path]) -> None:
    network = timm.create_model("test_vit", num_classes=0)
    file = saved(network)
    name = load(file, "test_vit").encoder.name
    save_file(network.state_dict(), file.with_suffix(".safetensors"))
    assert load(file.with_suffix(".safetensors"), "test_vit").encoder.name == name
    nn.init.zeros_(cast(nn.Parameter, network.cls_token))
    assert load(saved(network), "test_vit").encoder.name != name


def test_a_file_of_pretraining_gives_the_mean_of_its_patches(saved: Callable[[nn.Module], Path]) -> None:
    encoder = build_model("vit_tiny_patch16_224", num_classes=0, image_size=224, global_pool="token")
    network = MaskedPositionNetwork(encoder, decoder=DecoderShape(16, 1, 2)).eval()
    loaded = load(saved(network), "vit_tiny_patch16_224")
    with torch.no_grad():
        expected = network.features(batch(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    assert torch.allclose(loaded.encoder(TILES), expected, atol=1e-5)
    assert "(mean of patches)" in loaded.notes[-1]


def test_what_fills_too_little_is_refused(saved: Callable[[nn.Module], Path]) -> None:
    file = saved(timm.create_model("test_resnet"))
    with pytest.raises(
        UserError, match=r"An encoder takes all of its weights from the file, and \d+ tensors are missing"
    ):
        load(file, "test_vit")
    with pytest.raises(UserError, match=r"weights\.pth: does not say which model it is of; name it with --model"):
        load(file)
    with pytest.raises(UserError, match=r"--model tset_vit: no model is called 'tset_vit'.*near to it: test_vit"):
        load(file, "tset_vit")
    with pytest.raises(UserError, match="--model vit: has the shape that a recipe gives it"):
        load(file, "vit")


def test_places_that_are_no_finished_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no recipe\.yaml, so it is not a run directory"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"nowhere: does not exist; name a weights file, .*or a run directory"):
        load(tmp_path / "nowhere")


def test_batches_that_do_not_fit_are_named(saved: Callable[[nn.Module], Path]) -> None:
    def full(batch: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    encoder = load(saved(timm.create_model("test_vit", num_classes=0)), "test_vit").encoder
    with pytest.raises(UserError, match="3 tiles do not fit into the memory of cpu; lower --batch-size"):
        replace(encoder, encode=full)(TILES)


def test_a_run_whose_network_encodes_no_images_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe("acmil/digit_bags", ["trainer.limit_train_batches=2"], smoke=True)
    run = fit(recipe, run_dir=tmp_path / "run", command=[], console=Console(quiet=True)).path
    with pytest.raises(UserError, match=rf"{run}: task=bags: its network encodes no images; name another checkpoint"):
        load(run)


def test_devices_and_precisions(saved: Callable[[nn.Module], Path]) -> None:
    network = timm.create_model("test_vit", num_classes=0).eval()
    file = saved(network)
    exact, half = load(file, "test_vit").encoder, load(file, "test_vit", "bf16-mixed").encoder
    assert exact.name != half.name == load(file, "test_vit", "bf16-mixed").encoder.name
    assert half(TILES).dtype == torch.float16
    assert torch.allclose(half(TILES).float(), exact(TILES), atol=0.1)
    with pytest.raises(UserError, match="--precision 16-mixed: needs a GPU"):
        load(file, "test_vit", "16-mixed")
    with pytest.raises(UserError, match="--precision 8: is unknown; there are 32-true"):
        load(file, "test_vit", "8")
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "toaster", "meta"):
        with pytest.raises(UserError, match=f"--device {name}: cannot be used"):
            choose_device(name)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_the_classifier_of_a_file_is_left_out(saved: Callable[[nn.Module], Path], name: str) -> None:
    file = saved(build_model(name, num_classes=3, image_size=64))
    assert load_encoder(file, name, device="cpu", precision="32-true").encoder.name.startswith(name)
