"""Low-rank adapters (LoRA, Hu et al. 2021) in networks of timm, through the library peft.

An adapted linear layer computes ``W x + b + B A x`` with frozen W and b; A (rank x inputs) starts at random, B (outputs
x rank) at zero, so that an adapted network begins as the network itself. The paper's scale ``alpha / rank`` is 1 here:
what it does, the learning rate does too, and ``W + B A`` can be computed from the tensors alone.

While a network trains, its layers carry peft's names (``qkv.base_layer.weight``, ``qkv.lora_A.default.weight``).
:func:`merged` gives weights of such a network the plain names of the network without adapters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

PROJECTIONS = (
    *("qkv", "q", "k", "v", "kv", "q_proj", "k_proj", "v_proj", "proj"),
    *("fc1", "fc2", "fc1_g", "fc1_x", "w12", "w1", "w2", "w3"),
)
"""What timm calls the linear layers of attention, then those of the MLP behind it."""
_BASE = ".base_layer"
_A, _B = ".lora_A.default.weight", ".lora_B.default.weight"


def projections(network: nn.Module, inputs: tuple[int, ...]) -> tuple[list[str], list[str]]:
    """Find the linear layers of attention and MLPs.

    Some attention classes of timm (BEiT, Swin v2, EVA-02) read the weight of a layer without calling it. An adapter
    there would never be heard. Which are called is found by running the network without memory, on the meta device.

    Args:
        network: In any mode, which it keeps; its weights are not read.
        inputs: Shape of the images, without a batch: C H W.

    Returns:
        Names of those that the network calls, and of those that it does not.

    Raises:
        ValueError: The network cannot be run on the meta device.
    """
    found = {
        name: module
        for name, module in network.named_modules()
        if type(module) is nn.Linear and name.rpartition(".")[2] in PROJECTIONS
    }
    called: set[str] = set()
    hooks = [module.register_forward_hook(lambda *_, name=name: called.add(name)) for name, module in found.items()]
    modes = {module: module.training for module in network.modules()}
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    try:
        with torch.no_grad():
            on_meta = {name: tensor.to("meta") for name, tensor in tensors.items()}
            functional_call(network.eval(), on_meta, (torch.zeros(1, *inputs, device="meta"),))
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"{type(network).__name__} cannot be looked through ({error})") from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return [name for name in found if name in called], [name for name in found if name not in called]


def add_adapters(network: nn.Module, layers: Sequence[str], rank: int) -> None:
    """Adapt linear layers, in place, and freeze everything else.

    Args:
        network: Its weights may lie on the meta device; so do those of the adapters then.
        layers: Names of linear layers; at least one.
        rank: Rank of the adapters.

    Raises:
        ValueError: The rank exceeds that of a layer's own weight.
        ImportError: peft is not installed.
    """
    import peft

    for name in layers:
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        if rank > (most := min(layer.in_features, layer.out_features)):
            shape = f"{layer.in_features} inputs and {layer.out_features} outputs"
            raise ValueError(f"is {rank}, and {name} has {shape}; give at most {most}")
    # A list of names would match their endings too.
    names = "|".join(re.escape(name) for name in layers)
    options = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=names, lora_dropout=0.0, bias="none")
    peft.inject_adapter_in_model(options, network)


def adapter_names(names: Collection[str]) -> set[str]:
    """Those of the tensors' names that are of adapters."""
    return {name for name in names if name.endswith((_A, _B))}


def remove_adapters(network: nn.Module) -> None:
    """Give a network its own layers back, in place, with the weights that were adapted; those of adapters are lost."""
    adapted = [name for name, _ in network.named_modules() if name.endswith(_BASE)]
    for name in adapted:
        layer = network.get_submodule(name)
        network.set_submodule(name.removesuffix(_BASE), layer)
    if adapted:
        del network.peft_config  # peft leaves its options there


def plain_name(name: str) -> str:
    """The name that a tensor of an adapted layer has without adapters; other names stay."""
    return name.replace(f"{_BASE}.", ".")


def without_adapters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the network itself under their plain names, with the values that were adapted."""
    adapters = adapter_names(state)
    return {plain_name(name): tensor for name, tensor in state.items() if name not in adapters}


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network without adapters that computes the same: ``W + B A`` in place of W, B and A.

    Args:
        state: Weights of an adapted network. They are left as they are; of other networks, too.
    """
    plain = without_adapters(state)
    for name in adapter_names(state):
        if name.endswith(_A):
            layer = name.removesuffix(_A)
            weight, b, a = plain[f"{layer}.weight"], state[f"{layer}{_B}"], state[name]
            plain[f"{layer}.weight"] = (weight.float() + b.float() @ a.float()).to(weight.dtype)
    return plain
