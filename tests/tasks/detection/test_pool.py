"""A teacher's boxes on weak views become targets on strong views, in the same places of the image.

Items are those of the specification of learning from unlabelled images.
"""

import numpy as np
import pytest
import torch

from augment.detection import DetectionTraining, RandomPart, relative_boxes
from augment.geometry import IDENTITY, follow_boxes, map_boxes
from models.detr.boxes import to_corners
from models.detr.criterion import Criterion
from models.detr.decoder import Predictions
from models.detr.denoising import Target
from models.detr.network import Found, Trained
from vision_train.data.boxes.annotations import BoxSample
from vision_train.data.boxes.two_views import TwoViewDataset, Views
from vision_train.ema import MovingAverage
from vision_train.recipe import load_recipe
from vision_train.semi.boxes import Candidates, PseudoBoxes, StrongView, pseudo_boxes
from vision_train.tasks.detection.task import DetectionTask, build
from vision_train.tasks.detection.teaching import find_candidates, pseudo_box_loss, targets_of, teach

BOX, CUTS = np.array([[30.0, 20.0, 60.0, 40.0]]), np.array([0.5, 0.5, 0.5])
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "longest": 200}


def pool_of(images: int = 3, part: RandomPart | None = None, turn: int = 0) -> dict:
    samples = [BoxSample(f"{number}", np.zeros((60, 90, 3), np.uint8)) for number in range(images)]
    weak = DetectionTraining(**PLAIN, scales=[32, 48, 100], flip=0.5)
    strong = DetectionTraining(**PLAIN, scales=[40, 64], part=part, flip=0.5, color_jitter=0.4, blur=0.5)
    dataset = TwoViewDataset(samples, Views(weak, strong, 0.0), 0, "error")
    return dataset.to_batch([dataset[number, turn] for number in range(images)])


def teacher_of(pool: dict, score: float = 0.9):
    """A teacher that finds the box with one query, as class 1, and nothing with another."""
    view = pool["weak"]
    boxes = torch.full((1, len(pool["id"]), 2, 4), 0.5)
    for place, (affine, size) in enumerate(zip(view["affine"].numpy(), view["shown"], strict=True)):
        boxes[0, place, 0] = torch.from_numpy(relative_boxes(map_boxes(BOX, affine), size))[0]
    logits = torch.full((1, len(pool["id"]), 2, 3), -9.0)
    logits[0, :, 0, 1] = torch.logit(torch.tensor(score))
    return lambda image, padding_mask: Found(Predictions(logits, boxes), Predictions(logits, boxes))


@pytest.mark.parametrize("turn", range(6))
def test_what_the_teacher_finds_is_learnt_in_the_same_place(turn):
    pool = pool_of(turn=turn)
    taught = teach(pool, find_candidates(teacher_of(pool), pool["weak"]), CUTS, "score")
    for place, target in enumerate(targets_of(taught, pool)):
        affine, size = pool["strong"]["affine"][place].numpy(), pool["strong"]["shown"][place]
        expected = relative_boxes(map_boxes(BOX, affine), size)
        np.testing.assert_allclose(target.boxes.numpy(), expected, atol=1e-5)
        assert target.labels.tolist() == [1]
        assert target.box_weights.tolist() == pytest.approx([0.9], abs=1e-5)
        assert (target.weight, len(target.unsure)) == (1.0, 0)


