"""DropPos against what its official code computed (``tests/golden/droppos``; ``manifest.json`` explains).

Numbers in names are those of the acceptance list in ``docs/methods/droppos.md``; what fine-tuning makes of the weights
is item 13, in ``tests/tasks``.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

from models.droppos.decoders import DecoderShape
from models.droppos.encoder import encode
from models.droppos.masks import Masking, Masks, MaskSampler, masks_from_noise
from models.droppos.network import Affinity, MaskedPositionNetwork, weighted_cross_entropy
from models.droppos.patches import take_patches
from models.droppos.published import adapt_published
from models.droppos.scores import score_positions
from models.droppos.smoothing import position_targets
from models.timm_attention import install_attention

GOLDEN = Path(__file__).parents[1] / "golden" / "droppos"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
FILES = MANIFEST["files"]
PRETRAIN, MULTITASK = (load_file(GOLDEN / f"{name}.safetensors") for name in ("pretrain", "multitask"))
MADE = FILES["pretrain.safetensors"]
TOKENS = 4e-6
"""Sums over a patch are taken in another order than by a convolution; either is 3e-6 from the sum in float64."""
DROP_ALL = Masking(mask_ratio=0, position_mask_ratio=1)


def close(found, expected, within=1e-5):
    torch.testing.assert_close(found, expected, atol=within, rtol=0)


def published(golden):
    return {name.removeprefix("state."): tensor for name, tensor in golden.items() if name.startswith("state.")}


def build(config, **options):
    shape = {"img_size": config["img"], "patch_size": config["patch"], "num_heads": config["heads"]}
    encoder = VisionTransformer(**shape, embed_dim=config["dim"], depth=config["depth"], num_classes=0)
    decoder = DecoderShape(config["ddim"], config["ddepth"], config["dheads"])
    return MaskedPositionNetwork(encoder, decoder=decoder, **options)


def load(golden, config, **options):
    network = build(config, **options)
    network.load_state_dict(adapt_published(published(golden), network))
    install_attention(network)
    return network


def pretrained(**options):
    return load(PRETRAIN, MADE["config"], **options)


def masks_of(golden, masking=Masking(), case=""):  # noqa: B008
    return masks_from_noise(masking, golden[f"in.{case}noise_patch"], golden[f"in.{case}noise_pos"])


def targets(kind, sigma):
    """The fixtures' names for maps: their images have as many patches in a row as a patch has pixels."""
    official = {"compat": "official", "patch": 8} if kind in ("official", "engine_grid") else {}
    return position_targets((8, 8), sigma, **official)


def tokens_in(network, masks):
    """What enters the first block."""
    seen = []
    hook = network.encoder.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    output = network(PRETRAIN["in.images"], masks, targets("rownorm", 0), weighted=False)
    hook.remove()
    return seen[0], output


def test_item_2_masks():
    masks = masks_of(PRETRAIN)
    assert torch.equal(masks.visible, PRETRAIN["out.ids_keep"])
    assert torch.equal(masks.dropped, PRETRAIN["out.mask_pos"])
    assert (masks.visible.shape[1], int(masks.dropped[0].sum())) == (MADE["visible"], MADE["positions_dropped"])


def test_item_2_positions_are_those_of_the_published_table():
    close(build(MADE["config"]).encoder.pos_embed.data, PRETRAIN["state.pos_embed"], 1e-6)
    close(build(MULTITASK_MADE, position_weight=0.05).pixel_decoder.pos_embed.data, MULTITASK[AUX_POSITIONS], 1e-6)


def test_item_2_tokens_encoder_and_logits():
    network, masks = pretrained(), masks_of(PRETRAIN)
    tokens, output = tokens_in(network, masks)
    close(tokens, PRETRAIN["out.tokens_in"], TOKENS)
    close(encode(network.encoder, PRETRAIN["in.images"], masks, network.mask_pos_token), PRETRAIN["out.encoder"])
    close(output.logits, PRETRAIN["out.logits"])
    assert torch.equal(output.masks.visible, PRETRAIN["out.labels"])


def test_item_2_dropped_positions_as_zeros():
    tokens, output = tokens_in(pretrained(dropped_position="zeros"), masks_of(PRETRAIN))
    close(tokens, PRETRAIN["out.zeros.tokens_in"], TOKENS)
    close(output.logits, PRETRAIN["out.zeros.logits"])


