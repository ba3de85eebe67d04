"""The model that a file belongs to is found by its shapes; what no shape tells apart is listed."""

import json
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from vision_train.checkpoints import read_weights
from vision_train.checkpoints.fitting import Fit, fitting_model

pytestmark = pytest.mark.slow  # builds models of timm by the dozen


def state_of(name: str) -> dict[str, Tensor]:
    """Tensors of the right shapes that need no memory."""
    with torch.device("meta"):
        model = timm.create_model(name)
    return {key: torch.ones((), dtype=each.dtype).expand(each.shape) for key, each in model.state_dict().items()}


def fit_of(folder: Path, name: str, named: str | None = None) -> Fit:
    torch.save(state_of(name), folder / "pytorch_model.bin")
    fit = fitting_model(read_weights(folder / "pytorch_model.bin"), named)
    assert fit is not None
    return fit


@pytest.mark.parametrize("name", ["wide_resnet50_2", "resnext50_32x4d", "vit_small_patch32_384"])
def test_names_of_any_length_are_found(tmp_path: Path, name: str) -> None:
    fit = fit_of(tmp_path, name)
    assert (fit.name, fit.others, fit.is_whole) == (name, (), True)


def test_models_that_no_shape_tells_apart_are_listed(tmp_path: Path) -> None:
    fit = fit_of(tmp_path, "swinv2_tiny_window16_256")
    assert {"swinv2_tiny_window8_256", "swinv2_tiny_window16_256"} <= {fit.name, *fit.others}
    assert fit_of(tmp_path, "swinv2_tiny_window16_256", "swinv2_tiny_window16_256.ms_in1k").others == ()


def test_what_a_config_says_decides_between_them(tmp_path: Path) -> None:
    quick = "vit_base_patch32_clip_quickgelu_224"
    plain = fit_of(tmp_path, quick)
    assert {plain.name, *plain.others} == {"vit_base_patch32_clip_224", quick}
    (tmp_path / "config.json").write_text(json.dumps({"hidden_act": "quick_gelu", "num_attention_heads": 12}))
    said = fit_of(tmp_path, quick)
    assert (said.name, said.others) == (quick, ())


@pytest.mark.parametrize("name", ["regnety_002", "swinv2_cr_tiny_224"])
def test_models_of_other_families_are_found_too(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ["regnety_002", "regnety_004", "swinv2_cr_tiny_224", "swinv2_cr_small_224", "vit_tiny_patch16_224"]
    monkeypatch.setattr(timm, "list_models", lambda module="": [] if module else few)
    assert fit_of(tmp_path, name).name == name


def test_weights_of_no_model_fit_none(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(3, 4), "b.weight": torch.ones(4, 4)}, tmp_path / "w.pth")
    assert fitting_model(read_weights(tmp_path / "w.pth")) is None
