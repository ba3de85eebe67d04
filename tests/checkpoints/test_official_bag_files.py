"""Files as the released ACMIL code saves them: weights beside a pickled object of a class that nobody else has."""

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.mil.networks import NETWORKS
from models.mil.published import adapt_published, infer_architecture
from vision_train.checkpoints import load_weights, read_weights
from vision_train.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "acmil"
SETTINGS = {"D_feat": 24, "D_inner": 16, "n_class": 3, "n_token": 5, "backbone": "ViT-S/16", "lr": 1e-4, "wandb": None}
Save = Callable[..., Path]


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    """Save weights as the released code does, with settings of the class of a name; nothing of that class is left.

    Whoever imports its module all the same, leaves a trace.
    """

    def save(weights: dict[str, torch.Tensor], named: str = "utils.utils.Struct") -> Path:
        module, _, name = named.rpartition(".")
        settings = type(name, (), {"__module__": module})()
        vars(settings).update(SETTINGS)
        learnt = [torch.nn.Parameter(weight.clone()) for weight in weights.values()]
        optimizer = torch.optim.AdamW(learnt, weight_decay=1e-5)
        sum(weight.sum() for weight in learnt).backward()
        optimizer.step()
        content = {"model": weights, "optimizer": optimizer.state_dict(), "epoch": 49, "config": settings}
        with monkeypatch.context() as patch:
            for place in (module, module.partition(".")[0]):
                patch.setitem(sys.modules, place, types.ModuleType(place))
            setattr(sys.modules[module], name, type(settings))
            torch.save(content, tmp_path / "checkpoint-best.pth")
        trap = tmp_path.joinpath("trap", *module.split(".")).with_suffix(".py")
        trap.parent.mkdir(parents=True)
        trap.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
        monkeypatch.syspath_prepend(tmp_path / "trap")
        return tmp_path / "checkpoint-best.pth"

    return save


def state_of(file: str, prefix: str = "state.") -> dict[str, torch.Tensor]:
    golden = load_file(GOLDEN / f"{file}.safetensors")
    return {name.removeprefix(prefix): weight for name, weight in golden.items() if name.startswith(prefix)}


def load(file: Path) -> torch.nn.Module:
    """The network that the shapes in a file tell, with every tensor of it in its place."""
    found = infer_architecture(read_weights(file).state)
    network = NETWORKS[found.name](found.in_features, found.width, found.classes, **found.args)
    report = load_weights(network, file, adapt=adapt_published, heads=network.heads, min_matched_share=1.0)
    assert {entry.outcome for entry in report.entries} == {"matched"}
    assert report.matched_share == 1
    return network.eval()


@pytest.mark.parametrize(
    ("name", "logits"), [("acmil_ga", "eval.bag_logits"), ("acmil_mha", "eval.bag_logits"), ("abmil", "logits")]
)
def test_item_1_official_checkpoints_load_strictly(name: str, logits: str, official: Save, tmp_path: Path) -> None:
    network = load(official(state_of(name)))
    golden = load_file(GOLDEN / f"{name}.safetensors")
    for bag in ("bag0", "bag1", "bag4"):
        found = network(golden[f"{bag}.x"][None]).bag_logits
        torch.testing.assert_close(found, golden[f"{bag}.{logits}"], atol=1e-5, rtol=0)
    assert not (tmp_path / "executed").exists()
    assert "utils.utils" not in sys.modules


@pytest.mark.parametrize("name", ["clam_sb", "transmil"])
def test_item_1_official_baselines_load_strictly(name: str, official: Save) -> None:
    network = load(official(state_of("baselines", f"{name}.state.")))
    golden = load_file(GOLDEN / "baselines.safetensors")
    found = network(golden["clam_sb.bag0.x"][None]).bag_logits
    torch.testing.assert_close(found, golden[f"{name}.bag0.logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("sizes", [(512, 256, 2, 2), (384, 128, 3, 5), (64, 64, 2, 1)])
@pytest.mark.parametrize("name", ["acmil_ga", "acmil_mha"])
def test_item_1_branches_and_widths_are_inferred(name: str, sizes: tuple[int, ...], official: Save) -> None:
    in_features, width, classes, branches = sizes
    state = NETWORKS[name](in_features, width, classes, branches=branches).state_dict()
    if branches == 1:  # the released code has a classifier for a single branch too
        state |= {
            f"classifier.0.fc.{part}": state[f"Slide_classifier.fc.{part}"].clone() for part in ("weight", "bias")
        }
    file = official(state)
    found = infer_architecture(read_weights(file).state)
    assert (found.name, found.in_features, found.width, found.classes) == (name, *sizes[:3])
    assert found.args["branches"] == branches
    network: Any = load_ignoring_extra(file) if branches == 1 else load(file)
    assert network.map_shape[0] == branches


def load_ignoring_extra(file: Path) -> torch.nn.Module:
    found = infer_architecture(read_weights(file).state)
    network = NETWORKS[found.name](found.in_features, found.width, found.classes, **found.args)
    report = load_weights(network, file, adapt=adapt_published, min_matched_share=1.0)
    extra = [entry.name for entry in report.entries if entry.outcome != "matched"]
    assert extra == ["classifier.0.fc.weight", "classifier.0.fc.bias"]
    return network


def test_item_1_settings_of_another_class_are_refused_with_the_remedy(official: Save, tmp_path: Path) -> None:
    file = official(state_of("acmil_ga"), "project.settings.Config")
    with pytest.raises(UserError) as refused:
        read_weights(file)
    assert str(refused.value) == (
        f"{file}: was not opened, as loading it could run code: it asks for project.settings.Config. Ask for a "
        ".safetensors version; if the file is your own, save model.state_dict() alone and name that"
    )
    assert not (tmp_path / "executed").exists()


def test_item_1_another_number_of_branches_is_refused_with_the_family(official: Save) -> None:
    file = official(state_of("acmil_ga"))
    with pytest.raises(UserError, match="looks like ACMIL-GA") as refused:
        load_weights(NETWORKS["clam_sb"](24, 16, 3), file, adapt=adapt_published)
    assert "model.name, model.args" in str(refused.value)
