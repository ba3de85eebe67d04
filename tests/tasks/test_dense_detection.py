"""Training a visual branch cell by cell: what it learns from, what it measures, what it refuses."""

import itertools
import math

import pytest
import torch

from models.grounding.dense import IGNORED, CellTargets, DenseOutput
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.phase import build_task, prepare, scan
from vision_train.statistics.metrics import ratio_of_sums
from vision_train.tasks.dense_detection.scores import COUNTED, FIELDS, artefacts, metrics, score_batch
from vision_train.tasks.scores import Scores

RECIPE = "actress/referring_visual"


@pytest.fixture(scope="module")
def prepared():
    return prepare(scan(load_recipe(RECIPE, ["data.batch_size=8"])))


def test_the_loss_falls_on_drawn_things(prepared):
    task, batch = prepared.task, next(iter(prepared.data.train_dataloader()))
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        losses.append(task.training_step(batch, 0))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]


def test_a_batch_that_is_padded_for_larger_strides_is_cut_to_cells_of_this_one(prepared):
    batches = [next(iter(loader)) for loader in prepared.data.evaluation_loaders("val")]
    assert batches[0]["image"].shape[-2:] == (64, 64)
    output, targets = prepared.task.compare(batches[0])
    assert output.grid == (6, 6)
    assert not output.padding.any()
    assert targets.covered.any(dim=1).all()


def test_scores_count_covered_and_empty_cells_apart():
    classes = torch.tensor([[0, 1, 2, 2, IGNORED]])  # of two classes; the third one is nothing
    covered = torch.tensor([[True, True, False, False, False]])
    edges = torch.tensor([0.0, 0, 1, 1]) * covered[..., None]
    said = torch.nn.functional.one_hot(torch.tensor([[0, 2, 2, 0, 1]]), 3).float()
    rows = score_batch(DenseOutput(said, edges, ~covered, (1, 5)), CellTargets(classes, edges, covered))
    assert dict(zip(FIELDS, rows[0].tolist(), strict=True)) == {
        "covered": 2,
        "named": 1,
        "iou": 2,
        "empty": 2,
        "left_empty": 1,
    }
    measured = metrics(Scores(["a"], FIELDS, rows, {}))
    assert measured == {"cell_accuracy": 0.5, "cell_iou": 1.0, "empty_accuracy": 0.5}
    assert all(map(math.isnan, metrics(Scores(["a"], FIELDS, torch.zeros(1, 5), {})).values()))


def test_studies_recompute_the_metrics_from_the_items():
    rows = torch.tensor([[4.0, 3, 2.5, 10, 9], [2, 2, 1.0, 12, 12]])
    scores = Scores(["a", "b"], FIELDS, rows, {})
    measured = metrics(scores)
    table, items = artefacts(scores, "test", measured)
    assert table.rows[0] == ["images", 2]
    for name in COUNTED:
        recomputed = ratio_of_sums(items.columns_of(name), torch.ones(1, 2).numpy())
        assert recomputed[0] == pytest.approx(measured[name])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.name=resnet50"], ["model.name=resnet50", "visual_branch"]),
        (["model.args.visual_layers=3"], ["model.args.visual_layers", "layers"]),
        (["model.args.heads=5"], ["model.args.heads", "must divide dim"]),
        (["model.args.stride=5"], ["model.args.backbone=resnet10t", "none of 5"]),
        (["model.args.backbone_args=3"], ["model.args.backbone_args", "mapping"]),
        (["model.head_std=0.1"], ["model.head_std"]),
        (["optim.layer_decay=0.8"], ["optim.layer_decay", "lr_factors"]),
        (["semi.method=mean_teacher", "data.unlabelled=rest"], ["semi.method", "none"]),
    ],
)
def test_what_cannot_be_trained_is_refused_with_its_remedy(overrides, words):
    with pytest.raises(UserError) as caught:
        build_task(load_recipe(RECIPE, overrides), ["a", "b"])
    assert all(word in str(caught.value) for word in words)


def test_the_preview_shows_boxes_before_and_after_augmentation(prepared):
    batches = itertools.repeat(next(iter(prepared.data.train_dataloader())))
    shown = prepared.task.preview(batches, 3)
    assert len(shown.rows) == 3
    for row in shown.rows:
        assert {*row.boxes} == {"augmented", "original"}
        assert len(row.boxes["original"].corners) == len(row.boxes["augmented"].corners)
