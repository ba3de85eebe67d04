"""A head that is kept answers with our classes: its rows are put in our order, by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.mil.networks import NETWORKS
from models.vit import build_model, head_names
from vision_train.checkpoints import LoadReport, load_start
from vision_train.checkpoints.head import Classes
from vision_train.recipe.sections import Model


def load(network: nn.Module, file: Path, classes: list[str], heads: tuple[str, ...], **options: Any) -> LoadReport:
    model = Model(name="network", checkpoint=str(file))
    (report,) = load_start(network, model, adapt=lambda state, _: dict(state), heads=heads, classes=classes, **options)
    return report


def classifier(count: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 4), nn.Linear(4, count))


def loaded(
    tmp_path: Path, theirs: list[str] | None, ours: list[str]
) -> tuple[LoadReport, nn.Module, dict[str, Tensor]]:
    source = classifier(len(ours)).state_dict()
    torch.save({"state_dict": source} | ({} if theirs is None else {"classes": theirs}), tmp_path / "w.pth")
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, len(ours)))
    return load(network, tmp_path / "w.pth", ours, ("1",)), network, source


@pytest.mark.parametrize(
    "theirs", [["fox", "cat", "dog"], ["FOX", "Cat", "dog"], ["fox, Vulpes", "cat, Felis", "dog, Canis"]]
)
def test_rows_follow_the_names(tmp_path: Path, theirs: list[str]) -> None:
    report, network, source = loaded(tmp_path, theirs, ["cat", "dog", "fox"])
    assert torch.equal(network[1].weight, source["1.weight"][[1, 2, 0]])
    assert torch.equal(network[1].bias, source["1.bias"][[1, 2, 0]])
    assert torch.equal(network[0].weight, source["0.weight"])
    assert "another order" in report.head
    assert "cat, dog, fox" in report.head


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (["cat", "dog", "fox"], "the same 3 classes: cat, dog, fox"),
        (None, "0 -> cat, 1 -> dog, 2 -> fox"),
        (["a", "b", "c"], "its head is kept: cat with that of a, dog with that of b"),
        (["only", "two"], "nothing says which classes"),
    ],
)
def test_a_head_that_stays_as_it_is_says_its_classes(tmp_path: Path, theirs: list[str] | None, said: str) -> None:
    report, network, source = loaded(tmp_path, theirs, ["cat", "dog", "fox"])
    assert torch.equal(network[1].weight, source["1.weight"])
    assert said in (report.head or report.summary())


def test_a_head_of_partly_other_classes_starts_fresh(tmp_path: Path) -> None:
    report, network, source = loaded(tmp_path, ["cat", "dog", "owl"], ["cat", "dog", "fox"])
    assert not torch.equal(network[1].weight, source["1.weight"])
    assert report.reinitialised == ["1.weight", "1.bias"]
    assert "owl" in report.head
    assert "fox" in report.head


def test_a_head_of_another_number_of_classes_is_fresh_without_a_word(tmp_path: Path) -> None:
    torch.save({"state_dict": classifier(5).state_dict()}, tmp_path / "w.pth")
    report = load(classifier(3), tmp_path / "w.pth", ["a", "b", "c"], ("1",))
    assert report.head == ""


def test_a_norm_as_wide_as_there_are_classes_is_left_alone(tmp_path: Path) -> None:
    args = {"patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2, "global_pool": "avg"}
    source = build_model("vit", num_classes=12, image_size=16, **args)
    nn.init.normal_(source.fc_norm.weight)
    names = [str(number) for number in range(12)]
    torch.save({"state_dict": source.state_dict(), "classes": names[::-1]}, tmp_path / "w.pth")
    network = build_model("vit", num_classes=12, image_size=16, **args)
    load(network, tmp_path / "w.pth", names, head_names(network))
    assert torch.equal(network.fc_norm.weight, source.fc_norm.weight)
    assert torch.equal(network.head.weight, source.head.weight.flip(0))


@pytest.mark.parametrize("name", ["acmil_ga", "clam_sb"])
def test_networks_with_several_classifiers(tmp_path: Path, name: str) -> None:
    """Those of CLAM have one for each class, with two outputs that are no classes."""
    torch.manual_seed(0)
    source, network = (NETWORKS[name](6, 16, 2).eval() for _ in range(2))
    torch.save({"state_dict": source.state_dict(), "classes": ["b", "a"]}, tmp_path / "w.pth")
    load(network, tmp_path / "w.pth", ["a", "b"], network.heads, by_module=network.heads_by_module)
    bags = torch.randn(1, 9, 6)
    padding = torch.zeros(1, 9, dtype=torch.bool)
    theirs, ours = (each(bags, padding) for each in (source, network))
    assert torch.equal(ours.bag_logits, theirs.bag_logits.flip(1))
    if theirs.instances is not None:
        assert torch.equal(ours.instances.attended, theirs.instances.attended.flip(1))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (["cock", "goldfish", "tench"], ["tench, Tinca tinca", "goldfish, Carassius", "hen"]),
        (["cock", "gold-fish", "tench"], ["TENCH", "Gold_Fish", "hen"]),
        (["cat", "Cat", "dog"], ["CAT", "dog", "fox"]),
    ],
)
def test_classes_that_overlap_under_another_spelling_are_no_other_classes(ours: list[str], theirs: list[str]) -> None:
    assert Classes(ours, theirs).agreement == "overlapping"


def test_the_order_in_the_settings_of_a_file_counts(tmp_path: Path) -> None:
    source = classifier().state_dict()
    content = {"state_dict": source, "hyper_parameters": {"class_names": ["fox", "cat", "dog"]}}
    torch.save(content, tmp_path / "w.ckpt")
    network = classifier()
    report = load(network, tmp_path / "w.ckpt", ["cat", "dog", "fox"], ("1",))
    assert torch.equal(network[1].weight, source["1.weight"][[1, 2, 0]])
    assert "another order" in report.head
