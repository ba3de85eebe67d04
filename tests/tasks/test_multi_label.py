"""Classification of images with several labels: loss, metrics, thresholds, mixing, predictions and refusals."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional
from torchmetrics.classification import MultilabelAveragePrecision

from augment.labels import mix_targets, multi_hot_targets
from vision_train.artefacts import Items, Matrix, Table
from vision_train.data.label_sets import LabelSet
from vision_train.data.sample import ImageSample
from vision_train.errors import UserError
from vision_train.previews import LabelPanel
from vision_train.recipe import load_recipe
from vision_train.statistics import registered_statistic
from vision_train.tasks.class_curves import THRESHOLDS
from vision_train.tasks.classification import multi_label_scores as sheet
from vision_train.tasks.classification.multi_label import MultiLabelTask
from vision_train.tasks.classification.task import build
from vision_train.tasks.classification.views import AveragedViews
from vision_train.tasks.scores import Scores, ScoreTable

CLASSES = ["cat", "dog", "bird", "fish"]
SMALL = ["model.name=vit", "model.args={patch_size: 16, embed_dim: 12, depth: 1, num_heads: 1}"]
NAN = math.nan


def made(*keys: str) -> MultiLabelTask:
    task = build(load_recipe("multilabel/signs", [*SMALL, *keys]), CLASSES)
    assert isinstance(task, MultiLabelTask)
    return task


def batch(count: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that know something of the targets; nothing bears the last class, and some targets are unknown."""
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(count, 4, generator=generator) < torch.tensor([0.5, 0.3, 0.2, 0.0])).float()
    logits = torch.randn(count, 4, generator=generator) + 2 * targets - 1
    targets[torch.rand(count, 4, generator=generator) < 0.1] = NAN
    return logits, targets


def gathered(logits: torch.Tensor, targets: torch.Tensor) -> Scores:
    table = ScoreTable(sheet.fields(4))
    table.add([f"{number:03d}" for number in range(len(logits))], sheet.score_batch(logits, targets))
    return table.gather()


def test_the_loss_is_torchs_over_what_is_known():
    logits, targets = batch()
    known = targets.isfinite()
    expected = functional.binary_cross_entropy_with_logits(logits[known], targets[known])
    losses = sheet.image_losses(logits, targets)
    assert losses.sum() / known.sum() == pytest.approx(expected.item(), rel=1e-5)
    assert not losses[~known].any()
    logits.requires_grad_(True)
    sheet.image_losses(logits, targets).sum().backward()
    assert logits.grad is not None
    assert not logits.grad[~known].any()


def test_map_is_torchmetrics_over_the_classes_that_something_bears():
    logits, targets = batch()
    measured = sheet.metrics(gathered(logits, targets), CLASSES, {})
    reference = MultilabelAveragePrecision(3, average="macro", ignore_index=-1)
    expected = reference(logits.sigmoid()[:, :3], targets.nan_to_num(-1).long()[:, :3])
    assert measured["map"] == pytest.approx(expected.item(), abs=1e-6)
    truths, claimed = targets.nan_to_num(-1).numpy(), (logits > 0).numpy()
    f1 = [f1_score(truths[:, k][truths[:, k] >= 0], claimed[:, k][truths[:, k] >= 0]) for k in range(3)]
    assert measured["f1"] == pytest.approx(np.mean(f1))


def test_a_single_class_is_measured_too():
    logits, targets = batch()
    table = ScoreTable(sheet.fields(1))
    table.add([f"{number:03d}" for number in range(80)], sheet.score_batch(logits[:, :1], targets[:, :1]))
    measured = sheet.metrics(table.gather(), ["cat"], {})
    assert 0.5 < measured["map"] < 1
    assert 0.5 < measured["f1"] < 1


def test_chosen_thresholds_have_the_best_f1():
    scores = gathered(*batch())
    chosen = sheet.choose_thresholds(scores, CLASSES)
    assert [*chosen[THRESHOLDS]] == CLASSES[:3]
    shares, truths = sheet.probabilities(scores), sheet.targets(scores)
    for k, name in enumerate(CLASSES[:3]):
        known = truths[:, k] >= 0
        at = [f1_score(truths[known, k], shares[known, k] >= cut) for cut in shares[known, k]]
        assert f1_score(truths[known, k], shares[known, k] >= chosen[THRESHOLDS][name]) == pytest.approx(max(at))
    measured = sheet.metrics(scores, CLASSES, chosen)
    assert measured["f1_chosen"] > measured["f1"]


def test_items_recompute_every_metric():
    scores = gathered(*batch())
    calibration = sheet.choose_thresholds(scores, CLASSES)
    measured = sheet.metrics(scores, CLASSES, calibration)
    shown = sheet.artefacts(scores, CLASSES, "test", measured, [], calibration)
    (items,) = [each for each in shown if isinstance(each, Items)]
    assert np.mean(items.values["loss"]) == pytest.approx(measured["loss"])
    for name in ("map", "auroc", "f1", "f1_chosen"):
        statistic = registered_statistic(items.recomputed[name].statistic)
        assert statistic(items.columns_of(name), np.ones((1, 80))) == pytest.approx([measured[name]], abs=1e-6)


