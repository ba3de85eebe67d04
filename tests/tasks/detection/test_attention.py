"""Which backend computes the attention of a detector: as the recipe asks, as the receipt tells, as training does."""

import pytest
import torch
from torch.nn.attention import SDPBackend

from models.attention import AttentionCall, choose_backend, sdpa_kernels
from models.detr.backbones import build_backbone
from models.detr.denoising import Target
from models.detr.network import RelationDetr
from models.detr.transformer import TransformerSizes
from models.timm_attention import install_attention
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.tasks.detection.task import build

CPU = torch.device("cpu")


def task_of(*overrides):
    return build(load_recipe("relation_detr/shapes", [*overrides], smoke=True), ["circle", "square"])


@pytest.fixture
def calls(monkeypatch) -> list:
    made = []
    monkeypatch.setattr(
        "models.attention.choose_backend", lambda call, name: made.append((call, name)) or choose_backend(call, name)
    )
    return made


@pytest.mark.parametrize("backend", ["auto", "sdpa", "math"])
def test_a_training_step_calls_what_the_receipt_says(calls, backend):
    task = task_of(f"model.attention={backend}")
    decided = task.attention.decided(task.network, device=CPU, dtype=torch.float32, training=True)
    assert decided.installed == {"SelfAttention": 2}
    assert [(use.modules, use.has_bias) for use in decided.uses] == [(1, True), (1, True)]
    assert {use.backend for use in decided.uses} == {"math" if backend == "math" else "sdpa"}
    assert "points" in decided.kept["MultiScaleDeformableAttention"]
    target = Target(torch.rand(2, 4) * 0.3 + 0.3, torch.tensor([0, 1]))
    task.network.learn(torch.rand(1, 3, 128, 128), torch.zeros(1, 128, 128, dtype=torch.bool), [target])
    modules = [layer.self_attn for layer in task.network.transformer.decoder.layers]
    expected = [each.expected_call(CPU, torch.float32, training=True, compiled=False) for each in modules]
    assert calls == [(call, backend) for call in expected]
    assert [call.bias_needs_gradient for call in expected] == [False, True]


def test_without_relation_no_bias_learns():
    modules = task_of("model.args.relation=false").network.transformer.decoder.layers
    assert not any(layer.self_attn.learns_bias for layer in modules)


def test_a_backbone_of_attention_is_routed_too():
    backbone, channels = build_backbone("vit_tiny_patch16_224", (64, 64), depth=3, embed_dim=32, num_heads=2)
    sizes = TransformerSizes(32, 2, 64, encoder_layers=1, decoder_layers=2, queries=5, hybrid_queries=0)
    receipt = install_attention(RelationDetr(backbone, channels, 2, sizes), "math")
    assert receipt.installed == {"SelfAttention": 2, "Attention": 3}


def test_a_backend_that_is_unknown_or_cannot_run_is_refused_with_the_key():
    task = task_of("model.attention=xformers")
    with pytest.raises(ValueError, match="CUDA devices only"):
        task.attention.decided(task.network, device=CPU, dtype=torch.float32, training=True)
    with pytest.raises(UserError, match=r"model\.attention"):
        task_of("model.attention=flash")


@pytest.mark.parametrize(("capability", "backend"), [((8, 0), "xformers"), ((9, 0), "xformers"), ((10, 0), "sdpa")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_learned_bias_takes_xformers_where_its_kernel_returns_the_gradient(monkeypatch, capability, backend, dtype):
    monkeypatch.setattr("models.attention.cuda_facts", lambda kind, index: (capability, None))
    task = task_of()
    decided = task.attention.decided(task.network, device=torch.device("cuda"), dtype=dtype, training=True)
    assert {use.backend for use in decided.uses} == {backend}
    if backend == "sdpa":
        assert all("9.0" in use.refused["xformers"] for use in decided.uses)
    compiled = task.attention.decided(
        task.network, device=torch.device("cuda"), dtype=dtype, training=True, compiled=True
    )
    assert {use.backend for use in compiled.uses} == {"sdpa"}


def test_a_bias_on_cuda_never_meets_the_kernel_of_cudnn():
    assert SDPBackend.CUDNN_ATTENTION not in (kernels := sdpa_kernels("sdpa", "cuda", has_bias=True))
    assert kernels[0] == SDPBackend.EFFICIENT_ATTENTION
    assert sdpa_kernels("sdpa", "cuda", has_bias=False) == sdpa_kernels("sdpa", "cpu", has_bias=True) == []
    assert sdpa_kernels("math", "cuda", has_bias=True) == [SDPBackend.MATH]


def test_frozen_queries_leave_the_bias_to_sdpa_since_xformers_would_drop_its_gradient():
    call = AttentionCall(
        "cuda", torch.float32, 32, 32, (8, 0), has_bias=True, bias_needs_gradient=True, inputs_need_gradient=False
    )
    assert choose_backend(call).backend == "sdpa"
