"""One attention: backends agree in values and gradients, and the choice among them is right without a GPU."""

from unittest import mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from models import attention as module
from models.attention import AttentionCall, additive_bias, align_bias, attention, choose_backend, lacks_fused_kernel

HALF, BFLOAT, SINGLE, DOUBLE = torch.float16, torch.bfloat16, torch.float32, torch.float64


def heads(batch, heads, tokens, width, dtype=SINGLE):
    return torch.randn(batch, heads, tokens, width, dtype=dtype, requires_grad=True)


def inputs(queries=7, keys=7, width=16, value_width=None):
    return heads(2, 3, queries, width), heads(2, 3, keys, width), heads(2, 3, keys, value_width or width)


def written_out(query, key, value, bias=None):
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return (scores if bias is None else scores + bias).softmax(-1) @ value


def assert_same(backend, tensors, bias=None):
    """Compare values and the gradients of everything that needs one with the formula written out."""
    learned = [*tensors, *([bias] if bias is not None and bias.requires_grad else [])]
    ours, expected = attention(*tensors, bias, backend=backend), written_out(*tensors, bias)
    weight = torch.randn_like(expected)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)
    for mine, theirs in zip(
        torch.autograd.grad(ours, learned, weight), torch.autograd.grad(expected, learned, weight), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["auto", "sdpa", "math"])
class TestBackendsAgree:
    @pytest.mark.parametrize(("queries", "keys"), [(8, 8), (7, 7), (1, 17), (13, 5)])
    def test_for_even_and_odd_lengths(self, backend, queries, keys):
        assert_same(backend, inputs(queries, keys))

    @pytest.mark.parametrize(("width", "value_width"), [(8, 8), (20, 20), (64, 64), (16, 24)])
    def test_for_head_sizes(self, backend, width, value_width):
        assert_same(backend, inputs(width=width, value_width=value_width))

    @pytest.mark.parametrize("shape", [(2, 3, 7, 5), (1, 3, 7, 5), (2, 1, 7, 5), (2, 1, 1, 5), (1, 1, 7, 1), (7, 5)])
    @pytest.mark.parametrize("learns", [False, True])
    def test_with_a_bias_that_broadcasts_and_may_learn(self, backend, shape, learns):
        assert_same(backend, inputs(7, 5), torch.randn(shape, requires_grad=learns))

    def test_where_only_the_bias_learns(self, backend):
        tensors = [tensor.detach() for tensor in inputs()]
        bias = torch.randn(1, 3, 7, 7, requires_grad=True)
        for function in (lambda *given: attention(*given, backend=backend), written_out):
            bias.grad, kept = None, bias.grad
            function(*tensors, bias).square().sum().backward()
        torch.testing.assert_close(bias.grad, kept)

    def test_with_a_boolean_mask_made_additive(self, backend):
        mask = torch.rand(2, 1, 7, 7) < 0.5
        mask[..., 0] = True
        assert_same(backend, inputs(), additive_bias(mask, SINGLE))

    def test_with_dropout_only_some_weights_count(self, backend):
        query, key, _ = inputs(3, 400)
        value = torch.ones(2, 3, 400, 8)
        dropped = attention(query, key, value, dropout=0.5, backend=backend)
        assert not torch.allclose(dropped, torch.ones_like(dropped))
        assert dropped.mean().item() == pytest.approx(1, abs=0.2)

    def test_in_one_graph_under_torch_compile(self, backend):
        torch.compiler.reset()
        tensors, bias = inputs(), torch.randn(1, 3, 7, 7)
        compiled = torch.compile(attention, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(*tensors, bias, backend=backend), written_out(*tensors, bias))


