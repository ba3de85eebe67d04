"""What only a GPU can show of attention. On a machine with one: ``pytest tests/models/test_attention_cuda.py``."""

import copy

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from models.attention import AttentionCall, attention, choose_backend
from models.attention_row import predict_with_attention
from models.timm_attention import install_attention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
SHIFTED = {"img_size": 112, "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4), "num_classes": 5}
NETWORKS = {
    "vit": lambda: VisionTransformer(
        img_size=32, patch_size=4, embed_dim=96, num_heads=3, depth=2, num_classes=5, qk_norm=True
    ),
    "swin": lambda: SwinTransformer(**SHIFTED, drop_path_rate=0.0),
}


def results(backend, inputs, bias):
    """Output, and the gradients of all that learns."""
    learned = [*inputs, *([bias] if bias is not None and bias.requires_grad else [])]
    output = attention(*inputs, bias, backend=backend)
    return [output, *torch.autograd.grad(output.float().square().sum(), learned)]


@pytest.mark.parametrize("backend", ["xformers", "sdpa"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("queries", "keys"), [(197, 197), (64, 64), (13, 49), (1, 785)])
@pytest.mark.parametrize("width", [32, 64, 80])
@pytest.mark.parametrize("bias", [None, "given", "learned", "broadcast"])
def test_backends_agree_in_values_and_gradients(backend, dtype, queries, keys, width, bias):
    inputs = [
        torch.randn(2, 3, tokens, width, device="cuda", dtype=dtype, requires_grad=True)
        for tokens in (queries, keys, keys)
    ]
    shape = (2, 1, 1, keys) if bias == "broadcast" else (1, 3, queries, keys)
    tensor = None if bias is None else torch.randn(shape, device="cuda", dtype=dtype, requires_grad=bias != "given")
    call = AttentionCall.of(*inputs, tensor, 0.0)
    if backend == "xformers" and choose_backend(call).backend != "xformers":
        pytest.skip(choose_backend(call).refused["xformers"])
    for ours, expected in zip(results(backend, inputs, tensor), results("math", inputs, tensor), strict=True):
        error = (ours.float() - expected.float()).norm() / expected.float().norm()
        assert error < TOLERANCE[dtype]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("compiled", [False, True])
def test_networks_run_as_the_receipt_says_and_as_without_it(name, dtype, compiled):
    plain = NETWORKS[name]().cuda()
    network = copy.deepcopy(plain)
    receipt = install_attention(network)
    decided = receipt.decided(network, device=torch.device("cuda"), dtype=dtype, training=True, compiled=compiled)
    assert all(use.backend == ("sdpa" if compiled else "xformers") or use.refused for use in decided.uses)
    if compiled:
        network.compile()
    images = torch.randn(4, 3, *plain.patch_embed.img_size, device="cuda")
    with torch.autocast("cuda", dtype):
        expected, (logits, attention_row) = plain(images), predict_with_attention(network, images)
    logits.float().sum().backward()
    torch.testing.assert_close(logits.float(), expected.float(), atol=5e-2, rtol=5e-2)
    assert attention_row.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_the_row_adds_memory_by_the_token():
    network = NETWORKS["vit"]().cuda()
    install_attention(network)
    images = torch.randn(64, 3, 32, 32, device="cuda")
    peaks = []
    for run in (lambda: network(images), lambda: predict_with_attention(network, images).logits):
        run()
        torch.cuda.reset_peak_memory_stats()
        run().sum().backward()
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] - peaks[0] < 64 * 3 * 65 * 65 * 4
