"""What a detector says of a pool under several views, and the boxes that follow."""

import math

import numpy as np
import pytest
import torch

from augment.detection import DetectionEvaluation, DetectionTraining, relative_boxes
from augment.geometry import map_boxes
from models.detr.decoder import Predictions
from models.detr.network import Found
from vision_train.data.boxes.two_views import PoolViews
from vision_train.data.sample import ImageSample
from vision_train.semi.box_labels import BoxLabel, LabelledBox
from vision_train.tasks.detection.asked import NOTHING, answer, judged, labels_of

BOX, CLASSES, CUTS = np.array([[30.0, 20.0, 60.0, 40.0]]), ["cat", "dog"], np.array([0.5, 0.5])
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
SCORES = ("confidence", "robustness")


def views_of(images: int = 4, flip: float = 0.5) -> tuple[list[str], list[dict]]:
    samples = [ImageSample(f"{number}", np.zeros((60, 90, 3), np.uint8)) for number in range(images)]
    weak = DetectionTraining(**PLAIN, longest=200, scales=[32, 48, 100], flip=flip)
    data = PoolViews(samples, [DetectionEvaluation(**PLAIN, short_side=48, longest=200), weak, weak], 0, "error")
    batch = data.to_batch([data[number, 0] for number in range(images)])
    return batch["id"], batch["views"]


def detector(views: list[dict], scores: tuple[float, ...] = (0.9,), follows: bool = True, box: np.ndarray = BOX):
    """Finds the box in each view where it is, or where it is in the original; each score is one more query."""
    calls = iter(views)

    def network(image: torch.Tensor, padding_mask: torch.Tensor) -> Found:
        view = next(calls)
        boxes = torch.full((1, len(image), len(scores), 4), 0.5, dtype=torch.float64)
        for place, (affine, size) in enumerate(zip(view["affine"].numpy(), view["shown"], strict=True)):
            moved = relative_boxes(map_boxes(box, affine), size) if follows else relative_boxes(box, (60, 90))
            boxes[0, place] = torch.from_numpy(moved)[0]
        logits = torch.full((1, len(image), len(scores), 2), -9.0)
        logits[0, :, :, 1] = torch.logit(torch.tensor(scores))
        found = Predictions(logits, boxes.float())
        return Found(found, found)

    return network


def test_what_is_found_in_each_view_maps_back_to_one_place_and_is_robust():
    ids, views = views_of()
    assert any((view["affine"][:, 0, 0] < 0).any() for view in views), "some are mirrored"
    found = answer(detector(views), ids, views, SCORES, CUTS)
    for each in found:
        np.testing.assert_allclose(each.said.found.boxes, BOX, atol=1e-4)  # networks answer in float32
        assert each.scores == pytest.approx({"confidence": 0.9, "robustness": 1.0}, abs=1e-6)


def test_a_detector_that_ignores_mirroring_scores_the_overlap_with_the_mirror_image():
    ids, views = views_of(flip=1.0)
    aside = np.array([[40.0, 20.0, 70.0, 40.0]])  # BOX is its own mirror image
    found = answer(detector(views, follows=False, box=aside), ids, views, SCORES, CUTS)
    overlap = (50 - 40) / (70 - 20)  # 40 to 70 and 20 to 50
    assert [each.scores["robustness"] for each in found] == pytest.approx([overlap] * 4, abs=1e-5)


def test_candidates_below_the_cut_are_kept_as_doubtful_and_the_rest_is_forgotten():
    ids, views = views_of(1)
    (only,) = answer(detector(views, (0.9, 0.3, 0.05)), ids, views, ["confidence"], CUTS)
    assert only.said.sure.tolist() == [True, False]
    assert only.scores == pytest.approx({"confidence": 0.9})
    label = labels_of([[only]], CLASSES)[0]
    assert [(box.label, box.weight) for box in label.boxes] == [("dog", 1.0), ("dog", 0.0)]
    assert (label.kept, label.stratum) == (True, "dog")


def test_images_with_nothing_are_background_and_those_that_may_hold_something_have_no_label():
    ids, views = views_of(1)
    for score, kept, stratum, boxes in ((0.05, True, NOTHING, 0), (0.3, False, "", 1)):
        (label,) = labels_of([answer(detector(views, (score,)), ids, views, [], CUTS)], CLASSES)
        assert (label.kept, label.stratum, len(label.boxes)) == (kept, stratum, boxes)
        assert math.isnan(label.scores["confidence"])


def test_values_that_are_not_finite_give_no_label():
    ids, views = views_of(1)
    found = answer(detector(views, (0.9, math.nan)), ids, views, SCORES, CUTS)
    assert all(math.isnan(score) for score in found[0].scores.values())
    labels = labels_of([found], CLASSES)
    assert not labels[0].kept
    assert not labels[0].stratum
    assert any("1 of its 1" in warning for warning in judged(labels, CLASSES, [1, 1], 1.0)[1])


def test_networks_vote_on_boxes():
    ids, views = views_of(1)
    said = [answer(detector(views, (score,)), ids, views, [], CUTS) for score in (0.9, 0.7, 0.05)]
    (label,) = labels_of(said, CLASSES)
    assert [(box.score, box.share) for box in label.boxes] == [pytest.approx((0.8, 2 / 3))]
    assert label == labels_of(said[::-1], CLASSES)[0]


def labelled(name: str, *classes: str) -> BoxLabel:
    return BoxLabel("x", name, stratum=name, boxes=tuple(LabelledBox(each, (0, 0, 1, 1)) for each in classes))


@pytest.mark.parametrize(
    ("labels", "objects", "kept", "words"),
    [
        ([labelled("cat", "cat", "dog")], 2.0, True, []),
        ([labelled("cat", "cat", "cat")], 2.0, False, ["dog", "few classes", "semi.burn_in", "labelled images alone"]),
        ([labelled("cat", "cat", "dog")], 0.5, False, ["4.0 times", "semi.burn_in", "labelled images alone"]),
        ([labelled("cat", "cat", "dog")] + [labelled(NOTHING)] * 30, 2.0, False, ["0.03 times", "semi.burn_in"]),
        ([labelled("cat", "cat", "dog")], math.nan, True, []),
    ],
)
def test_boxes_that_flood_or_collapse_are_not_learnt_from(labels, objects, kept, words):
    found, warnings = judged(labels, CLASSES, [5, 5], objects)
    assert [each.kept for each in found] == [kept] * len(labels)
    assert all(word in " ".join(warnings) for word in words)
    assert bool(warnings) == bool(words)
