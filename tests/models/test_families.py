import pytest
import torch

from models.families import class_token_is_untrained, guess_family
from models.mil.networks import NETWORKS

FAMILIES = {
    "acmil_ga": "ACMIL-GA",
    "acmil_mha": "ACMIL-MHA",
    "abmil": "ABMIL",
    "clam_sb": "CLAM",
    "transmil": "TransMIL",
    "mean": None,
    "max": None,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_networks_for_bags_are_told_apart(name: str, prefix: str) -> None:
    with torch.device("meta"):
        state = NETWORKS[name](24, 16, 3).state_dict()
    assert guess_family(f"{prefix}{key}" for key in state) == FAMILIES[name]


def test_clam_without_dropout_and_with_several_branches() -> None:
    names = ["attention_net.0.weight", "attention_net.2.attention_a.0.weight", "classifiers.0.weight"]
    assert guess_family(names) == "CLAM"


def test_weights_that_left_the_class_token_untrained() -> None:
    vit = ["cls_token", "blocks.0.attn.qkv.weight"]
    assert class_token_is_untrained([*vit, "mask_pos_token"])
    assert not class_token_is_untrained(vit)
    assert not class_token_is_untrained([*vit, "decoder_blocks.0.norm1.weight"])  # MAE feeds it to its decoder
