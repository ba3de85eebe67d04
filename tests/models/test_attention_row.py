"""The attention row equals the dense map's, at the cost of a row, and disturbs nothing."""

import copy
import gc
import weakref
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import ParallelScalingBlock, ParallelThingsBlock, VisionTransformer
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from models.attention_row import attention_source, column_mean, predict_with_attention
from models.timm_attention import install_attention

GOLDEN = Path(__file__).parents[1] / "golden" / "mixpro" / "vit_tiny.safetensors"
SMALL = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "num_heads": 3, "depth": 2, "num_classes": 5}
TURNED = {"use_rot_pos_emb": True, "global_pool": "token"}


def swin(**args):
    shape = {"img_size": 56, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "drop_path_rate": 0.0}
    return SwinTransformer(**shape | args)


TOKENS = {
    "vit": lambda: VisionTransformer(**SMALL),
    "vit with registers and qk norm": lambda: VisionTransformer(**SMALL, reg_tokens=4, qk_norm=True),
    "deit distilled": lambda: VisionTransformerDistilled(**SMALL),
    "dinov2": lambda: VisionTransformer(**SMALL, init_values=0.1, reg_tokens=4, no_embed_class=True),
    "eva02": lambda: Eva(**SMALL, **TURNED, qkv_fused=False, swiglu_mlp=True),
    "dinov3": lambda: Eva(**SMALL, **TURNED, rope_type="dinov3", num_reg_tokens=4),
    "rope with grouped heads": lambda: Eva(**SMALL, **TURNED, attn_type="rope", qkv_fused=False, num_kv_heads=1),
    "vit pooled by the mean": lambda: VisionTransformer(**SMALL, class_token=False, global_pool="avg"),
    "vit pooled by the mean of patches": lambda: VisionTransformer(**SMALL, reg_tokens=2, global_pool="avg"),
    "vit pooled with its prefix": lambda: VisionTransformer(**SMALL, global_pool="avg", pool_include_prefix=True),
    "eva pooled by the mean": lambda: Eva(**SMALL, use_rot_pos_emb=True, global_pool="avg"),
}
WINDOWS = {
    "swin of one window": swin,
    "swin of several shifted windows": lambda: swin(img_size=112),
    "swin of padded shifted windows": lambda: swin(img_size=72, window_size=5),
    "swin of unshifted windows": lambda: swin(img_size=112, depths=(2, 1)),
    "swin of oblong shifted windows": lambda: swin(img_size=(56, 112), window_size=(5, 7)),
}


def build(factory):
    """Build a network whose attention is far from uniform, and a batch for it."""
    network = factory().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network, torch.randn(2, 3, *network.patch_embed.img_size)


def dense_attention(network, batch, module):
    """Weights of an attention module as timm itself computes them without its fused kernel."""
    seen = []
    module.fused_attn = False
    handle = module.attn_drop.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    network(batch)
    handle.remove()
    module.fused_attn = True
    return seen[0].mean(1)


def cells_of_windows(block, rows, columns):
    """For each window, the cell of the grid at each of its places; None where there is only padding."""
    (height, width), (down, right) = block.window_size, block.shift_size
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            places = [(row, column) for row in range(top, top + height) for column in range(left, left + width)]
            yield [
                (row + down) % rows * columns + (column + right) % columns if row < rows and column < columns else None
                for row, column in places
            ]


