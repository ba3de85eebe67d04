"""timm's networks with our attention installed are the networks they were."""

import copy
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import ParallelScalingBlock, ParallelThingsBlock, ResPostBlock, VisionTransformer

from models.attention import choose_backend
from models.routed_attention import ROUTED, RoutedAttention
from models.timm_attention import install_attention
from models.vit import adapt_published

GOLDEN = Path(__file__).parents[1] / "golden" / "mixpro"
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "num_heads": 3, "depth": 2, "num_classes": 5}
TURNED = {"use_rot_pos_emb": True, "global_pool": "token"}
CPU = torch.device("cpu")


def swin(**args):
    """Two stages with shifted windows; the first has four windows an image."""
    shape = {"img_size": 56, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "num_classes": 5}
    return SwinTransformer(**shape | {"drop_path_rate": 0.0} | args)


NETWORKS = {
    "vit": lambda: VisionTransformer(**SMALL),
    "vit with registers and qk norm": lambda: VisionTransformer(**SMALL, reg_tokens=4, qk_norm=True),
    "vit with gains on attention": lambda: VisionTransformer(**SMALL, scale_attn_norm=True, global_pool="avg"),
    "vit with norm behind attention": lambda: VisionTransformer(**SMALL, block_fn=ResPostBlock),
    "vit with parallel attention": lambda: VisionTransformer(**SMALL, block_fn=ParallelThingsBlock),
    "dinov2": lambda: VisionTransformer(**SMALL, init_values=0.1, reg_tokens=4, no_embed_class=True),
    "deit distilled": lambda: VisionTransformerDistilled(**SMALL),
    "eva": lambda: Eva(**SMALL, init_values=0.1),
    "eva02": lambda: Eva(**SMALL, **TURNED, qkv_fused=False, swiglu_mlp=True, scale_attn_inner=True),
    "eva without biases": lambda: Eva(**SMALL, **TURNED, qkv_bias=False, qk_norm=True),
    "dinov3": lambda: Eva(**SMALL, **TURNED, rope_type="dinov3", rope_rotate_half=True, num_reg_tokens=4),
    "rope": lambda: Eva(**SMALL, **TURNED, attn_type="rope", rope_type="mixed"),
    "rope with norm behind attention": lambda: Eva(**SMALL, **TURNED, attn_type="rope", use_post_norm=True),
    "rope with grouped heads": lambda: Eva(**SMALL, **TURNED, attn_type="rope", qkv_fused=False, num_kv_heads=1),
    "swin": swin,
    "swin with several windows in every stage": lambda: swin(img_size=112),
    "swin with padded windows": lambda: swin(img_size=72, window_size=5),
    "swin of any size": lambda: swin(strict_img_size=False),
}


@pytest.fixture(params=NETWORKS, ids=lambda name: name.replace(" ", "-"))
def network(request):
    return NETWORKS[request.param]().train()


def images(network, batch=2):
    return torch.randn(batch, 3, *network.patch_embed.img_size)


def run(network, batch, seed=0):
    """Logits and all gradients of a training step."""
    torch.manual_seed(seed)
    network.zero_grad()
    logits = network(batch)
    logits.square().sum().backward()
    return logits.detach(), {name: parameter.grad for name, parameter in network.named_parameters()}


class TestInstalledModelEqualsTheUninstalledOne:
    @pytest.mark.parametrize("backend", ["sdpa", "math"])
    def test_in_values_and_gradients(self, network, backend):
        batch = images(network)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        logits, gradients = run(network, batch)
        receipt = install_attention(network, backend)
        installed_logits, installed_gradients = run(network, batch)
        assert receipt.installed
        torch.testing.assert_close(installed_logits, logits, atol=1e-5, rtol=1e-4)
        for name, gradient in gradients.items():
            torch.testing.assert_close(installed_gradients[name], gradient, atol=1e-4, rtol=1e-3, msg=name)

    def test_in_names_and_state_and_copies(self, network):
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        install_attention(network)
        twin = copy.deepcopy(network).eval()
        assert list(twin.state_dict()) == list(before)
        assert all(torch.equal(tensor, before[name]) for name, tensor in twin.state_dict().items())
        assert all(isinstance(module, module_class) for module, module_class in zip_classes(twin))
        batch = images(network)
        assert torch.equal(twin(batch), network.eval()(batch))

    def test_under_bfloat16_autocast(self, network):
        batch = images(network)
        network.eval()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(batch)
            install_attention(network)
            torch.testing.assert_close(network(batch), logits, atol=2e-2, rtol=2e-2)


