import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from models.vit import build_model
from vision_train.errors import UserError
from vision_train.optim import build_optimizer, build_schedule, configure_optimizers, freeze
from vision_train.optim.optimizer import can_fuse
from vision_train.recipe import load_recipe
from vision_train.recipe.optim_section import Optim


def vit() -> nn.Module:
    return build_model("vit", num_classes=3, image_size=8, patch_size=4, embed_dim=12, depth=2, num_heads=2)


def test_schedule_is_a_function_of_the_step_alone():
    model, options = vit(), Optim(warmup_epochs=2)
    optimizer = build_optimizer(model, options, effective_batch=1)
    straight = build_schedule(optimizer, options, total_steps=40, steps_per_epoch=4)
    for _ in range(13):
        optimizer.step()
        straight.step()
    resumed = build_schedule(
        build_optimizer(model, options, effective_batch=1), options, total_steps=40, steps_per_epoch=4
    )
    resumed.load_state_dict(straight.state_dict())
    optimizer.step()
    straight.step()
    resumed.step()
    assert resumed.get_last_lr() == straight.get_last_lr()


def test_biases_norms_positions_and_tokens_are_not_decayed():
    model = vit()
    optimizer = build_optimizer(model, Optim(weight_decay=0.3), effective_batch=1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert {"head.weight", "blocks.0.attn.qkv.weight", "patch_embed.proj.weight"} <= decayed
    assert not decayed & {"pos_embed", "cls_token", "head.bias", "blocks.0.norm1.weight"}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.3}


def test_layer_decay_scales_by_distance_from_the_head():
    model = vit()
    optimizer = build_optimizer(model, Optim(lr=1.0, layer_decay=0.5), effective_batch=1)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rate[id(model.head.weight)] == pytest.approx(1.0)
    assert rate[id(model.blocks[0].attn.qkv.weight)] == pytest.approx(0.5 * rate[id(model.blocks[1].attn.qkv.weight)])
    assert rate[id(model.patch_embed.proj.weight)] == pytest.approx(0.5 * rate[id(model.blocks[0].attn.qkv.weight)])
    shape = build_schedule(optimizer, Optim(lr=1.0, layer_decay=0.5), total_steps=10, steps_per_epoch=1)
    assert max(shape.get_last_lr()) == pytest.approx(1.0)


def test_learning_rate_scales_with_the_effective_batch():
    optimizer = build_optimizer(vit(), Optim(lr=1e-3, lr_reference_batch=256), effective_batch=64)
    assert {group["lr"] for group in optimizer.param_groups} == {2.5e-4}


def test_unknown_optimiser_is_named():
    with pytest.raises(UserError, match=r"optim\.name=adamww"):
        build_optimizer(vit(), Optim(name="adamww"), effective_batch=1)


def test_layer_decay_without_layers_is_refused():
    with pytest.raises(UserError, match=r"optim\.layer_decay"):
        build_optimizer(nn.Linear(2, 2), Optim(layer_decay=0.5), effective_batch=1)


def test_betas_reach_the_optimiser():
    optimizer = build_optimizer(vit(), Optim(betas=(0.9, 0.95)), effective_batch=1)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.95)}


def rates(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def test_factors_scale_the_learning_rate_and_the_last_match_wins():
    model = vit()
    factors = {"*": 0.5, "blocks.*": 0.1, "blocks.1.*": 2.0}
    found = rates(model, build_optimizer(model, Optim(lr=1.0, lr_factors=factors), effective_batch=1))
    assert found["head.weight"] == found["cls_token"] == 0.5
    assert found["blocks.0.attn.qkv.weight"] == found["blocks.0.norm1.bias"] == 0.1
    assert found["blocks.1.attn.qkv.weight"] == 2.0


def test_factors_multiply_layer_decay():
    model, options = vit(), Optim(lr=1.0, layer_decay=0.5)
    before = rates(model, build_optimizer(model, options, effective_batch=1))
    scaled = Optim(lr=1.0, layer_decay=0.5, lr_factors={"*.bias": 0.1})
    for name, rate in rates(model, build_optimizer(model, scaled, effective_batch=1)).items():
        assert rate == pytest.approx(before[name] * (0.1 if name.endswith(".bias") else 1.0))


def test_a_glob_of_factors_that_matches_nothing_is_named():
    with pytest.raises(UserError, match=r"optim\.lr_factors: `block\.\*`.*blocks\.\*"):
        build_optimizer(vit(), Optim(lr_factors={"block.*": 0.1}), effective_batch=1)


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        (Optim(), 2),  # decayed and not
        (Optim(weight_decay=0.0), 1),
        (Optim(layer_decay=0.5), 8),  # stem, two blocks, norm with head: decayed and not
        (Optim(layer_decay=0.5, weight_decay=0.0), 4),  # one a layer, where timm makes two
        (Optim(layer_decay=1.0), 2),  # where timm makes eight
        (Optim(lr_factors={"blocks.0.*": 0.1, "blocks.1.*": 0.1}), 4),
    ],
)
def test_parameters_of_equal_settings_share_a_group(options, groups):
    optimizer = build_optimizer(vit(), options, effective_batch=1)
    assert len(optimizer.param_groups) == groups
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    assert not any(one == other for place, one in enumerate(settings) for other in settings[:place])


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
@pytest.mark.parametrize("layer_decay", [None, 1.0])
def test_steps_with_merged_groups_are_those_with_a_group_for_each_tensor(name, layer_decay):
    """Equal to the bit: optimisers treat each tensor by itself, whatever it shares a group with."""
    merged, single = (copy.deepcopy(model) for model in [vit()] * 2)
    options = Optim(name=name, lr=1e-2, layer_decay=layer_decay, lr_factors={"blocks.*": 0.5})
    optimizers = [build_optimizer(model, options, effective_batch=1) for model in (merged, single)]
    split = [{**group, "params": [p]} for group in optimizers[1].param_groups for p in group["params"]]
    optimizers[1].param_groups[:] = split
    assert len(optimizers[0].param_groups) < len(split)
    for _ in range(3):
        images = torch.randn(2, 3, 8, 8)
        for model, optimizer in zip((merged, single), optimizers, strict=True):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
    for one, other in zip(merged.parameters(), single.parameters(), strict=True):
        assert torch.equal(one, other)