def test_item_2_the_official_shuffle_of_visible_patches_changes_nothing_but_their_order():
    """Which is why there is no such option here: masks whose patches come in that order give its tokens."""
    order, masks = PRETRAIN["in.noise_shuffle"].argsort(dim=1), masks_of(PRETRAIN)
    shuffled = Masks(masks.visible.gather(1, order), masks.dropped.gather(1, order), None)
    tokens, output = tokens_in(pretrained(), shuffled)
    close(tokens, PRETRAIN["out.shuffle.tokens_in"], TOKENS)
    close(output.logits, PRETRAIN["out.logits"].gather(1, order[..., None].expand(-1, -1, 64)))


def test_item_2_all_patches_visible_and_all_positions_dropped():
    tokens, output = tokens_in(pretrained(), masks_of(PRETRAIN, DROP_ALL, "alldrop."))
    expected = next(case for case in MADE["losses"] if case.get("case") == "alldrop")
    close(tokens, PRETRAIN["out.alldrop.tokens_in"], TOKENS)
    close(output.logits, PRETRAIN["out.alldrop.logits"])
    assert output.loss.item() == pytest.approx(expected["loss"], abs=1e-5)
    assert score_positions(output, (8, 8)).means()["acc1"].item() == pytest.approx(expected["acc1"], abs=1e-6)


@pytest.mark.parametrize("kind", ["official", "rownorm"])
@pytest.mark.parametrize("sigma", [0, 0.5, 1.0])
def test_item_2_maps_and_losses_of_single_patches(kind, sigma):
    found = targets(kind, sigma)
    close(found, PRETRAIN[f"out.map_{kind}.sigma{sigma}"] if sigma else torch.eye(64), 1e-6)
    logits, visible = PRETRAIN["out.logits"], PRETRAIN["out.ids_keep"]
    if kind == "rownorm" and sigma:
        close(found[visible], PRETRAIN[f"out.targets_rownorm.sigma{sigma}"], 1e-6)
    for image in range(3):
        for patch in range(16):
            alone = torch.zeros(3, 16)
            alone[image, patch] = 1
            expected = PRETRAIN[f"out.token_loss_{kind}.sigma{sigma}"][image, patch]
            close(weighted_cross_entropy(logits, found[visible], alone), expected)


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_item_2_affinity(tau):
    network, masks = pretrained(), masks_of(PRETRAIN)
    weights = network.affinity_weights(PRETRAIN["in.images"], masks, Affinity(temperature=tau))
    close(weights, PRETRAIN[f"out.attn_vis.tau{tau}"])


LOSSES = [case for case in MADE["losses"] if "conf_ignore" not in case and "case" not in case]


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: f"{case['map']}-{case['sigma']}-{case['tau']}")
def test_item_2_losses_and_accuracies(case):
    network = pretrained(affinity=case["tau"] and Affinity(temperature=case["tau"]))
    output = network(PRETRAIN["in.images"], masks_of(PRETRAIN), targets(case["map"], case["sigma"]))
    means = score_positions(output, (8, 8)).means()
    assert output.loss.item() == pytest.approx(case["loss"], abs=1e-5)
    assert means["acc1_weighted"].item() == pytest.approx(case["acc1"], abs=1e-5)
    unweighted = next(other for other in LOSSES if other["tau"] is None and other["sigma"] == 0)
    assert means["acc1"].item() == pytest.approx(unweighted["acc1"], abs=1e-6)
    assert means["hard_ce"].item() == pytest.approx(unweighted["loss"], abs=1e-5)


@pytest.mark.parametrize("name", MADE["gradients"])
def test_item_2_gradients(name):
    check_gradients(name, targets(MADE["gradients"][name]["map"], MADE["gradients"][name]["sigma"]))


def test_item_2_gradients_of_the_released_last_epoch():
    """Its narrow map is the identity in either mode, and the only one whose gradients both can share."""
    check_gradients("hard", targets("official", 1 / 800))


def check_gradients(name, wanted):
    tau, prefix = MADE["gradients"][name]["tau"], f"out.grad_{name}."
    network = pretrained(affinity=tau and Affinity(temperature=tau))
    network(PRETRAIN["in.images"], masks_of(PRETRAIN), wanted).loss.backward()
    expected = {key.removeprefix(prefix): tensor for key, tensor in PRETRAIN.items() if key.startswith(prefix)}
    ours = adapt_published(expected, network)
    assert len(ours) == len(expected) == 7
    parameters = dict(network.named_parameters())
    for parameter, gradient in ours.items():
        close(parameters[parameter].grad, gradient)


