"""The images with most errors are kept, with what was found beside what is there."""

import numpy as np
import pytest
import torch

from vision_train.tasks.detection.worst_images import KEPT, KINDS, LONGEST_SIDE, WorstImages

CLASSES = ["cat", "dog"]
WRONG = [(0.9, 0, 0, 10), (0.8, 0, 1, 11), (0.7, 0, 80, 90)]
"""The first detection finds a cat, the second doubles it, the third lies on background."""


def batch(*names: str, scale: float = 1.0) -> dict:
    affine = torch.diag(torch.tensor([scale, scale, 1.0], dtype=torch.float64))
    return {"id": list(names), "affine": affine.repeat(len(names), 1, 1)}


def pixels_of(place: int, height: int = 20, width: int = 100) -> np.ndarray:
    return np.full((height, width, 3), place, np.uint8)


@pytest.fixture
def worst():
    return WorstImages(CLASSES, np.full(2, 0.5))


def test_images_are_shown_by_the_number_of_their_errors(worst, make_result):
    right, one, three = [(0.9, 0, 0, 10)], WRONG[:2], [*WRONG, (0.6, 1, 0, 10)]
    results = [make_result(found, [(0, 0, 10)]) for found in (one, right, three)]
    worst.add(batch("one", "right", "three"), results, pixels_of)
    shown = worst.pictures("test", "Why.")
    assert [picture.id for picture in shown.pictures] == ["three", "one"]
    assert shown.note.startswith("Why.")
    assert shown.pictures[0].pixels[0, 0, 0] == 2


def test_boxes_are_marked_by_what_is_wrong(worst, make_result):
    found = [*WRONG, (0.4, 0, 40, 50)]  # the last one is below the threshold
    worst.add(batch("a"), [make_result(found, [(0, 0, 10), (1, 50, 60)], [(78, 100)])], pixels_of)
    (picture,) = worst.pictures("test", "").pictures
    truth, detections = picture.panels["truth"], picture.panels["found"]
    assert [(box.caption, box.kind) for box in truth] == [("cat", "right"), ("dog", "missed"), ("", "ignored")]
    assert sorted((box.caption, box.kind) for box in detections) == [
        ("cat 0.70", "ignored"),
        ("cat 0.80", "double"),
        ("cat 0.90", "right"),
    ]
    assert picture.caption == "1 of 2 objects found; 1 double, 1 missed"
    assert {box.kind for box in truth + detections} <= KINDS.keys()


def test_an_object_is_marked_as_the_detection_that_would_have_found_it(worst, make_result):
    found = [(0.9, 1, 0, 10), (0.8, 0, 26, 36)]
    truth = [(0, 0, 10), (0, 20, 30), (0, 60, 70), (1, 20, 30)]
    worst.add(batch("a"), [make_result(found, truth)], pixels_of)
    (picture,) = worst.pictures("test", "").pictures
    kinds = [box.kind for box in picture.panels["truth"]]
    assert kinds == ["wrong class", "wrong place", "missed", "missed"]
    assert picture.caption == "0 of 4 objects found; 2 missed, 1 wrong class, 1 wrong place"


def test_boxes_follow_their_picture(worst, make_result):
    result = make_result([(0.9, 0, 0, 10)], [(0, 500, 1000)])
    worst.add(batch("a", scale=2.0), [result], lambda place: pixels_of(place, 20, 4 * LONGEST_SIDE))
    (picture,) = worst.pictures("test", "").pictures
    assert picture.pixels.shape == (5, LONGEST_SIDE, 3)
    # Twice as large in the network, a quarter of that here.
    assert picture.panels["truth"][0].corners == (250.0, 0.0, 500.0, 5.0)


def test_memory_does_not_grow_with_the_split(worst, make_result):
    read = []

    def counted(place: int) -> np.ndarray:
        read.append(place)
        return pixels_of(place)

    for number in range(40):
        worst.add(batch(f"{number:02d}"), [make_result(WRONG, [(0, 0, 10)])], counted)
    assert len(worst.pictures("test", "").pictures) == KEPT
    assert len(read) == KEPT  # of equal ones the first stay


def test_nothing_to_show(worst, make_result):
    worst.add(batch("a"), [make_result([(0.9, 0, 0, 10)], [(0, 0, 10)])], pixels_of)
    assert worst.pictures("test", "").pictures == []