def zip_classes(network):
    """Routed modules with the timm class each is still an instance of."""
    routed = {ours: theirs for theirs, ours in ROUTED.items()}
    return [(module, routed[type(module)]) for module in network.modules() if isinstance(module, RoutedAttention)]


class TestOptionsOfTimmAttention:
    @pytest.mark.parametrize("known", [known for known in ROUTED if known.__name__ != "WindowAttention"])
    @pytest.mark.parametrize("gated", [False, True])
    @pytest.mark.parametrize("options", ["boolean mask", "additive mask", "causal", "dropout"])
    def test_masks_gates_causal_order_and_dropout(self, known, gated, options):
        module = known(48, num_heads=3, gated=gated, norm_layer=torch.nn.LayerNorm, attn_drop=0.3).train()
        if options != "dropout":
            module.eval()
        mask = torch.rand(2, 1, 7, 7) < 0.7
        mask[..., 0] = True
        arguments = {
            "boolean mask": {"attn_mask": mask},
            "additive mask": {"attn_mask": torch.randn(2, 3, 7, 7)},
            "causal": {"is_causal": True},
            "dropout": {},
        }[options]
        tokens = torch.randn(2, 7, 48)
        torch.manual_seed(0)
        expected = module(tokens, **arguments)
        install_attention(module)
        torch.manual_seed(0)
        torch.testing.assert_close(module(tokens, **arguments), expected)

    def test_key_bias_added_apart(self):
        module = timm.models.eva.EvaAttention(48, num_heads=3, qkv_bias_separate=True, scale_norm=False)
        tokens = torch.randn(2, 7, 48)
        expected = module(tokens)
        install_attention(module)
        torch.testing.assert_close(module(tokens), expected)


class TestPublishedModels:
    def test_vit_of_mixpro_keeps_its_logits(self):
        golden = load_file(GOLDEN / "vit_tiny.safetensors")
        network = VisionTransformer(**SMALL | {"depth": 3, "num_classes": 10}).eval()
        load_published(network, golden, ignored={"mask_token", "head1.weight", "head1.bias"})
        install_attention(network)
        torch.testing.assert_close(network(golden["images"]), golden["logits"], atol=1e-5, rtol=0)

    def test_swin_of_mixpro_keeps_its_logits(self):
        golden = load_file(GOLDEN / "swin_tiny.safetensors")
        network = swin(num_classes=10).eval()
        load_published(network, golden, ignored={"mask_token"})
        install_attention(network)
        torch.testing.assert_close(network(golden["images"]), golden["logits"], atol=1e-5, rtol=0)


def load_published(network, golden, ignored):
    published = {name.removeprefix("sd."): tensor for name, tensor in golden.items() if name.startswith("sd.")}
    result = network.load_state_dict(adapt_published(published, network), strict=False)
    assert (set(result.missing_keys), set(result.unexpected_keys)) == (set(), ignored)


