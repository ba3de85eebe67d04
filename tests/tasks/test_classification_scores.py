from unittest.mock import Mock

import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from vision_train.artefacts import Matrix, Table
from vision_train.recipe import load_recipe
from vision_train.tasks.classification import attended
from vision_train.tasks.classification.mistakes import KEPT, LONGEST_SIDE
from vision_train.tasks.classification.scores import FIELDS, artefacts, metrics, score_batch
from vision_train.tasks.classification.task import build
from vision_train.tasks.scores import Scores, ScoreTable

CLASSES = [f"class {index}" for index in range(7)]


def batches(count: int = 40, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 7, generator=generator) * 2
    labels = torch.randint(0, 7, (count,), generator=generator)
    ids = [f"image-{index:03d}" for index in range(count)]
    return ids, logits, labels


def gathered(*parts: tuple[list[str], torch.Tensor, torch.Tensor]) -> Scores:
    """Scores of batches of ids, logits and labels."""
    table = ScoreTable(FIELDS)
    for ids, logits, labels in parts:
        table.add(ids, score_batch(logits, labels))
    return table.gather()


def shown_of(scores: Scores) -> dict:
    return {artefact.name: artefact for artefact in artefacts(scores, CLASSES, "test", metrics(scores))}


def test_metrics_agree_with_torchmetrics():
    ids, logits, labels = batches(200)
    result = metrics(gathered((ids, logits, labels)))
    probabilities = logits.softmax(1)
    expected = {
        "loss": torch.nn.functional.cross_entropy(logits, labels),
        "accuracy": multiclass_accuracy(probabilities, labels, 7, average="micro"),
        "accuracy_top5": multiclass_accuracy(probabilities, labels, 7, average="micro", top_k=5),
        "balanced_accuracy": multiclass_accuracy(probabilities, labels, 7, average="macro"),
        "f1": multiclass_f1_score(probabilities, labels, 7, average="macro"),
        "calibration_error": multiclass_calibration_error(probabilities, labels, 7, n_bins=15),
    }
    assert result == {name: pytest.approx(value.item(), abs=1e-6) for name, value in expected.items()}


def test_an_image_seen_twice_counts_once_whatever_the_order():
    ids, logits, labels = batches(30)
    whole = metrics(gathered((ids, logits, labels)))
    parts = [(ids[20:], logits[20:], labels[20:]), (ids[:25], logits[:25], labels[:25])]
    assert metrics(gathered(*parts)) == pytest.approx(whole)


def test_two_classes_have_a_top5_of_one():
    scores = gathered((["a", "b"], torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])))
    assert metrics(scores)["accuracy_top5"] == 1.0


@pytest.mark.parametrize(("classes", "shown"), [(5, "never"), (6, "report")])
def test_top_five_of_five_classes_is_not_shown(classes, shown):
    small = ["model.args={patch_size: 4, embed_dim: 12, depth: 1, num_heads: 1}"]
    described = {
        metric.name: metric.shown for metric in build(load_recipe("quickstart", small), CLASSES[:classes]).metrics
    }
    assert described["accuracy_top5"] == shown
    assert described["accuracy"] != "never"


def test_confusion_and_per_class_table_count_every_image():
    ids, logits, labels = batches(100)
    shown = shown_of(gathered((ids, logits, labels)))
    confusion, table = shown["test_confusion"], shown["test_per_class"]
    assert isinstance(confusion, Matrix)
    assert isinstance(table, Table)
    assert sum(map(sum, confusion.values)) == 100
    for k, row in enumerate(table.rows):
        assert row[1] == (labels == k).sum()
        assert row[2] == pytest.approx(confusion.values[k][k] / max(sum(confusion.values[k]), 1))


def test_a_network_that_diverged_still_has_artefacts():
    shown = shown_of(
        gathered((["a", "b", "c"], torch.tensor([[torch.nan] * 7] * 2 + [[1.0] + [0.0] * 6]), torch.arange(3)))
    )
    assert len(shown["test_reliability"].x) == 1


@pytest.fixture
def task():
    """A tiny classifier; its network is what a test makes of it."""
    small = ["model.args={patch_size: 4, embed_dim: 12, depth: 1, num_heads: 1}"]
    built = build(load_recipe("quickstart", small), CLASSES)
    built.log_dict = lambda *_, **__: None
    return built


def pass_over(task, monkeypatch, ids, logits, labels, images):
    """The artefacts of a test pass in which the network gave these logits."""
    given = dict(zip(ids, logits, strict=True))
    asked: list[str] = []
    # The images are made up as well: the network itself could not look at them.
    monkeypatch.setattr(attended, "attention_source", Mock(side_effect=ValueError("none")))
    monkeypatch.setattr(task, "forward", lambda _: torch.stack([given[name] for name in asked]))
    task.on_test_epoch_start()
    for start in range(0, len(ids), 32):
        part = slice(start, start + 32)
        asked[:] = ids[part]
        task.test_step({"id": ids[part], "image": images[part], "label": labels[part]}, 0)
    task.on_test_epoch_end()
    return {artefact.name: artefact for artefact in task.artefacts()}


def test_the_worst_mistakes_are_those_of_highest_loss(task, monkeypatch):
    ids, logits, labels = batches(150)
    grid = pass_over(task, monkeypatch, ids, logits, labels, torch.zeros(150, 3, 4, 4))["test_mistakes"]
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    losses[logits.argmax(1) == labels] = -1
    expected = [ids[index] for index in losses.argsort(descending=True)[:KEPT]]
    assert [caption.splitlines()[1] for caption in grid.captions] == expected
    assert grid.images[0].shape == (4, 4, 3)
    assert grid.images[0][0, 0, 0] == 128


def test_pictures_of_mistakes_are_small(task, monkeypatch):
    images = torch.zeros(2, 3, 2 * LONGEST_SIDE, LONGEST_SIDE)
    wrong = torch.eye(7)[[1, 0]]
    grid = pass_over(task, monkeypatch, ["a", "b"], wrong, torch.tensor([0, 1]), images)["test_mistakes"]
    assert [image.shape for image in grid.images] == [(LONGEST_SIDE, LONGEST_SIDE // 2, 3)] * 2
    assert grid.captions[0].startswith("class 0, taken for class 1 (")


def test_a_batch_seen_twice_is_shown_once(task, monkeypatch):
    ids, labels = ["a", "b", "a", "b"], torch.tensor([0, 1, 0, 1])
    shown = pass_over(task, monkeypatch, ids, torch.eye(7)[[1, 1, 1, 1]], labels, torch.zeros(4, 3, 4, 4))
    assert len(shown["test_mistakes"].images) == 1
    assert shown["test_summary"].rows[0] == ["images", 2]
