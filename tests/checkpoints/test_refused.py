"""Files with tensors that are no weights to start from are called what they are."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vision_train.checkpoints import read_weights
from vision_train.errors import UserError

LORA = {f"base_model.model.blocks.0.attn.qkv.lora_{part}.weight": torch.ones(4, 4) for part in "AB"}


def test_adapter(tmp_path):
    save_file(LORA, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"is a LoRA or similar adapter.*merge_and_unload"):
        read_weights(tmp_path / "w.safetensors")


def test_adapter_folder(tmp_path):
    save_file(LORA, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="LoRA"):
        read_weights(tmp_path)


def test_base_model_with_adapter_layers(tmp_path):
    base = {f"blocks.{number}.base_layer.weight": torch.ones(4, 4) for number in range(9)}
    torch.save(base | {"blocks.0.lora_A.default.weight": torch.ones(4, 4)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"beside the weights of its base model.*merge_and_unload"):
        read_weights(tmp_path / "w.pth")


def test_optimiser_state(tmp_path):
    network = nn.Linear(3, 3)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    for number, content in enumerate(
        [optimiser.state_dict(), {"optimizer": optimiser.state_dict(), "step": 3}, {"states": [optimiser.state_dict()]}]
    ):
        torch.save(content, tmp_path / f"{number}.pth")
        with pytest.raises(UserError, match=r"holds the state of an optimiser and no weights; name the file"):
            read_weights(tmp_path / f"{number}.pth")


@pytest.mark.parametrize(
    "extra",
    [
        {"blocks.0.weight": torch.ones(4, 4, dtype=torch.int8), "blocks.0.SCB": torch.ones(4)},
        {"blocks.0.weight": torch.ones(16, 1, dtype=torch.uint8)},
        {"blocks.0.weight.absmax": torch.ones(4), "blocks.0.weight.quant_map": torch.ones(16)},
        {"blocks.0.qweight": torch.ones(4, 4, dtype=torch.int32), "blocks.0.qzeros": torch.ones(4, dtype=torch.int32)},
        {"blocks.0.weight": torch.ones(4, 4).to(torch.float8_e4m3fn)},
    ],
    ids=["bitsandbytes 8", "packed", "bitsandbytes 4", "gptq", "float8"],
)
def test_quantised(tmp_path, extra):
    save_file({"norm.weight": torch.ones(4)} | extra, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"w\.safetensors: holds quantised weights .*float32"):
        read_weights(tmp_path / "w.safetensors")


def test_a_single_tensor(tmp_path):
    torch.save(torch.ones(3), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: is a single tensor"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("flat", [True, False])
def test_optimiser_state_by_name(tmp_path, flat):
    names = [f"blocks.{number}.weight" for number in range(3)]
    memory = {"exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3), "step": torch.ones(())}
    content = {"state": dict.fromkeys(names, memory), "param_groups": [{"lr": 0.1, "params": names}]}
    if flat:
        content = {f"state.{name}.{kind}": each for name in names for kind, each in memory.items()}
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"holds the state of an optimiser and no weights"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("inside", ["linear_a_q.weight", "vera_lambda_b", "lora_A.weight"])
def test_adapters_of_other_libraries(tmp_path, inside):
    base = {f"blocks.{number}.qkv.weight": torch.ones(4, 4) for number in range(9)}
    torch.save(base | {f"blocks.0.qkv.{inside}": torch.ones(4, 4)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"adapter beside the weights of its base model.*Merge the adapter"):
        read_weights(tmp_path / "w.pth")


def test_zero_3(tmp_path):
    torch.save({"module": {"layer.weight": torch.empty(0), "layer.bias": torch.empty(0)}}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt: all its tensors are empty.*ZeRO-3.*zero_to_fp32\.py"):
        read_weights(tmp_path / "w.pt")