class TestDropoutOnACpu:
    """There PyTorch has no fused kernel; ``math`` is its own formula, which draws the same random numbers."""

    @pytest.mark.parametrize("shape", [None, (2, 1, 1, 5), (2, 3, 7, 5), (1, 3, 7, 1), (7, 5), (5,)])
    @pytest.mark.parametrize("learns", [False, True])
    def test_values_and_gradients_are_those_of_the_formula(self, shape, learns):
        tensors = inputs(7, 5)
        bias = None if shape is None else torch.randn(shape, requires_grad=learns)
        learned = [*tensors, *([bias] if bias is not None and learns else [])]
        assert_alike(tensors, bias, learned)

    def test_a_query_without_keys_gets_nothing_and_gives_no_gradient(self):
        mask = torch.ones(2, 1, 7, 5, dtype=torch.bool)
        mask[1, :, 3] = False
        tensors = inputs(7, 5)
        ours = assert_alike(tensors, additive_bias(mask, SINGLE), tensors)
        assert (ours[1, :, 3] == 0).all()

    @pytest.mark.parametrize(
        ("facts", "lacks"),
        [
            ({}, True),
            ({"dtype": DOUBLE}, True),
            ({"dtype": BFLOAT}, False),
            ({"dropout": 0.0}, False),
            ({"device_type": "cuda"}, False),
            ({"compiling": True}, False),
        ],
    )
    def test_products_are_made_where_pytorch_would_make_them(self, facts, lacks):
        call = {"device_type": "cpu", "dtype": SINGLE, "head_dim": 8, "value_dim": 8, "dropout": 0.1} | facts
        assert lacks_fused_kernel(AttentionCall(**call)) is lacks


def assert_alike(tensors, bias, learned):
    """Compare sdpa under dropout with math at the same seed, and return what sdpa gave."""
    found = []
    for backend in ("sdpa", "math"):
        torch.manual_seed(0)
        output = attention(*tensors, bias, dropout=0.3, backend=backend)
        found.append([output, *torch.autograd.grad(output.square().sum(), learned)])
    for ours, formula in zip(*found, strict=True):
        torch.testing.assert_close(ours, formula, atol=1e-5, rtol=1e-5)
    return found[0][0]


def test_a_query_that_may_attend_to_nothing_gets_nothing():
    mask = torch.ones(7, 7, dtype=torch.bool)
    mask[3] = False
    for backend in ("sdpa", "math"):
        attended = attention(*inputs(), additive_bias(mask, SINGLE), backend=backend)
        assert (attended[:, :, 3] == 0).all()
        assert attended.isfinite().all()


class TestAdditiveBias:
    def test_true_may_attend(self):
        bias = additive_bias(torch.tensor([[True, False]]), HALF)
        assert bias.dtype == HALF
        assert bias.tolist() == [[0.0, float("-inf")]]

    @pytest.mark.parametrize("dtype", [SINGLE, torch.int64])
    def test_refuses_what_is_no_mask(self, dtype):
        with pytest.raises(ValueError, match="a mask is boolean"):
            additive_bias(torch.ones(2, 2, dtype=dtype), SINGLE)

    def test_attention_refuses_a_mask_in_place_of_a_bias(self):
        with pytest.raises(ValueError, match="additive_bias"):
            attention(*inputs(), torch.ones(7, 7, dtype=torch.bool))


class TestDtypes:
    def test_inputs_that_differ_are_refused(self):
        query, key, value = inputs()
        with pytest.raises(ValueError, match=r"differ in dtype: torch\.float32, torch\.float32, torch\.bfloat16"):
            attention(query, key, value.to(BFLOAT))

    @pytest.mark.parametrize("backend", ["sdpa", "math"])
    def test_autocast_brings_inputs_that_differ_together(self, backend):
        query, key, value = inputs()
        bias = torch.randn(1, 3, 7, 7)
        with torch.autocast("cpu", BFLOAT):
            attended = attention(query, key, value.to(BFLOAT), bias, backend=backend)
        assert attended.dtype == BFLOAT
        torch.testing.assert_close(attended.float(), written_out(query, key, value, bias), atol=3e-2, rtol=3e-2)

    def test_the_bias_follows_the_query(self):
        query, key, value = (tensor.to(BFLOAT) for tensor in inputs())
        assert attention(query, key, value, torch.zeros(7, 7)).dtype == BFLOAT


def cuda_call(capability=(9, 0), dtype=HALF, width=64, value_width=None, **facts):
    return AttentionCall("cuda", dtype, width, value_width or width, capability, **facts)


TRAINING = {"inputs_need_gradient": True}
LEARNS = {"has_bias": True, "bias_needs_gradient": True, **TRAINING}