class TestRowEqualsTheDenseMap:
    @pytest.mark.parametrize("name", TOKENS)
    def test_of_tokens(self, name):
        network, batch = build(TOKENS[name])
        prefix, dense = network.num_prefix_tokens, dense_attention(network, batch, network.blocks[-1].attn)
        kind, expected = "class token", dense[:, 0, prefix:]
        if network.global_pool == "avg":
            pooled_from = 0 if getattr(network, "pool_include_prefix", False) else prefix
            kind, expected = "column mean", dense[:, pooled_from:, prefix:].mean(1)
        install_attention(network)
        prediction, source = predict_with_attention(network, batch), attention_source(network, 32)
        torch.testing.assert_close(prediction.attention, expected, atol=1e-6, rtol=1e-5)
        assert (source.kind, source.grid) == (kind, (8, 8))
        assert prediction.attention.shape == (2, 64)

    @pytest.mark.parametrize("name", WINDOWS)
    def test_of_windows(self, name):
        network, batch = build(WINDOWS[name])
        block = network.layers[-1].blocks[-1]
        rows, columns = block.input_resolution
        windows = list(cells_of_windows(block, rows, columns))
        dense = dense_attention(network, batch, block.attn).unflatten(0, (2, len(windows)))
        expected = torch.zeros(2, rows * columns)
        for number, cells in enumerate(windows):
            real = [place for place, cell in enumerate(cells) if cell is not None]
            for place in real:
                expected[:, cells[place]] = dense[:, number, real, place].sum(1) / (rows * columns)
        install_attention(network)
        prediction, source = predict_with_attention(network, batch), attention_source(network, batch.shape[-2:])
        torch.testing.assert_close(prediction.attention, expected, atol=1e-6, rtol=1e-5)
        assert (source.kind, source.grid) == ("column mean", (rows, columns))
        assert any(block.shift_size) == ("shifted" in name.split())

    def test_of_the_official_vit(self):
        golden = load_file(GOLDEN)
        shape = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 10}
        network = VisionTransformer(**shape).eval()
        network.load_state_dict({name[3:]: value for name, value in golden.items() if name[:3] == "sd."}, strict=False)
        install_attention(network)
        _, attention = predict_with_attention(network, golden["images"])
        torch.testing.assert_close(attention, golden["attn_cls"], atol=1e-6, rtol=0)
        assert all(block.attn.fused_attn for block in network.blocks)
        assert not attention.requires_grad
        assert type(network(golden["images"])) is torch.Tensor

    def test_with_attention_dropout_it_is_the_row_before_dropout(self):
        network, batch = build(lambda: VisionTransformer(**SMALL, attn_drop_rate=0.5))
        install_attention(network)
        undisturbed = predict_with_attention(network, batch).attention
        network.blocks[-1].attn.train()
        assert torch.equal(predict_with_attention(network, batch).attention, undisturbed)


@pytest.fixture(params=["vit", "vit pooled by the mean", "swin of several shifted windows"])
def installed(request):
    network, batch = build((TOKENS | WINDOWS)[request.param])
    install_attention(network)
    return network, batch


def last_attention(network):
    blocks = network.layers[-1].blocks if isinstance(network, SwinTransformer) else network.blocks
    return blocks[-1].attn


class TestCaptureDisturbsNothing:
    def test_logits_and_gradients_are_those_of_a_plain_call(self, installed):
        network, batch = installed
        network.train()
        network(batch).square().sum().backward()
        expected = {name: parameter.grad for name, parameter in network.named_parameters()}
        network.zero_grad()
        prediction = predict_with_attention(network, batch)
        prediction.logits.square().sum().backward()
        assert not prediction.attention.requires_grad
        assert torch.equal(prediction.logits, network(batch))
        assert all(torch.equal(parameter.grad, expected[name]) for name, parameter in network.named_parameters())

    def test_no_tensor_stays_on_the_model_or_in_the_graph(self, installed):
        network, batch = installed
        logits, attention = predict_with_attention(network, batch)
        row = weakref.ref(attention)
        del attention
        gc.collect()
        assert row() is None
        assert last_attention(network).observed is last_attention(network).observe is None
        assert logits.requires_grad

    def test_a_model_that_fails_is_left_as_it_was(self, installed):
        network, batch = installed
        with pytest.raises(RuntimeError, match="channels"):
            predict_with_attention(network, batch[:, :2])
        assert last_attention(network).observe is None

    @pytest.mark.slow
    def test_under_torch_compile_with_capture_on_and_off(self, installed):
        network, batch = installed
        expected = predict_with_attention(network, batch)
        torch.compiler.reset()
        counter = CompileCounterWithBackend("aot_eager")
        network.compile(backend=counter, fullgraph=True)
        for _ in range(3):
            torch.testing.assert_close(predict_with_attention(network, batch), expected)
            torch.testing.assert_close(network(batch), expected.logits)
        assert counter.frame_count == 2, "one graph with capture and one without"

    def test_under_bfloat16_autocast_it_is_float32_and_close(self, installed):
        network, batch = installed
        expected = predict_with_attention(network, batch).attention
        with torch.autocast("cpu", torch.bfloat16):
            logits, attention = predict_with_attention(network, batch)
        assert attention.dtype == torch.float32
        assert logits.dtype == torch.bfloat16
        torch.testing.assert_close(attention, expected, atol=1e-2, rtol=0)

    @pytest.mark.slow
    @pytest.mark.parametrize("compiled", [False, True])
    def test_under_activation_checkpointing_the_backward_pass_reads_nothing_again(self, installed, compiled):
        network, batch = installed
        expected = predict_with_attention(network, batch)
        expected.logits.sum().backward()
        gradients = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
        network.zero_grad()
        network.set_grad_checkpointing()
        if compiled:
            torch.compiler.reset()
            network.compile(backend="aot_eager")
        prediction = predict_with_attention(network, batch)
        prediction.logits.sum().backward()
        assert last_attention(network).observed is None
        torch.testing.assert_close(prediction.attention, expected.attention)
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-4, rtol=1e-3)

    def test_inside_distributed_data_parallel(self, installed, tmp_path):
        network, batch = installed
        expected = predict_with_attention(network, batch)
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
        try:
            wrapped = torch.nn.parallel.DistributedDataParallel(network)
            prediction = predict_with_attention(wrapped, batch)
            prediction.logits.sum().backward()
        finally:
            torch.distributed.destroy_process_group()
        torch.testing.assert_close(prediction, expected)