class TestOnePassOnACpu:
    @pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
    def test_steps_are_those_of_many_passes(self, name):
        model = vit()
        other = copy.deepcopy(model)
        fused, plain = (
            build_optimizer(each, Optim(name=name, lr=1e-2, weight_decay=0.1), effective_batch=1, mixed=mixed)
            for each, mixed in ((model, False), (other, True))
        )
        assert all(group["fused"] for group in fused.param_groups)
        assert not any(group["fused"] for group in plain.param_groups)
        for _ in range(3):
            for one, same in zip(model.parameters(), other.parameters(), strict=True):
                one.grad = torch.randn_like(one)
                same.grad = one.grad.clone()
            fused.step(), plain.step()
        for one, same in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one, same, rtol=1e-5, atol=1e-7)

    def test_other_optimisers_and_other_devices_go_on_as_they_are(self):
        assert not can_fuse(vit(), "lion")
        assert can_fuse(vit(), "AdamW")
        assert not can_fuse(vit().to("meta"), "adamw")

    @pytest.mark.parametrize(("precision", "fused"), [(None, True), ("32-true", True), ("bf16-mixed", False)])
    def test_mixed_precision_keeps_the_clipping_of_lightning(self, precision, fused):
        given = load_recipe("quickstart", runnable=False)
        recipe = replace(given, trainer={"precision": precision, "gradient_clip_val": 1.0})
        facts = {"total_steps": 2, "steps_per_epoch": 1, "effective_batch": 1}
        found = configure_optimizers(vit(), recipe, **facts)["optimizer"]
        assert all(bool(group["fused"]) is fused for group in found.param_groups)

    def test_a_resumed_run_steps_as_its_own_device_asks(self):
        earlier = build_optimizer(vit(), Optim(), effective_batch=1).state_dict()
        optimizer = build_optimizer(vit(), Optim(), effective_batch=1, mixed=True)
        optimizer.load_state_dict(earlier)
        assert not any(group["fused"] for group in optimizer.param_groups)


def test_frozen_parameters_are_not_in_the_optimiser():
    model = vit()
    freeze(model, ["blocks.*", "pos_embed"])
    found = rates(model, build_optimizer(model, Optim(weight_decay=0.0), effective_batch=1))
    assert found.keys() == {name for name, _ in model.named_parameters() if not name.startswith(("blocks.", "pos_"))}


def test_state_of_other_groups_is_refused_with_a_remedy():
    model = vit()
    earlier = build_optimizer(model, Optim(layer_decay=0.5), effective_batch=1).state_dict()
    optimizer = build_optimizer(model, Optim(), effective_batch=1)
    with pytest.raises(UserError, match=r"groups.*cannot be resumed.*weight_decay.*model\.positions"):
        optimizer.load_state_dict(earlier)
    optimizer.load_state_dict(build_optimizer(vit(), Optim(), effective_batch=1).state_dict())


class TestDecayAlso:
    def decayed(self, options: Optim) -> set[str]:
        model = vit()
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = build_optimizer(model, options, effective_batch=1).param_groups
        return {names[id(p)] for group in groups if group["weight_decay"] == 0.3 for p in group["params"]}

    def test_names_norms_that_decay_all_the_same(self):
        usual = self.decayed(Optim(weight_decay=0.3))
        more = self.decayed(Optim(weight_decay=0.3, decay_also=["blocks.*.norm1.weight"]))
        assert more - usual == {"blocks.0.norm1.weight", "blocks.1.norm1.weight"}
        assert usual < more

    def test_a_glob_that_matches_nothing_is_refused(self):
        with pytest.raises(UserError, match=r"optim\.decay_also.*blocks\.\*"):
            build_optimizer(vit(), Optim(decay_also=["block.*"]), effective_batch=1)