class TestChooseBackend:
    @pytest.mark.parametrize(
        "call",
        [
            cuda_call(),
            cuda_call(**TRAINING, dropout=0.1),
            cuda_call((12, 0), BFLOAT, **TRAINING),
            cuda_call((7, 5), HALF, **LEARNS),
            cuda_call((8, 0), SINGLE, **LEARNS),
            cuda_call((6, 0), SINGLE, width=20),
            cuda_call(width=320, **TRAINING),
            cuda_call(width=64, value_width=32, **TRAINING),
            cuda_call(deterministic=True, **TRAINING),
            cuda_call((12, 0), width=256, dropout=0.1),
        ],
    )
    def test_auto_takes_xformers_on_cuda_where_it_can_run(self, call):
        assert choose_backend(call).backend == "xformers"
        assert choose_backend(call).refused == {}
        assert choose_backend(call, "xformers").backend == "xformers"

    @pytest.mark.parametrize(
        ("call", "reason"),
        [
            (AttentionCall("cpu", SINGLE, 64, 64), "kernels for CUDA devices only, and this runs on 'cpu'"),
            (AttentionCall("mps", HALF, 64, 64), "this runs on 'mps'"),
            (cuda_call(xformers_problem="it is not installed"), "it is not installed"),
            (cuda_call(dtype=DOUBLE), "takes float32, float16 and bfloat16 alone"),
            (cuda_call((7, 5), BFLOAT), r"bfloat16 from compute capability 8\.0 on \(here 7\.5\)"),
            (cuda_call((12, 0), SINGLE), r"compute capability 5\.0 to 9\.0 \(here 12\.0\)"),
            (cuda_call((10, 0), **LEARNS), "flash kernel takes no bias"),
            (cuda_call(width=20), "multiples of 8"),
            (cuda_call(dtype=SINGLE, width=18), "multiples of 4"),
            (cuda_call(has_bias=True, bias_needs_gradient=True), "the bias no gradient"),
            (cuda_call((12, 0), deterministic=True, **TRAINING), "no deterministic gradient"),
            (cuda_call((12, 0), width=256, dropout=0.1, **TRAINING), "no gradient under dropout for head size 256"),
            (cuda_call((12, 0), width=64, value_width=32), "values as wide as queries"),
        ],
    )
    def test_auto_takes_sdpa_elsewhere_and_says_why(self, call, reason):
        choice = choose_backend(call)
        assert choice.backend == "sdpa"
        assert set(choice.refused) == {"xformers"}
        with pytest.raises(ValueError, match=rf"'xformers' cannot run: .*{reason}.*`auto` or `sdpa`"):
            choose_backend(call, "xformers")

    def test_a_compiled_network_takes_sdpa_unless_xformers_is_named(self):
        assert "torch.compile" in choose_backend(cuda_call(compiling=True)).refused["xformers"]
        assert choose_backend(cuda_call(compiling=True), "xformers").backend == "xformers"

    def test_a_name_is_taken_literally(self):
        assert choose_backend(cuda_call(), "math").backend == "math"
        with pytest.raises(ValueError, match="'flash' is unknown; it is auto, xformers, sdpa, math"):
            choose_backend(cuda_call(), "flash")

    def test_a_backend_by_name_that_cannot_run_is_an_error_of_attention(self):
        with pytest.raises(ValueError, match="'xformers' cannot run"):
            attention(*inputs(), backend="xformers")

    def test_a_call_is_described_by_its_tensors(self):
        query, key, value = inputs(width=16, value_width=24)
        bias = torch.zeros(7, 7, requires_grad=True)
        assert AttentionCall.of(query, key, value, bias, 0.1) == AttentionCall(
            "cpu", SINGLE, 16, 24, dropout=0.1, has_bias=True, bias_needs_gradient=True, inputs_need_gradient=True
        )
        with torch.no_grad():
            call = AttentionCall.of(query, key, value, None, 0.0)
        assert call == AttentionCall("cpu", SINGLE, 16, 24)


