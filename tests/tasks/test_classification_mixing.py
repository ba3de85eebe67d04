"""What the classification task makes of a recipe's mixing: which batches it mixes, how their labels are shared."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from augment.labels import mix_targets, soft_targets
from augment.mixing import Mix, mix_images
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.tasks.classification.mixing import MixedStep
from vision_train.tasks.classification.task import ClassificationTask, build

SMALL = ("model.args.embed_dim=24", "model.args.depth=2", "model.args.num_heads=2")
CLASSES = [str(digit) for digit in range(10)]


def task(recipe: str, *overrides: str, small: tuple[str, ...] = SMALL) -> ClassificationTask:
    torch.manual_seed(0)
    return build(load_recipe(recipe, [*small, *overrides], runnable=False), CLASSES)


def only(kind: str, labels: str = "area") -> list[str]:
    """Mix every batch in one way."""
    weights = {"maskmix": 0.0, "mixup": 0.0, "cutmix": 0.0, kind: 1.0}
    keys = {**weights, "mask_patch": 4, "labels": labels}
    return [f"augment.mixing.{key}={value}" for key, value in keys.items()]


def batch(size: int = 6) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(size, 3, 16, 16, generator=generator)
    return {"id": list("abcdef")[:size], "image": images, "label": torch.arange(size) % 10}


def step(of: ClassificationTask, given: dict[str, Any]) -> MixedStep:
    """What a training step makes of a batch."""
    return of.mixing.step(of.network, given["image"], given["label"])


@pytest.mark.parametrize("labels", ["area", "transmix", "progressive"])
@pytest.mark.parametrize("kind", ["maskmix", "mixup", "cutmix"])
def test_attention_shares_only_the_labels_it_was_made_for(kind: str, labels: str) -> None:
    made_for = {"area": "", "transmix": "cutmix", "progressive": "maskmix"}[labels]
    # The recipe is refused where nothing would be shared by attention, so the other kinds get a little weight.
    other = [f"augment.mixing.{made_for}=1e-9"] if made_for not in ("", kind) else []
    subject = task("studies/mixpro/digits_plain", *only(kind, labels), *other)
    found = step(subject, batch())
    assert found.mix is not None
    assert found.mix.kind == kind
    assert (found.attended is not None) == (kind == made_for)


def test_unmixed_batches_keep_their_images_and_smoothed_labels() -> None:
    subject, given = task("studies/mixpro/digits_plain"), batch()
    found = step(subject, given)
    assert found.mix is None
    assert found.images is given["image"]
    assert torch.equal(found.targets, soft_targets(given["label"], 10, 0.1))


def test_progressive_labels_are_not_smoothed_area_labels_are() -> None:
    for labels, unnamed in (("area", 0.01), ("progressive", 0.0)):
        found = step(task("studies/mixpro/digits_plain", *only("maskmix", labels)), batch())
        assert found.mix is not None
        assert found.targets.min().item() == pytest.approx(unnamed)
        assert torch.allclose(found.targets.sum(1), torch.ones(6))


@pytest.mark.parametrize(("labels", "kind"), [("transmix", "cutmix"), ("progressive", "maskmix")])
def test_shares_lie_between_area_and_attention(labels: str, kind: str) -> None:
    subject, given = task("studies/mixpro/digits_plain", *only(kind, labels)), batch()
    found = step(subject, given)
    assert found.attended is not None
    assert found.mix is not None
    assert ((found.attended >= 0) & (found.attended <= 1)).all()
    assert not torch.equal(found.attended, found.mix.share)
    smoothing = 0.1 if labels == "transmix" else 0.0
    own = soft_targets(given["label"], 10, smoothing)
    assert torch.equal(found.targets, mix_targets(own, found.mix.partner, found.attended))
    assert torch.equal(found.images, mix_images(given["image"], found.mix))


@pytest.mark.parametrize("alpha_grad", [False, True])
def test_alpha_takes_part_in_the_gradient_only_if_asked(alpha_grad: bool) -> None:
    subject = task(
        "studies/mixpro/digits_plain", *only("maskmix", "progressive"), f"augment.mixing.alpha_grad={alpha_grad}"
    )
    found = step(subject, batch())
    assert found.targets.requires_grad == alpha_grad
    functional.cross_entropy(found.logits, found.targets).backward()
    assert all(parameter.grad is not None for parameter in subject.network.parameters())


def test_training_step_is_the_cross_entropy_of_the_shared_labels() -> None:
    subject, given = task("mixpro/digits", *only("maskmix", "progressive")), batch()
    subject.eval()  # nothing random but the mix
    state = subject.mixing.mixer.generator.get_state()
    found = step(subject, given)
    subject.mixing.mixer.generator.set_state(state)
    assert torch.equal(subject.training_step(given, 0), functional.cross_entropy(found.logits, found.targets))


def test_the_attention_comes_from_the_training_forward_and_costs_no_second_one() -> None:
    subject, given = task("mixpro/digits", *only("maskmix", "progressive")), batch()
    calls = []
    subject.network.register_forward_hook(lambda *_: calls.append(1))
    subject.training_step(given, 0)
    assert len(calls) == 1


def test_sixteen_bit_logits_share_labels_in_float32() -> None:
    subject, given = task("mixpro/digits", *only("maskmix", "progressive")), batch()
    state = subject.mixing.mixer.generator.get_state()
    exact = step(subject, given).attended
    subject.mixing.mixer.generator.set_state(state)
    with torch.autocast("cpu", torch.bfloat16):
        rough = step(subject, given)
    assert exact is not None
    assert rough.attended is not None
    assert rough.logits.dtype == torch.bfloat16
    assert rough.attended.dtype == torch.float32
    assert torch.allclose(rough.attended, exact, atol=1e-2)


def test_a_batch_of_one_is_trained_on_as_it_is() -> None:
    subject, given = task("mixpro/digits", *only("maskmix", "progressive")), batch(1)
    found = step(subject, given)
    assert torch.equal(found.images, given["image"])
    assert torch.allclose(found.targets, soft_targets(given["label"], 10))


def test_processes_draw_from_seeds_of_their_own() -> None:
    mixing = task("mixpro/digits", *only("maskmix")).mixing
    first, second, again = (mixing.mixer_of(rank).draw(6, 16, 16) for rank in (0, 1, 0))
    assert first is not None
    assert second is not None
    assert again is not None
    assert torch.equal(first.cells, again.cells)  # type: ignore[arg-type]
    assert not torch.equal(first.cells, second.cells)  # type: ignore[arg-type]


def test_mixes_are_drawn_until_one_is_accepted() -> None:
    subject, given = task("studies/mixpro/digits_plain", *only("cutmix")), batch()
    alike = subject.mixing.mixer_of(0)
    third = [alike.draw(6, 16, 16) for _ in range(3)][2]
    seen: list[Mix | None] = []

    def accept(mix: Mix | None) -> bool:
        seen.append(mix)
        return len(seen) == 3

    found = subject.mixing.step(subject.network, given["image"], given["label"], accept)
    assert found.mix is seen[2]
    assert found.mix is not None
    assert third is not None
    assert found.mix.box == third.box


class TestRefusals:
    @pytest.mark.parametrize(
        ("recipe", "patch", "fitting"),
        [
            ("mixpro/deit_tiny", 56, "16, 32, 112"),
            ("mixpro/deit_tiny", 64, "16, 32, 112"),
            ("mixpro/deit_tiny", 224, "16, 32, 112"),
            ("mixpro/swin_tiny", 30, "4, 8, 16, 28, 32, 56, 112"),
        ],
    )
    def test_a_mask_that_cuts_patches_or_the_image_is_told_what_fits(self, recipe, patch, fitting):
        with torch.device("meta"), pytest.raises(UserError, match=f"mask_patch={patch}: .*these fit: {fitting}$"):
            task(recipe, f"augment.mixing.mask_patch={patch}", small=())

    @pytest.mark.parametrize(
        ("model", "reason"), [("resnet18", "has no attention row"), ("vit_base_patch16_siglip_224", "pooling 'map'")]
    )
    def test_progressive_labels_need_an_attention_row(self, model, reason):
        changes = (f"model.name={model}", "augment.mixing.mask_patch=32")
        with torch.device("meta"), pytest.raises(UserError, match=f"labels=progressive: .*{reason}.*labels: area"):
            task("mixpro/deit_tiny", *changes, small=())

    def test_patches_of_a_hybrid_count_the_stride_of_its_convolutions(self):
        changes = ("model.name=vit_tiny_r_s16_p8_224", "augment.mixing.mask_patch=8")
        with torch.device("meta"), pytest.raises(UserError, match=r"patch of 32 .*these fit: 32$"):
            task("mixpro/deit_tiny", *changes, small=())

    def test_an_image_of_one_patch_has_no_mask(self):
        changes = ("data.image_size=16", "augment.mixing.mask_patch=16")
        with torch.device("meta"), pytest.raises(UserError, match="none fits; take larger images"):
            task("mixpro/deit_tiny", *changes, small=())

    def test_pairing_by_flip_needs_an_even_batch(self):
        with torch.device("meta"), pytest.raises(UserError, match=r"data\.batch_size=7: .*partner=permutation"):
            task("mixpro/transmix_deit_small", "data.batch_size=7", small=())

    def test_a_batch_of_one_cannot_be_mixed(self):
        with torch.device("meta"), pytest.raises(UserError, match=r"data\.batch_size=1: ") as caught:
            task("mixpro/transmix_deit_small", "data.batch_size=1", small=())
        assert "trainer.accumulate_grad_batches" in str(caught.value)
        remedy = str(caught.value).split("set '")[1].split("'")[0]
        with torch.device("meta"):
            task("mixpro/transmix_deit_small", "data.batch_size=1", remedy, small=())

    def test_batches_that_are_smaller_than_the_recipes(self):
        subject = task("studies/mixpro/digits_cutmix", *only("cutmix"), "augment.mixing.partner=flip")
        subject.check_batch(4)
        keys = r"trainer\.devices, .*data\.batch_size, .*augment\.mixing\.partner=permutation"
        with pytest.raises(UserError, match=f"batches of 3 for each process: .*{keys}"):
            subject.check_batch(3)
        with pytest.raises(UserError, match=r"batches of 1 for each process: .*trainer\.devices"):
            subject.check_batch(1)

    def test_any_batch_will_do_where_nothing_is_mixed(self):
        off = "augment.mixing={maskmix: 0, mixup: 0, cutmix: 0, labels: area, partner: flip}"
        task("studies/mixpro/digits_cutmix", off, "data.batch_size=3").check_batch(1)

    def test_an_odd_rest_of_a_batch_is_told_too(self):
        subject = task("studies/mixpro/digits_cutmix", *only("cutmix"), "augment.mixing.partner=flip")
        with pytest.raises(UserError, match=r"augment.mixing: .*5"):
            step(subject, batch(5))

    def test_attention_that_cannot_run_as_named(self):
        with torch.device("meta"), pytest.raises(UserError, match=r"model\.attention=math: .*cannot be routed"):
            task("classification/vit_tiny", "model.name=xcit_nano_12_p16_224", "model.attention=math", small=())


def test_swin_trains_on_progressive_labels_over_a_grid_that_cuts_its_cells() -> None:
    """MixPro's own code has no attention for Swin; here the mean over its last windows gives it."""
    small = ("model.args={embed_dim: 12, depths: [1, 1, 1, 1], num_heads: [1, 1, 2, 2]}", "data.image_size=96")
    subject = task("mixpro/swin_tiny", *only("maskmix", "progressive"), "augment.mixing.mask_patch=48", small=small)
    assert subject.mixing.grid == (3, 3)
    given = {"image": torch.randn(4, 3, 96, 96), "label": torch.arange(4)}
    found = step(subject, given)
    assert found.mix is not None
    assert found.attended is not None
    assert not torch.equal(found.attended, found.mix.share)
    functional.cross_entropy(found.logits, found.targets).backward()
    assert all(parameter.grad is not None for parameter in subject.network.parameters())


@pytest.mark.parametrize("kind", ["maskmix", "mixup", "cutmix"])
def test_labels_stay_float32_where_the_default_type_is_shorter(kind: str) -> None:
    """Lightning's bf16-true and 16-true change torch's default type while they train."""
    labels = {"maskmix": "progressive", "cutmix": "transmix", "mixup": "area"}[kind]
    exact, rough = (task("studies/mixpro/digits_plain", *only(kind, labels)) for _ in range(2))
    rough.bfloat16()
    given = batch()
    expected = step(exact, given)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = step(rough, {**given, "image": given["image"].bfloat16()})
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.mix is not None
    assert expected.mix is not None
    assert found.targets.dtype == torch.float32
    assert torch.equal(found.mix.share, expected.mix.share)
    assert torch.allclose(found.targets, expected.targets, atol=1e-2)
