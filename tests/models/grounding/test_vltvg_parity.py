"""VLTVG against what its official code computed, with padding masked and, as its data have it, with no mask."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from models.grounding.criterion import GroundingCriterion, grounding_losses
from models.grounding.encoder import EncoderSizes
from models.grounding.names import OF_VLTVG
from models.grounding.published import adapt_grounder
from models.grounding.visual import VisualBranch
from models.grounding.vltvg import VLTVG
from models.text import BertSizes, build_bert, encode_text

GOLDEN = Path(__file__).parents[2] / "golden" / "vltvg"
RECORD = json.loads((GOLDEN / "model.json").read_text())
SETTINGS = RECORD["settings"]


def near(found, expected, within=1e-5, relative=0.0):
    assert_close(found, expected, atol=within, rtol=relative)


class Pool(nn.Module):
    """The backbone of the fixture: means of 4 x 4 pixels."""

    def forward(self, images):
        return [functional.avg_pool2d(images, SETTINGS["stride"])]


@dataclass(frozen=True)
class Pass:
    """What the official code computed of the batch, and our network with its weights."""

    network: VLTVG
    batch: tuple[Tensor, Tensor, Tensor, Tensor]
    boxes: Tensor
    expected: dict[str, Tensor]
    norms: dict[str, float | None]
    inside: Tensor
    """B x N, False for cells whose tokens mean nothing."""

    def gradient(self, name):
        """The gradient of a parameter of the official name."""
        return self.network.get_parameter(OF_VLTVG.ours(name)).grad


@pytest.fixture(params=["masked", "unmasked"])
def official(request) -> Pass:
    tensors = load_file(GOLDEN / "model.safetensors")
    width, heads = SETTINGS["hidden_dim"], SETTINGS["nheads"]
    network = VLTVG(
        VisualBranch(Pool(), 3, EncoderSizes(width, heads, SETTINGS["dim_feedforward"], SETTINGS["enc_layers"])),
        build_bert(BertSizes(**SETTINGS["bert"])),
        EncoderSizes(width, heads, SETTINGS["decoder_feedforward"], SETTINGS["stages"]),
        text_dim=SETTINGS["bert"]["hidden_size"],
        text_layers=(2, 3, 4, 5),
        mask_padding=request.param == "masked",
    )
    state = {name.removeprefix("state/"): each for name, each in tensors.items() if name.startswith("state/")}
    lacking, beside = network.load_state_dict(adapt_grounder(state, network), strict=False)
    assert not lacking
    assert {name.rpartition(".")[2] for name in beside if "pooler" not in name} == {"pos_x", "pos_y"}
    padding_mask = tensors["in/image_mask"].bool()
    cells = padding_mask[:, :: SETTINGS["stride"], :: SETTINGS["stride"]].flatten(1)
    return Pass(
        network.eval(),
        (tensors["in/image"].float(), padding_mask, tensors["in/word_id"], tensors["in/word_mask"] == 0),
        tensors["in/target_cxcywh"],
        {name.partition("/")[2]: each for name, each in tensors.items() if name.startswith(f"{request.param}/")},
        RECORD["grad_norms"][request.param],
        ~cells if network.mask_padding else torch.ones_like(cells),
    )


def test_tokens_and_what_the_text_verifies_of_them(official):
    network, (images, padding_mask, ids, text_padding) = official.network, official.batch
    visual = network.visual(images, padding_mask if network.mask_padding else torch.zeros_like(padding_mask))
    assert visual.grid == (20, 20)
    assert torch.equal(~visual.padding, official.inside)
    near(visual.tokens[official.inside], official.expected["visual_tokens"][official.inside])
    text = network.text_proj(encode_text(network.text, ids, text_padding, network.text_layers))
    near(text[~text_padding], official.expected["text_tokens"][~text_padding])
    verified = network.verification(visual, text, text_padding)
    near(verified[official.inside], official.expected["verified"][official.inside])
    states, _ = network.reasoning(visual, verified, text, text_padding, with_attention=False)
    near(states, official.expected["states"])


def test_boxes_of_all_stages_and_attention(official):
    found = official.network(*official.batch, with_attention=True)
    near(torch.cat((found.earlier_boxes, found.boxes[None])), official.expected["boxes"])
    near(found.attention, official.expected["attention"])


def test_losses_and_gradients(official):
    output = official.network(*official.batch)
    parts = grounding_losses(output, official.boxes)
    near(parts.distance.mean(), official.expected["loss_l1"][0])
    near(parts.giou.mean(), official.expected["loss_giou"][0])
    loss = sum(GroundingCriterion(distance=5.0, giou=2.0)(output, official.boxes).values())
    near(loss, official.expected["loss"][0], relative=1e-6)
    loss.backward()
    for name, expected in official.expected.items():
        if name.startswith("grad/"):
            near(official.gradient(name.removeprefix("grad/")), expected, 1e-6, 1e-3)


def test_norms_of_all_gradients(official):
    output = official.network(*official.batch)
    sum(GroundingCriterion(distance=5.0, giou=2.0)(output, official.boxes).values()).backward()
    unread = {name for name, norm in official.norms.items() if norm is None}
    assert unread == {name for name in official.norms if ".pooler." in name}
    for name in official.norms.keys() - unread:
        near(official.gradient(name).norm(), torch.tensor(official.norms[name]), 1e-6, 1e-3)