class TestAgreementWithXformers:
    """What we say about xformers beside what it says itself, on tensors that claim to be on a CUDA device."""

    @pytest.fixture
    def fmha(self, monkeypatch):
        fmha = pytest.importorskip("xformers.ops.fmha")
        for kernel in (fmha.cutlass.FwOp, fmha.cutlass.BwOp):
            # A bias is accepted by its exact type, which for a tensor without data is not torch.Tensor.
            monkeypatch.setattr(kernel, "SUPPORTED_ATTN_BIAS_TYPES", (*kernel.SUPPORTED_ATTN_BIAS_TYPES, FakeTensor))
        return fmha

    @pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)])
    @pytest.mark.parametrize("dtype", [SINGLE, HALF, BFLOAT])
    @pytest.mark.parametrize("bias", [None, "given", "learned"])
    def test_it_runs_what_we_choose_it_for_and_nothing_else(self, fmha, capability, dtype, bias):
        with mock.patch("torch.cuda.get_device_capability", return_value=capability), FakeTensorMode():
            for width in (8, 20, 64, 264):
                query, key, value = (
                    torch.empty(2, 3, tokens, width, dtype=dtype, device="cuda", requires_grad=True)
                    for tokens in (7, 5, 5)
                )
                tensor = torch.empty(1, 3, 7, 5, dtype=dtype, device="cuda", requires_grad=bias == "learned")
                tensor = None if bias is None else tensor
                chosen = choose_backend(AttentionCall.of(query, key, value, tensor, 0.0)).backend
                given = fmha.Inputs(
                    *(heads.transpose(1, 2) for heads in (query, key, value)),
                    attn_bias=None if tensor is None else align_bias(tensor, (2, 3, 7, 5)),
                )
                try:
                    fmha.dispatch._dispatch_fw(given, True)
                    fmha.dispatch._dispatch_bw(given, None)
                except NotImplementedError:
                    assert chosen == "sdpa"
                else:
                    assert chosen == "xformers"

    def test_its_output_comes_back_as_b_h_n_d(self, fmha):
        with mock.patch("torch.cuda.get_device_capability", return_value=(9, 0)), FakeTensorMode():
            query, key = (torch.empty(2, 3, tokens, 64, dtype=HALF, device="cuda") for tokens in (7, 5))
            bias = torch.empty(3, 7, 5, dtype=HALF, device="cuda")
            assert attention(query, key, key, bias, backend="xformers").shape == (2, 3, 7, 64)
            assert attention(query, key, key).shape == (2, 3, 7, 64)

    def test_one_that_cannot_be_imported_is_refused_with_the_reason(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "xformers.ops", None)
        monkeypatch.setitem(__import__("sys").modules, "xformers", None)
        module._xformers_problem.cache_clear()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
        try:
            capability, problem = module.cuda_facts("cuda", 0)
        finally:
            module._xformers_problem.cache_clear()
        assert capability == (9, 0)
        assert "pip install xformers" in problem


class TestAlignBias:
    @pytest.mark.parametrize("dtype", [SINGLE, HALF])
    @pytest.mark.parametrize("keys", [1, 5, 8, 49, 64])
    @pytest.mark.parametrize("shape", [(2, 3, 7), (1, 3, 7), (2, 1, 1), (7,)])
    def test_rows_start_at_16_bytes_for_any_number_of_keys(self, dtype, keys, shape):
        bias = torch.randn(*shape, keys, dtype=dtype)
        aligned = align_bias(bias, (2, 3, 7, keys))
        assert torch.equal(aligned, bias.expand(2, 3, 7, keys))
        assert aligned.stride(-1) == 1
        assert all(stride * dtype.itemsize % 16 == 0 for stride in aligned.stride()[:-1])

    def test_an_aligned_bias_is_not_copied_and_broadcasts_by_strides(self):
        bias = torch.randn(1, 3, 8, 8)
        aligned = align_bias(bias, (2, 3, 8, 8))
        assert aligned.data_ptr() == bias.data_ptr()
        assert aligned.stride(0) == 0

    def test_broadcast_over_keys_and_transposed_biases_are_laid_out(self):
        for bias in (torch.randn(2, 3, 8, 1), torch.randn(2, 3, 8, 8).transpose(2, 3)):
            aligned = align_bias(bias, (2, 3, 8, 8))
            assert torch.equal(aligned, bias.expand(2, 3, 8, 8))
            assert aligned.stride(-1) == 1

    def test_a_learned_bias_gets_the_gradient_of_every_place_it_is_used_in(self):
        bias = torch.nn.Parameter(torch.randn(1, 3, 7, 5))
        aligned = align_bias(bias, (2, 3, 7, 5))
        assert type(aligned) is torch.Tensor
        aligned.sum().backward()
        assert torch.equal(bias.grad, torch.full_like(bias, 2))
