"""MixPro and TransMix against what their official code computed (``tests/golden/mixpro``; ``mixpro.json`` explains)."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from augment.labels import attention_share, mix_targets, progressive_share, soft_targets, transmix_share
from augment.mixing import Mix, masked_cells, mix_images, own_share

GOLDEN = Path(__file__).parents[1] / "golden" / "mixpro"
FILES = json.loads((GOLDEN / "mixpro.json").read_text())["files"]


@dataclass(frozen=True)
class Case:
    """One case of a fixture file: how it was made, and its tensors."""

    made: dict
    tensors: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    @property
    def image_size(self) -> tuple[int, int]:
        return (self.made["image_size"],) * 2

    @property
    def targets(self) -> Tensor:
        return soft_targets(self["targets"], self.made["num_classes"], self.made["smoothing"])


def cases(name: str) -> list[Case]:
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    found = []
    for made in FILES[f"{name}.safetensors"]["params"]["cases"]:
        prefix = f"case{made['index']}."
        own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        found.append(Case(made, own))
    return found


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases(name), ids=lambda case: f"{name}{case.made['index']}")


def close(found: Tensor, expected: Tensor, within: float = 1e-6) -> None:
    torch.testing.assert_close(found, expected, atol=within, rtol=0)


# MaskMix


def maskmix(case: Case, share: Tensor) -> Mix:
    return Mix("maskmix", case["perm"], share, cells=case["cell_mask"].bool(), mask_patch=case.made["mask_patch"])


@of("maskmix")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_maskmix_images_are_bit_exact(case: Case, memory_format: torch.memory_format):
    images = case["images"].to(memory_format=memory_format)
    mixed = mix_images(images, maskmix(case, case["lam_area_pixels"]))
    assert torch.equal(mixed, case["mixed_images"])
    assert torch.equal(images, case["images"])


@pytest.mark.parametrize("row", FILES["maskmix.safetensors"]["params"]["rounding_table"], ids=str)
def test_masked_cells_follow_the_rounding_table(row: dict):
    cells = row["cells_per_side"] ** 2
    kept = masked_cells(cells, row["lambda_draw"])
    assert kept == row["masked_cells"]
    assert kept / cells == row["lam_area"]


@of("maskmix")
def test_every_sample_of_maskmix_keeps_the_cells_of_its_draw(case: Case):
    kept = masked_cells(case.made["total_cells"], case.made["lambda_draw"])
    assert case["cell_mask"].flatten(1).sum(1).tolist() == [kept] * case.made["batch"]


@of("maskmix")
def test_maskmix_area_is_the_share_of_pixels_cropped_cells_included(case: Case):
    close(own_share(maskmix(case, torch.empty(0)), (1, 1), case.image_size).squeeze(1), case["lam_area_pixels"])


@of("maskmix")
def test_maskmix_tokens_are_pure(case: Case):
    grid = (case.made["image_size"] // case.made["image_patch"],) * 2
    own = own_share(maskmix(case, case["lam_area_pixels"]), grid, case.image_size)
    assert torch.equal(own, case["patch_mask"].flatten(1).float())


@of("maskmix")
def test_maskmix_targets_are_shared_by_area(case: Case):
    close(mix_targets(case.targets, case["perm"], case["lam_area_official"]), case["mixed_targets_area"])


# Progressive attention labels


def attended(case: Case) -> Tensor:
    side = case["patch_mask"].shape[1]
    own = own_share(maskmix(case, case["lam_area"]), (side, side), case.image_size)
    return attention_share(own, case["attn_cls"], case["lam_area"])


def by_area(case: Case) -> Tensor:
    return mix_targets(case.targets, case["perm"], case["lam_area"])


@of("pal")
def test_progressive_area_targets(case: Case):
    assert torch.equal(case["targets"][case["perm"]], case["targets_b"])
    close(by_area(case), case["soft_targets_area_smoothed"])


@of("pal")
def test_progressive_attention_share(case: Case):
    close(attended(case), case["lam_attn"])


@of("pal")
@pytest.mark.parametrize("alpha_grad", [False, True])
def test_progressive_alpha_and_share(case: Case, alpha_grad: bool):
    arguments = case["logits"], by_area(case), case["lam_area"], attended(case)
    share, alpha = progressive_share(*arguments, alpha_grad=alpha_grad)
    close(alpha, case["alpha"])
    close(share, case["lam_final"])


@of("pal")
@pytest.mark.parametrize(("alpha_grad", "ending"), [(True, "official"), (False, "alpha_detached")])
def test_progressive_loss_and_gradient(case: Case, alpha_grad: bool, ending: str):
    logits = case["logits"].clone().requires_grad_()
    share, _ = progressive_share(logits, by_area(case), case["lam_area"], attended(case), alpha_grad=alpha_grad)
    hard = soft_targets(case["targets"], case.made["num_classes"])
    loss = functional.cross_entropy(logits, mix_targets(hard, case["perm"], share))
    loss.backward()
    torch.testing.assert_close(loss, case["loss"].squeeze(), rtol=1e-5, atol=0)
    torch.testing.assert_close(loss, case["loss_alpha_detached"].squeeze(), rtol=1e-5, atol=0)
    close(logits.grad, case[f"grad_logits_{ending}"])


# TransMix; its code counts the share of the pasted image


def transmix(case: Case) -> Mix:
    partner = torch.arange(case.made["batch"]).flip(0)
    area = torch.full((case.made["batch"],), 1 - case.made["lam_area_b"])
    return Mix("cutmix", partner, area, box=tuple(case["box_yl_yh_xl_xh"].tolist()))


def transmix_own(case: Case) -> Tensor:
    return own_share(transmix(case), (case.made["attn_grid"],) * 2, case.image_size)


@of("transmix")
def test_transmix_images_are_bit_exact(case: Case):
    assert torch.equal(mix_images(case["images"], transmix(case)), case["mixed_images"])


@of("transmix")
def test_transmix_area_is_that_of_the_rectangle(case: Case):
    top, bottom, left, right = case.made["box"]
    height, width = case.image_size
    assert (bottom - top) * (right - left) / (height * width) == pytest.approx(case.made["lam_area_b"])
    close(mix_targets(case.targets, transmix(case).partner, transmix(case).share), case["mixed_targets_area"])


@of("transmix")
def test_transmix_tokens_follow_the_nearest_pixel(case: Case):
    own = transmix_own(case)
    assert torch.equal(1 - own, case["grid_mask_b"].flatten().float().expand_as(own))


@of("transmix")
def test_transmix_attention_share(case: Case):
    mix = transmix(case)
    close(1 - attention_share(transmix_own(case), case["attn_cls"], mix.share), case["lam_attn_b"])


@of("transmix")
def test_transmix_targets(case: Case):
    mix = transmix(case)
    assert torch.equal(case.targets, case["y1"])
    share = transmix_share(mix.share, attention_share(transmix_own(case), case["attn_cls"], mix.share))
    close(mix_targets(case.targets, mix.partner, share), case["final_targets"])