class TestReceipt:
    def test_counts_by_class_and_is_fit_for_json(self):
        receipt = install_attention(swin()).decided(swin(), device=CPU, dtype=torch.float32, training=True)
        assert receipt.installed == {"WindowAttention": 4}
        assert json.loads(json.dumps(asdict(receipt)))["asked"] == "auto"

    def test_says_which_backend_runs_and_why_others_are_refused(self):
        network = swin()
        receipt = install_attention(network)
        (use,) = receipt.decided(network, device=CPU, dtype=torch.float32, training=True).uses
        assert (use.attention_class, use.modules, use.head_dim, use.has_bias) == ("WindowAttention", 4, 8, True)
        assert use.backend == "sdpa"
        assert "CUDA" in use.refused["xformers"]

    @pytest.mark.parametrize("training", [True, False])
    def test_tells_of_a_device_that_is_not_at_hand(self, monkeypatch, training):
        monkeypatch.setattr("models.attention.cuda_facts", lambda kind, index: ((9, 0), None))
        with torch.device("meta"):
            network = VisionTransformer(**SMALL)
        facts = {"device": torch.device("cuda"), "dtype": torch.float16, "training": training}
        receipt = install_attention(network)
        assert [use.backend for use in receipt.decided(network, **facts).uses] == ["xformers"]
        assert [use.backend for use in receipt.decided(network, **facts, compiled=True).uses] == ["sdpa"]

    def test_agrees_with_what_the_model_then_calls(self, network, monkeypatch):
        decided = install_attention(network).decided(network, device=CPU, dtype=torch.float32, training=True)
        made = []
        monkeypatch.setattr(
            "models.attention.choose_backend", lambda call, name: made.append(call) or choose_backend(call, name)
        )
        network.train()(images(network))
        assert len(made) == sum(use.modules for use in decided.uses)
        routed = [module for module in network.modules() if isinstance(module, RoutedAttention)]
        assert set(made) == {each.expected_call(CPU, torch.float32, training=True, compiled=False) for each in routed}

    def test_a_backend_by_name_that_cannot_run_there_is_an_error(self):
        network = VisionTransformer(**SMALL)
        receipt = install_attention(network, "xformers")
        with pytest.raises(ValueError, match=r"'xformers' cannot run: .*'cpu'"):
            receipt.decided(network, device=CPU, dtype=torch.float32, training=True)

    def test_a_network_without_attention_says_so(self):
        receipt = install_attention(timm.create_model("resnet18", num_classes=2), "sdpa")
        assert (receipt.installed, receipt.kept) == ({}, {})


class TestOtherAttention:
    @pytest.mark.parametrize(
        ("build", "kept"),
        [
            (lambda: timm.create_model("beit_base_patch16_224"), "Attention"),
            (lambda: timm.create_model("swinv2_tiny_window8_256"), "WindowAttention"),
            (lambda: timm.create_model("cait_xxs24_224"), "TalkingHeadAttn"),
            (lambda: timm.create_model("xcit_nano_12_p16_224"), "XCA"),
            (lambda: timm.create_model("mobilevitv2_050"), "LinearSelfAttention"),
            (lambda: VisionTransformer(**SMALL, global_pool="map", class_token=False), "AttentionPoolLatent"),
            (lambda: VisionTransformer(**SMALL, block_fn=ParallelScalingBlock), "ParallelScalingBlock"),
            (lambda: torch.nn.TransformerEncoderLayer(8, 2), "MultiheadAttention"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_auto_leaves_it_and_says_so_while_a_name_is_refused(self, build, kept):
        with torch.device("meta"):
            network = build()
        with pytest.raises(ValueError, match=f"'sdpa' cannot be set for .*{kept}.* cannot be routed, only timm's"):
            install_attention(network, "sdpa")
        assert not any(isinstance(module, RoutedAttention) for module in network.modules())
        assert kept in install_attention(network).kept

    def test_subclasses_of_a_known_class_are_not_taken_for_it(self):
        class Other(timm.layers.attention.Attention):
            pass

        assert install_attention(Other(48, num_heads=3)).kept.keys() == {"Other"}

    def test_an_unknown_backend_is_refused(self):
        with pytest.raises(ValueError, match="'flash' is unknown"):
            install_attention(VisionTransformer(**SMALL), "flash")

    def test_installing_again_changes_the_backend(self):
        network = VisionTransformer(**SMALL)
        assert install_attention(network, "math").installed == install_attention(network, "sdpa").installed
        assert {module.backend for module in network.modules() if isinstance(module, RoutedAttention)} == {"sdpa"}