def test_item_12_objects_that_a_crop_cuts_away_are_no_targets():
    seen = set()
    for turn in range(30):
        pool = pool_of(1, RandomPart(1.0, [60], 20, 30), turn)
        (target,) = targets_of(teach(pool, find_candidates(teacher_of(pool), pool["weak"]), CUTS, "score"), pool)
        affine, (height, width) = pool["strong"]["affine"][0].numpy(), pool["strong"]["shown"][0]
        left, top, right, bottom = map_boxes(BOX, affine)[0]
        across, down = min(right, width) - max(left, 0), min(bottom, height) - max(top, 0)
        shown, share = across >= 1 and down >= 1, across * down / ((right - left) * (bottom - top))
        x, y = (left + right) / 2, (top + bottom) / 2
        if min(abs(share - 0.5), abs(x), abs(width - x), abs(y), abs(height - y)) < 1e-4:
            continue  # the teacher's float32 decides
        kept = shown and share >= 0.5 and 0 <= x <= width and 0 <= y <= height
        assert len(target.boxes) == kept
        assert len(target.unsure) == (shown and not kept)
        assert target.weight == (1.0 if kept else 0.0 if shown else 0.25)
        seen.add(target.weight)
    assert len(seen) > 1


@pytest.mark.parametrize("beside", [0, 1], ids=["alone", "beside another object"])
def test_item_12_erased_objects_never_reach_the_loss(task, beside):
    """Whatever class and score the teacher gives them, the loss is the same."""
    pool, said = pool_of(2), ((0, 0.9), (2, 0.6), (2, 0.4))
    views = zip(pool["strong"]["affine"].numpy(), pool["strong"]["shown"], strict=True)
    boxes = [follow_boxes(BOX, affine, size).boxes for affine, size in views]
    there = np.concatenate([BOX, np.array([[4.0, 4.0, 22.0, 16.0]])[:beside]])

    def loss(label: int, score: float, erased: bool) -> float:
        pool["strong"]["erased"] = [each if erased else each[:0] for each in boxes]
        scores, labels = np.array([score, 0.9])[: 1 + beside], np.array([label, 1])[: 1 + beside]
        found = [Candidates(scores, labels, map_boxes(there, affine)) for affine in pool["weak"]["affine"].numpy()]
        taught = teach(pool, found, CUTS, "score")
        assert [len(each.boxes) for each in taught] == [beside + (not erased and score >= 0.5)] * 2
        return pseudo_box_loss(task.network, task.criterion, taught, pool).item()

    (only,) = {loss(*each, erased=True) for each in said}
    assert bool(only) == bool(beside)
    assert len({loss(*each, erased=False) for each in said}) == 3


def random_answers() -> tuple[Trained, Candidates]:
    """What a student says of one view in all layers, and a teacher that says as much of the same view."""
    random = torch.Generator().manual_seed(0)

    def predictions(layers: int) -> Predictions:
        boxes = torch.cat([torch.rand(layers, 1, 7, 2, generator=random) * part + start
                           for part, start in ((0.4, 0.3), (0.2, 0.1))], dim=-1)  # fmt: skip
        return Predictions(torch.randn(layers, 1, 7, 3, generator=random), boxes)

    found, hybrid = (Found(predictions(1), predictions(3)) for _ in range(2))
    both = [part for each in (found, hybrid) for part in (each.queries, each.first_stage)]
    boxes = torch.cat([to_corners(each.boxes).flatten(0, 2) for each in both]).double().numpy() * [64, 48, 64, 48]
    scores, labels = torch.cat([each.logits.flatten(0, 2) for each in both]).sigmoid().max(dim=-1)
    return Trained(found, None, None, hybrid), Candidates(scores.double().numpy(), labels.numpy(), boxes)


def classification_loss(trained: Trained, taught: PseudoBoxes) -> float:
    pool = {"strong": {"image": torch.zeros(1, 3, 64, 64), "shown": [(48, 64)]}}
    losses = Criterion()(trained, targets_of([taught], pool))
    return sum(loss.item() for name, loss in losses.items() if name.startswith("loss_class"))


def test_item_13_floor_0_and_cut_1_give_no_classification_loss():
    trained, found = random_answers()
    view = StrongView(IDENTITY, (48, 64))
    assert classification_loss(trained, pseudo_boxes(found, np.ones(3), IDENTITY, view, floor=0)) == 0
    assert classification_loss(trained, pseudo_boxes(found, np.ones(3), IDENTITY, view, floor=1)) > 0


