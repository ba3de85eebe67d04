"""Scaled dot-product attention behind one function, with the choice of its kernel laid open.

Three backends compute the same: ``xformers`` (memory-efficient kernels, CUDA only), ``sdpa`` (PyTorch's own fused
kernels) and ``math`` (PyTorch's plain formula, which holds the N x M map and serves as the reference). The choice among
them is a pure function of an ``AttentionCall``, so it can be told and tested for machines that are not at hand. Where
PyTorch has no fused kernel, on a CPU under dropout, ``sdpa`` makes the products of the formula itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.attention_products import attend_by_products

BACKENDS: Final = ("xformers", "sdpa", "math")


@dataclass(frozen=True)
class AttentionCall:
    """What decides which backends can run a call of attention; batch size and lengths do not."""

    device_type: str
    dtype: torch.dtype
    head_dim: int
    """Width of one head of query and key, D."""
    value_dim: int
    """Width of one head of value."""
    capability: tuple[int, int] | None = None
    """Compute capability of the CUDA device; None elsewhere."""
    has_bias: bool = False
    bias_needs_gradient: bool = False
    inputs_need_gradient: bool = False
    """Whether query, key or value need a gradient."""
    dropout: float = 0.0
    deterministic: bool = False
    """Whether ``torch.use_deterministic_algorithms`` is on."""
    compiling: bool = False
    """Whether ``torch.compile`` traces the call."""
    xformers_problem: str | None = None
    """Why xformers cannot be imported; None where it can, and on other devices than CUDA, where nobody tries."""

    @classmethod
    def of(cls, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float) -> AttentionCall:
        """Describe a call by its tensors, all of one dtype and device."""
        gradients = torch.is_grad_enabled()
        capability, problem = cuda_facts(query.device.type, query.device.index)
        return cls(
            device_type=query.device.type,
            dtype=query.dtype,
            head_dim=query.shape[-1],
            value_dim=value.shape[-1],
            capability=capability,
            has_bias=bias is not None,
            bias_needs_gradient=gradients and bias is not None and bias.requires_grad,
            inputs_need_gradient=gradients and (query.requires_grad or key.requires_grad or value.requires_grad),
            dropout=dropout,
            deterministic=torch.are_deterministic_algorithms_enabled(),
            compiling=torch.compiler.is_compiling(),
            xformers_problem=problem,
        )


@dataclass(frozen=True)
class Choice:
    """The backend that runs a call, and why ``auto`` passed over those it prefers."""

    backend: str
    refused: dict[str, str] = field(default_factory=dict)


def choose_backend(call: AttentionCall, backend: str = "auto") -> Choice:
    """Choose the backend for a call; a pure function.

    Args:
        call: What is to be computed, and where.
        backend: ``auto`` for xformers where it can run and nothing is being compiled, else sdpa, which can always run;
            or a backend by name.

    Raises:
        ValueError: The name is unknown, or the backend asked for by name cannot run this call.
    """
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"attention backend {backend!r} is unknown; it is auto, {', '.join(BACKENDS)}")
    problem = _xformers_refusal(call)
    if backend == "xformers" and problem:
        raise ValueError(f"attention backend 'xformers' cannot run: {problem}; take `auto` or `sdpa` instead")
    if backend != "auto":
        return Choice(backend)
    if problem is None and call.compiling:
        problem = "torch.compile cannot trace its dispatch; sdpa is compiled together with the network"
    return Choice("sdpa", {"xformers": problem}) if problem else Choice("xformers")


class AttentionModule(nn.Module):
    """A module that has its attention computed by :func:`attention`, through the backend that it is told."""

    backend: str = "auto"
    weight_dropout: float = 0.0
    """Probability of dropping an attention weight in training."""
    has_bias: bool = False
    """Whether calls in training have a bias."""

    @property
    def head_width(self) -> int:
        """Width of a head of query, key and value."""
        raise NotImplementedError

    @property
    def learns_bias(self) -> bool:
        """Whether the bias receives a gradient in training."""
        return False

    def expected_call(
        self, device: torch.device, dtype: torch.dtype, *, training: bool, compiled: bool
    ) -> AttentionCall:
        """Describe the calls that the module will make.

        Args:
            device: Where it will run; the module itself may be elsewhere, even on meta.
            dtype: What it computes in: that of autocast, or of its weights.
            training: Whether gradients and attention dropout are needed.
            compiled: Whether it runs under ``torch.compile``.
        """
        capability, problem = cuda_facts(device.type, device.index)
        return AttentionCall(
            device_type=device.type,
            dtype=dtype,
            head_dim=self.head_width,
            value_dim=self.head_width,
            capability=capability,
            has_bias=self.has_bias,
            bias_needs_gradient=training and self.learns_bias,
            inputs_need_gradient=training and any(parameter.requires_grad for parameter in self.parameters()),
            dropout=self.weight_dropout if training else 0.0,
            deterministic=torch.are_deterministic_algorithms_enabled(),
            compiling=compiled,
            xformers_problem=problem,
        )


def _xformers_refusal(call: AttentionCall) -> str | None:
    """Say why xformers 0.0.35 cannot run a call, or None; the facts are those of its ``ops/fmha``."""
    if call.device_type != "cuda" or call.capability is None:
        return f"it has kernels for CUDA devices only, and this runs on {call.device_type!r}"
    if call.xformers_problem:
        return call.xformers_problem
    if call.bias_needs_gradient and not call.inputs_need_gradient:
        # xformers asks query, key and value alone whether to prepare a backward pass: the bias would get no gradient.
        return "it gives the bias no gradient unless query, key or value need one too"
    flash, cutlass = _flash_refusal(call, call.capability), _cutlass_refusal(call, call.capability)
    return f"its flash kernel {flash}, its cutlass kernel {cutlass}" if flash and cutlass else None


def _flash_refusal(call: AttentionCall, capability: tuple[int, int]) -> str | None:
    if capability < (8, 0):
        return f"needs compute capability 8.0 or more (here {_dotted(capability)})"
    if call.dtype not in (torch.float16, torch.bfloat16):
        return f"takes float16 and bfloat16 alone (here {call.dtype})"
    if call.has_bias:
        return "takes no bias"
    if call.value_dim != call.head_dim:
        return f"needs values as wide as queries (here {call.value_dim} and {call.head_dim})"
    if call.head_dim > 256 or call.head_dim % 8:
        return f"takes head sizes up to 256 that are multiples of 8 (here {call.head_dim})"
    if call.inputs_need_gradient and call.deterministic:
        return "has no deterministic gradient"
    if call.inputs_need_gradient and call.dropout and call.head_dim > 224 and capability not in ((8, 0), (9, 0)):
        return f"has no gradient under dropout for head size {call.head_dim} at capability {_dotted(capability)}"
    return None


def _cutlass_refusal(call: AttentionCall, capability: tuple[int, int]) -> str | None:
    if not (5, 0) <= capability <= (9, 0):
        return f"needs compute capability 5.0 to 9.0 (here {_dotted(capability)})"
    if call.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"takes float32, float16 and bfloat16 alone (here {call.dtype})"
    if call.dtype == torch.bfloat16 and capability < (8, 0):
        return f"takes bfloat16 from compute capability 8.0 on (here {_dotted(capability)})"
    multiple = _cutlass_multiple(call.dtype, capability)
    if call.head_dim % multiple or call.value_dim % multiple:
        sizes = f"{call.head_dim} and {call.value_dim}"
        return f"takes head sizes that are multiples of {multiple} for {call.dtype} (here {sizes})"
    return None


def _cutlass_multiple(dtype: torch.dtype, capability: tuple[int, int]) -> int:
    """Tensor cores read 16 bytes at a time; float32 uses them from capability 8.0 on, half precision from 7.0."""
    tensor_cores = capability >= ((8, 0) if dtype == torch.float32 else (7, 0))
    return 16 // dtype.itemsize if tensor_cores else 1


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


@torch.compiler.assume_constant_result
def cuda_facts(device_type: str, index: int | None) -> tuple[tuple[int, int] | None, str | None]:
    """Look up the compute capability of a CUDA device and why xformers cannot be imported; both None elsewhere."""
    if device_type != "cuda":
        return None, None
    return torch.cuda.get_device_capability(index), _xformers_problem()


@cache
def _xformers_problem() -> str | None:
    try:
        import xformers.ops  # noqa: F401
    except ModuleNotFoundError as error:
        return f"it is not installed ({error}); `pip install xformers`"
    except (ImportError, OSError) as error:
        return f"it cannot be imported: {error}"
    return None


def additive_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask into the bias that ``attention`` adds to its scores.

    Args:
        mask: True where a query may attend to a key, of any shape that broadcasts to B x H x N x M.
        dtype: Floating-point dtype of the result.

    Returns:
        0 where the mask is True and minus infinity elsewhere. A row that allows nothing attends to nothing: its
        output is 0 under sdpa and math.

    Raises:
        ValueError: The mask is not boolean; what is neither True nor False has no single meaning.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"a mask is boolean, True where a query may attend; this one holds {mask.dtype}")
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, float("-inf"))


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    dropout: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    """Compute softmax(query key^T / sqrt(D) + bias) value.

    Under autocast all four tensors are brought to its dtype first, as PyTorch does for its own kernels, so that every
    backend sees the same. Elsewhere query, key and value must agree; the bias follows them.

    Args:
        query: B x H x N x D.
        key: B x H x M x D.
        value: B x H x M x E.
        bias: Added to the scores before the softmax; broadcasts to B x H x N x M and may need a gradient.
        dropout: Probability in [0, 1) of dropping an attention weight; 0 outside training.
        backend: See ``choose_backend``.

    Returns:
        B x H x N x E.

    Raises:
        ValueError: Dtypes differ, the bias is boolean, or the backend is unknown or cannot run this call.
    """
    query, key, value = _under_autocast(query), _under_autocast(key), _under_autocast(value)
    if not query.dtype == key.dtype == value.dtype:
        raise ValueError(f"query, key and value differ in dtype: {query.dtype}, {key.dtype}, {value.dtype}")
    if bias is not None:
        if bias.dtype == torch.bool:
            raise ValueError("the bias of attention is added to its scores; turn a mask into one by additive_bias()")
        bias = bias.to(query.dtype)
    call = AttentionCall.of(query, key, value, bias, dropout)
    chosen = choose_backend(call, backend).backend
    if chosen == "xformers":
        return _memory_efficient(query, key, value, bias, dropout)
    if chosen == "sdpa" and lacks_fused_kernel(call):
        return attend_by_products(query, key, value, bias, dropout)
    if kernels := sdpa_kernels(chosen, query.device.type, has_bias=bias is not None):
        with sdpa_kernel(kernels):
            return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)


def sdpa_kernels(backend: str, device_type: str, *, has_bias: bool) -> list[SDPBackend]:
    """PyTorch's kernels that a backend leaves it; an empty list leaves it all.

    cuDNN, which PyTorch prefers on Hopper, is reported to give wrong gradients under a bias (pytorch issues 191612 and
    196678), and the flash kernel takes none. The memory-efficient kernel returns the gradient of the bias.
    """
    if backend == "math":
        return [SDPBackend.MATH]
    return [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH] if has_bias and device_type == "cuda" else []


def lacks_fused_kernel(call: AttentionCall) -> bool:
    """Whether PyTorch would compute a call of ``sdpa`` by single products, as on a CPU under dropout; a pure function.

    Narrower numbers are left to PyTorch, which widens them on the way, and so is what ``torch.compile`` traces.
    """
    exact = call.dtype in (torch.float32, torch.float64)
    return call.device_type == "cpu" and call.dropout > 0 and exact and not call.compiling


def _under_autocast(tensor: Tensor) -> Tensor:
    device_type = tensor.device.type
    if device_type == "meta" or tensor.dtype == torch.float64 or not torch.is_autocast_enabled(device_type):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device_type))


@torch.compiler.disable
def _memory_efficient(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    from xformers.ops import memory_efficient_attention

    if bias is not None:
        bias = align_bias(bias, (*query.shape[:3], key.shape[2]))
    # xformers wants B N H D, with the last dimension contiguous.
    tokens_first = (tensor.transpose(1, 2) for tensor in (query, key, value))
    dense = (tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in tokens_first)
    attended: Tensor = memory_efficient_attention(*dense, attn_bias=bias, p=dropout)
    return attended.transpose(1, 2)


def align_bias(bias: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Lay a bias out as xformers' cutlass kernel reads it, for any number of keys.

    The kernel wants the full B x H x N x M, the last dimension contiguous, every other stride a multiple of 16 bytes.
    Rows are padded in memory where they must be; broadcasting stays a matter of strides, except over the keys.
    """
    multiple = 16 // bias.element_size()
    bias = bias.expand(*bias.shape[:-1], shape[-1])
    *strides, last = bias.stride()
    if last != 1 or any(stride % multiple for stride in strides):
        # Padding by at least one element always copies into fresh memory, whatever the strides were.
        bias = functional.pad(bias, (0, multiple - shape[-1] % multiple))[..., : shape[-1]]
    return bias.expand(shape)