class Allocations(TorchDispatchMode):
    """Elements of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **keywords or {})
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


class TestMemoryGrowsWithTheTokensNotTheirSquare:
    @pytest.mark.parametrize("pooling", ["token", "avg"])
    @pytest.mark.parametrize("backward", [False, True])
    def test_no_tensor_of_n_by_n_elements_per_head_is_allocated(self, pooling, backward):
        network = VisionTransformer(**SMALL | {"img_size": 64}, global_pool=pooling)
        install_attention(network)
        with Allocations() as allocations:
            logits = predict_with_attention(network, torch.randn(2, 3, 64, 64)).logits
            if backward:
                logits.sum().backward()
        assert 0 < allocations.largest < 256 * 256  # not even one map of one image

    def test_the_column_mean_holds_four_times_as_much_for_four_times_the_tokens(self):
        largest = []
        for tokens in (128, 512):
            query, key = torch.randn(2, 3, tokens, 8), torch.randn(2, 3, tokens, 8)
            with Allocations() as allocations:
                column_mean(query, key, None)
            largest.append(allocations.largest)
        assert largest[1] == 4 * largest[0]


class TestModelsWithoutARow:
    @pytest.mark.parametrize(
        ("factory", "reason"),
        [
            (lambda: timm.create_model("resnet18"), "ResNet has no attention row"),
            (lambda: timm.create_model("beit_base_patch16_224"), "Beit has no attention row"),
            (lambda: VisionTransformer(**SMALL, class_token=False, global_pool="map"), "pooling 'map'"),
            (lambda: VisionTransformer(**SMALL, global_pool="max"), "pooling 'max'"),
            (lambda: VisionTransformer(**SMALL, patch_drop_rate=0.5), "patch_drop_rate"),
            (lambda: VisionTransformer(**SMALL | {"depth": 0}), "it has no blocks"),
            (lambda: VisionTransformer(**SMALL, block_fn=ParallelScalingBlock), "of a ParallelScalingBlock cannot"),
            (lambda: VisionTransformer(**SMALL, block_fn=ParallelThingsBlock), "of a ParallelThingsBlock cannot"),
            (
                lambda: VisionTransformer(**SMALL | {"num_heads": 2}, attn_layer="diff"),
                "DiffAttention cannot be routed",
            ),
            (lambda: swin(global_pool="max"), "pooling 'max'"),
        ],
    )
    def test_are_refused_with_the_reason(self, factory, reason):
        with torch.device("meta"):
            network = factory()
        install_attention(network)
        with pytest.raises(ValueError, match=reason):
            attention_source(network, 32)

    def test_as_is_one_that_was_not_installed(self):
        with pytest.raises(ValueError, match=r"call install_attention\(model\) first"):
            attention_source(VisionTransformer(**SMALL), 32)

    def test_the_source_is_known_on_meta_and_for_other_sizes(self):
        with torch.device("meta"):
            network = VisionTransformer(**SMALL, dynamic_img_size=True)
        install_attention(network)
        assert attention_source(network, (16, 64)).grid == (4, 16)
        assert attention_source(copy.deepcopy(network), 32).kind == "class token"