def test_the_report_shows_nothing_that_one_label_alone_means():
    scores = gathered(*batch())
    shown = sheet.artefacts(scores, CLASSES, "test", sheet.metrics(scores, CLASSES, {}), [], {})
    assert not [each for each in shown if isinstance(each, Matrix)]
    assert {each.name for each in shown} == {
        *("test_summary", "test_per_class", "test_roc", "test_precision_recall", "test_thresholds", "test_items")
    }
    (table,) = [each for each in shown if isinstance(each, Table) and each.name == "test_per_class"]
    assert "No image bears fish" in table.note
    assert table.rows[3][3:6] == [None] * 3


def test_mixing_shares_multi_hot_targets_and_keeps_what_is_unknown():
    labels = torch.tensor([[1.0, 0, NAN], [0, 1, 1]])
    smooth = multi_hot_targets(labels, 0.2)
    assert torch.allclose(smooth[1], torch.tensor([0.1, 0.9, 0.9]))
    mixed = mix_targets(multi_hot_targets(labels), torch.tensor([1, 0]), torch.tensor([0.75, 0.5]))
    assert torch.allclose(mixed[:, :2], torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    assert mixed[:, 2].isnan().all()


def test_a_mixed_step_trains():
    task = made("augment.mixing={mixup: 0.5, cutmix: 0.5}", "method.label_smoothing=0.1")
    images, labels = torch.randn(8, 3, 64, 64), torch.tensor([[1.0, 0, NAN, 1]] * 4 + [[0.0, 1, 0, 0]] * 4)
    loss = task.training_step({"id": ["x"] * 8, "image": images, "label": labels}, 0)
    loss.backward()
    assert loss.isfinite()
    assert all(each.grad is None or each.grad.isfinite().all() for each in task.network.parameters())


def test_balanced_weights_are_the_absences_for_each_presence():
    task = made("method.class_weights=balanced")
    truths = [
        LabelSet(
            tuple(name for name, borne in zip(CLASSES, (50, 20, 10, 40), strict=True) if number < borne),
            ("fish",) if number >= 90 else (),
        )
        for number in range(100)
    ]
    samples = [ImageSample(str(number), "", truth) for number, truth in enumerate(truths)]
    task._trainer = SimpleNamespace(datamodule=SimpleNamespace(samples={"train": samples}.get))
    task.on_train_start()
    lacked = {name: 100 - borne for name, borne in zip(CLASSES, (50, 20, 10, 40), strict=True)}
    lacked["fish"] -= 10  # of these nobody knows
    expected = [lacked[name] / borne for name, borne in zip(CLASSES, (50, 20, 10, 40), strict=True)]
    assert task._presence_weights.tolist() == pytest.approx(expected)


def test_predictions_name_the_classes_above_their_thresholds():
    task = made()
    output = torch.tensor([[0.9, 0.6, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4]])
    first, second = task.predicted({"id": ["a", "b"]}, output)
    assert (first.row["label"], first.row["labels"]) == ("cat|dog", ["cat", "dog"])
    assert list(first.cells) == ["label", *CLASSES]
    assert first.cells["fish"] == pytest.approx(0.2)
    assert second.row["label"] == ""
    assert "none of the classes" in second.sentence
    task.calibration = {THRESHOLDS: {"cat": 0.95, "fish": 0.15}}
    assert task.predicted({"id": ["a", "b"]}, output)[0].row["label"] == "dog|fish"
    assert "cat 0.95" in task.prediction_notes()[0]


def test_views_are_averaged_as_probabilities():
    logits = torch.tensor([[2.0, -1.0]])
    network = AveragedViews(lambda images: logits * images, [lambda x: x, lambda x: -x], True)
    expected = (logits.sigmoid() + (-logits).sigmoid()) / 2
    assert torch.allclose(network(torch.ones(1, 1)).sigmoid(), expected, atol=1e-6)


def test_previews_name_all_labels():
    task = made("augment.mixing={mixup: 1.0}")
    held = {"id": ["a", "b"], "image": torch.zeros(2, 3, 64, 64), "label": torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 0]])}
    panel = task.preview(iter([held]), 1).rows[0].panel
    assert isinstance(panel, LabelPanel)
    assert (panel.label, panel.partner_label) == ("cat + dog", "none")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["method.loss=cross_entropy"], r"method\.loss.*set method\.loss=bce"),
        (["data.multi_label=false", "data.source=digits"], r"method\.loss.*data\.multi_label=true"),
        (["data.balance=classes"], r"data\.balance.*method\.class_weights=balanced"),
        (["augment.mixing={maskmix: 1.0, labels: progressive, mask_patch: 16}"], r"augment\.mixing\.labels.*area"),
        (["run.select.metric=val/accuracy"], r"run\.select\.metric.*val/map"),
        (["semi.method=freematch", "data.unlabelled=rest", "optim.ema={half_life: run}"], r"semi\.method.*none"),
        (["data.source=images", "data.root=photos"], r"data\.labels.*csv"),
        (["data.source=digits"], r"data\.source.*data\.multi_label=false"),
        (["data.multi_label=false", "method.loss=cross_entropy"], r"data\.source.*data\.multi_label=true"),
    ],
)
def test_what_does_not_go_together_is_refused(keys, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        load_recipe("multilabel/signs", keys)
