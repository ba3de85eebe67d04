import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from vision_train.artefacts import Matrix, Table
from vision_train.tasks.classification.mistakes import KEPT, WorstMistakes
from vision_train.tasks.classification.scores import artefacts, gather, metrics, score_batch

CLASSES = [f"class {index}" for index in range(7)]


def batches(count: int = 40, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 7, generator=generator) * 2
    labels = torch.randint(0, 7, (count,), generator=generator)
    ids = [f"image-{index:03d}" for index in range(count)]
    return ids, logits, labels


def test_metrics_agree_with_torchmetrics():
    ids, logits, labels = batches(200)
    result = metrics(gather([score_batch(ids, logits, labels)]))
    probabilities = logits.softmax(1)
    expected = {
        "loss": torch.nn.functional.cross_entropy(logits, labels),
        "accuracy": multiclass_accuracy(probabilities, labels, 7, average="micro"),
        "accuracy_top5": multiclass_accuracy(probabilities, labels, 7, average="micro", top_k=5),
        "calibration_error": multiclass_calibration_error(probabilities, labels, 7, n_bins=15),
    }
    assert result == {name: pytest.approx(value.item(), abs=1e-6) for name, value in expected.items()}


def test_an_image_seen_twice_counts_once_whatever_the_order():
    ids, logits, labels = batches(30)
    whole = metrics(gather([score_batch(ids, logits, labels)]))
    parts = [
        score_batch(ids[20:], logits[20:], labels[20:]),
        score_batch(ids[:25], logits[:25], labels[:25]),
    ]
    assert metrics(gather(parts)) == pytest.approx(whole)


def test_two_classes_have_a_top5_of_one():
    scores = score_batch(["a", "b"], torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    assert metrics(gather([scores]))["accuracy_top5"] == 1.0


def test_confusion_and_per_class_table_count_every_image():
    ids, logits, labels = batches(100)
    shown = {
        artefact.name: artefact for artefact in artefacts(gather([score_batch(ids, logits, labels)]), CLASSES, "test")
    }
    confusion, table = shown["test_confusion"], shown["test_per_class"]
    assert isinstance(confusion, Matrix)
    assert isinstance(table, Table)
    assert sum(map(sum, confusion.values)) == 100
    for k, row in enumerate(table.rows):
        assert row[1] == (labels == k).sum()
        assert row[2] == pytest.approx(confusion.values[k][k] / max(sum(confusion.values[k]), 1))


def test_a_network_that_diverged_still_has_artefacts():
    diverged = score_batch(["a", "b", "c"], torch.tensor([[torch.nan] * 7] * 2 + [[1.0] + [0.0] * 6]), torch.arange(3))
    shown = {artefact.name: artefact for artefact in artefacts(diverged, CLASSES, "test")}
    assert len(shown["test_reliability"].x) == 1


def test_the_worst_mistakes_are_those_of_highest_loss():
    ids, logits, labels = batches(150)
    images = torch.zeros(150, 3, 4, 4)
    album = WorstMistakes((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    for start in range(0, 150, 32):
        part = slice(start, start + 32)
        album.add(score_batch(ids[part], logits[part], labels[part]), images[part])
    grid = album.grid(CLASSES, "test")
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    losses[logits.argmax(1) == labels] = -1
    expected = [ids[index] for index in losses.argsort(descending=True)[:KEPT]]
    assert [caption.splitlines()[1] for caption in grid.captions] == expected
    assert grid.images[0].shape == (4, 4, 3)
    assert grid.images[0][0, 0, 0] == 128