def test_item_13_a_floor_that_is_the_cut_gives_the_plain_loss():
    trained, found = random_answers()
    cut = np.sort(found.scores)[-5]
    taught = pseudo_boxes(found, np.full(3, cut), IDENTITY, StrongView(IDENTITY, (48, 64)), "one", floor=1)
    sure = found.only(found.scores >= cut)
    plain = Target(torch.from_numpy(relative_boxes(sure.boxes, (48, 64))).float(), torch.from_numpy(sure.labels))
    losses = Criterion()(trained, [plain])
    expected = sum(loss.item() for name, loss in losses.items() if name.startswith("loss_class"))
    assert len(taught.boxes) == 5
    assert classification_loss(trained, taught) == pytest.approx(expected, rel=1e-6)
    with_unsure = pseudo_boxes(found, np.full(3, cut), IDENTITY, StrongView(IDENTITY, (48, 64)), "one", floor=0.3)
    assert classification_loss(trained, with_unsure) < expected


@pytest.fixture
def task(monkeypatch) -> DetectionTask:
    task = build(load_recipe("semi/shapes", smoke=True), ["circle", "square", "triangle"])
    average = MovingAverage(task.network, 0.9)
    monkeypatch.setattr(DetectionTask, "average", property(lambda self: average))
    monkeypatch.setattr(DetectionTask, "global_step", property(lambda self: 4))
    assert task.teaching is not None
    task.teaching.burn_in, task.steps_per_epoch, task.teaching.total_steps = 0, 1, 10
    assert task.pool is not None
    task.pool.cuts.values.fill_(0.005)
    return task


def labelled() -> dict:
    return {
        "image": torch.rand(2, 3, 64, 64),
        "padding_mask": torch.zeros(2, 64, 64, dtype=torch.bool),
        "boxes": [torch.rand(2, 4) * 0.3 + 0.3 for _ in range(2)],
        "class_ids": [torch.tensor([0, 1])] * 2,
        "ignore": [torch.zeros(0, 4)] * 2,
        "areas": [torch.tensor([100.0, 400.0], dtype=torch.float64)] * 2,
    }


def test_item_4_the_pool_adds_to_the_loss_and_no_gradient_reaches_teacher_or_weak_view(task):
    batch = {"labelled": labelled(), "unlabelled": pool_of(2)}
    batch["unlabelled"]["weak"]["image"].requires_grad_()
    task.seed_generators(0)
    loss = task.training_step(batch, 0)
    loss.backward()
    assert batch["unlabelled"]["weak"]["image"].grad is None
    assert all(parameter.grad is None for parameter in task.average.parameters())
    assert not any(module.training for module in task.average.network.modules())
    figures = task.pool.counts.figures()
    assert (figures.images, figures.labelled_boxes) == (2, 2.0)
    assert figures.boxes > 0
    assert figures.loss_ratio > 0
    task.pool.weight = 0.0
    task.seed_generators(0)
    assert task.training_step(batch, 0) < loss


def test_the_loss_of_the_pool_weighs_at_most_4_times_that_of_labelled_images(task):
    batch = {"labelled": labelled(), "unlabelled": pool_of(2)}
    task.pool.weight = 0.0
    task.seed_generators(0)
    alone = task.training_step(batch, 0).item()
    task.pool.weight = 1e6
    task.seed_generators(0)
    assert task.training_step(batch, 0).item() == pytest.approx(5 * alone, rel=1e-4)


def test_a_stopped_teacher_is_watched_and_adds_nothing(task):
    batch = {"labelled": labelled(), "unlabelled": pool_of(2)}
    task.teaching.adds = lambda step: False
    task.seed_generators(0)
    stopped = task.training_step(batch, 0)
    assert task.pool.counts.figures().images == 2
    task.teaching.labels = lambda step: False
    task.pool.counts.reset()
    task.seed_generators(0)
    assert torch.equal(task.training_step(batch, 0), stopped)
    assert task.pool.counts.figures().images == 0