@pytest.mark.parametrize("tau", [None, 0.1, 1.0])
@pytest.mark.parametrize("sigma", [0.5, 1.0])
@pytest.mark.parametrize("kind", ["official", "rownorm"])
def test_item_2_gradients_of_the_head_in_closed_form(kind, sigma, tau):
    """The bias receives the weighted mean of p sum(T) - T, of which the official code recorded every part."""
    network = pretrained(affinity=tau and Affinity(temperature=tau))
    network(PRETRAIN["in.images"], masks_of(PRETRAIN), targets(kind, sigma)).loss.backward()
    probability, wanted = PRETRAIN["out.logits"].softmax(-1), PRETRAIN[f"out.map_{kind}.sigma{sigma}"]
    wanted = wanted[PRETRAIN["out.labels"]]
    weights = PRETRAIN["out.mask_pos"] * (PRETRAIN[f"out.attn_vis.tau{tau}"] if tau else 1.0)
    each = probability * wanted.sum(-1, keepdim=True) - wanted
    close(network.decoder.pred.bias.grad, (weights[..., None] * each).sum((0, 1)) / weights.sum())


MULTITASK_MADE = FILES["multitask.safetensors"]["config"]
AUX_POSITIONS = "state.aux_decoder_pos_embed"


def test_item_2_pixels_of_removed_patches_beside_positions():
    made = FILES["multitask.safetensors"]
    network = load(MULTITASK, MULTITASK_MADE, position_weight=made["pos_weight"])
    masks = masks_of(MULTITASK, Masking(mask_ratio=0.5))
    predicted = []
    network.pixel_decoder.register_forward_hook(lambda module, inputs, output: predicted.append(output))
    output = network(MULTITASK["in.images"], masks, position_targets((6, 6), made["sigma"]))
    close(output.logits, MULTITASK["out.logits"])
    close(predicted[0], MULTITASK["out.pixels"])
    every = torch.arange(36).expand(2, -1)
    assert torch.equal(
        take_patches(MULTITASK["in.images"], every, (8, 8)).movedim(2, -1).flatten(2), MULTITASK["out.patches"]
    )
    assert output.position_loss.item() == pytest.approx(made["loss_pos"], abs=1e-5)
    assert output.pixel_losses.mean().item() == pytest.approx(made["loss_mae_norm_pix"], abs=1e-5)
    assert output.loss.item() == pytest.approx(made["loss_total"], abs=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("size", "side", "patch", "rows"), [(224, 14, 16, [0, 100, 195]), (48, 6, 8, [0, 20, 35])])
def test_item_2_maps_of_real_sizes(size, side, patch, rows, sigma):
    golden = load_file(GOLDEN / "smoothing_maps.safetensors")
    ours = position_targets((side, side), sigma)
    close(ours[rows], golden[f"true_rownorm.{side}.sigma{sigma}"], 1e-6)
    close(ours.T[rows], golden[f"true_official.{side}.sigma{sigma}"], 1e-6)
    official = position_targets((side, side), sigma, compat="official", patch=patch)
    close(official[rows], golden[f"engine.{size}_{side}.sigma{sigma}"][:, : side * side], 1e-6)


def test_item_7_loss_at_initialisation_is_the_official_one():
    """Xavier makes the logits' variance 2E / (E + N), so the loss begins at log N + E / (E + N)."""
    config = MANIFEST["loss_at_official_init"]["config"]
    network, patches = build(config), 36
    sampler = MaskSampler(Masking(mask_ratio=0.5), patches, seed=0)
    losses = [network(torch.randn(16, 3, 48, 48), sampler.draw(16), torch.eye(patches)).loss.item() for _ in range(3)]
    expected = math.log(patches) + config["ddim"] / (config["ddim"] + patches)
    assert sum(losses) / 3 == pytest.approx(expected, abs=0.15)
    official = [run["loss"] for run in MANIFEST["loss_at_official_init"]["runs"]]
    assert sum(official) / 3 == pytest.approx(expected, abs=0.15)


def test_item_7_loss_at_initialisation_of_the_published_decoder():
    """The encoder's size does not matter: its output is normalised. The official ViT-B/16 begins at 5.99."""
    network = build(
        {"img": 224, "patch": 16, "dim": 48, "depth": 1, "heads": 3, "ddim": 512, "ddepth": 2, "dheads": 16}
    )
    with torch.no_grad():
        loss = network(torch.randn(4, 3, 224, 224), MaskSampler(Masking(), 196, seed=0).draw(4), torch.eye(196)).loss
    assert loss.item() == pytest.approx(math.log(196) + 512 / (512 + 196), abs=0.15)
