"""Average precision of detections: equal to pycocotools, and to what studies recompute from single images."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest

from vision_train.statistics.metrics import registered_statistic
from vision_train.tasks.detection.errors import Verdict, judge
from vision_train.tasks.detection.exhibits import artefacts, items
from vision_train.tasks.detection.hits import count_hits
from vision_train.tasks.detection.precision import measure, precisions, without_doubles
from vision_train.tasks.detection.results import ImageResult, ResultTable, areas

CLASSES = ["a", "b", "c"]


def random_result(seed: int, objects: int = 6, ignored: int = 0) -> ImageResult:
    """Objects, most of them found a little off, some twice, and some boxes where nothing is."""
    random = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner, sides = random.uniform(0, 300, (count, 2)), random.uniform(5, 150, (count, 2))
        return np.concatenate((corner, corner + sides), axis=1)

    truth, labels = boxes(objects), random.integers(0, 3, objects)
    found = np.concatenate(
        (truth + random.normal(0, 4, truth.shape), truth + random.normal(0, 9, truth.shape), boxes(4))
    )
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)  # networks find no box of negative size
    found_labels = np.concatenate((labels, labels, random.integers(0, 3, 4)))
    scores = random.uniform(0, 1, len(found))
    order = np.argsort(-scores)
    return ImageResult(scores[order], found_labels[order], found[order], labels, truth, boxes(ignored))


@pytest.fixture
def results():
    return {f"image-{seed:02d}": random_result(seed, objects=seed % 7) for seed in range(20)}


@pytest.fixture
def crowded():
    return {f"image-{seed:02d}": random_result(seed, ignored=2) for seed in range(20)}


@pytest.fixture
def as_in_coco(crowded):
    """Crowds of single classes, and objects of other areas than their boxes."""
    random = np.random.default_rng(0)
    return {
        name: replace(
            result,
            true_areas=random.uniform(0.3, 1.0, 6) * areas(result.true_boxes),
            crowds=random.integers(-1, 3, 2),
        )
        for name, result in crowded.items()
    }


def by_pycocotools(results) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = COCO(), []
    truth.dataset = {
        "images": [{"id": number} for number in range(len(results))],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
        "annotations": [],
    }
    for number, result in enumerate(results.values()):
        truths = zip(result.true_labels, result.true_boxes, result.object_areas, strict=True)
        rows = [(label, box, area, 0) for label, box, area in truths]
        crowds = [*zip(result.ignored_classes, result.ignored, strict=True)]
        rows += [(label, box, 1.0, 1) for label in range(3) for own, box in crowds if own in (-1, label)]
        for label, box, area, crowd in rows:
            sides = [*box[:2], *(box[2:] - box[:2])]
            annotation = {"image_id": number, "category_id": int(label), "bbox": sides, "iscrowd": crowd}
            annotation |= {"id": len(truth.dataset["annotations"]) + 1, "area": area}
            truth.dataset["annotations"].append(annotation)
        found += [
            [number, *box[:2], *(box[2:] - box[:2]), score, label]
            for label, box, score in zip(result.labels, result.boxes, result.scores, strict=True)
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(np.array(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., -1]


@pytest.mark.parametrize("made", ["results", "crowded", "as_in_coco"])
def test_precision_is_that_of_pycocotools(made, request):
    results = request.getfixturevalue(made)
    np.testing.assert_allclose(precisions(results, CLASSES), by_pycocotools(results), atol=1e-9)


@pytest.mark.parametrize("made", ["results", "crowded", "as_in_coco"])
def test_what_studies_recompute_is_the_metric(made, request):
    results = request.getfixturevalue(made)
    measured, found = measure(results, CLASSES), items(results, CLASSES, "test")
    for name in ("ap", "ap50"):
        statistic = registered_statistic(found.recomputed[name].statistic)
        recomputed = statistic(found.columns_of(name), np.ones((1, len(results))))
        assert recomputed[0] == pytest.approx(measured[name], abs=1e-9)


def test_a_box_in_an_ignored_region_neither_counts_nor_punishes():
    clean = random_result(0)
    region = np.array([[500.0, 500.0, 700.0, 700.0]])
    stray = np.array([[520.0, 520.0, 600.0, 600.0]])
    spoilt = replace(
        clean,
        scores=np.concatenate(([2.0], clean.scores)),
        labels=np.concatenate((clean.labels[:1], clean.labels)),
        boxes=np.concatenate((stray, clean.boxes)),
    )
    excused = replace(spoilt, ignored=region)
    before, punished, after = (measure({"image": each}, CLASSES)["ap"] for each in (clean, spoilt, excused))
    assert punished < before
    assert after == pytest.approx(before)
    (scores, *_) = items({"image": excused}, CLASSES, "test").columns["score"]
    assert 2.0 not in scores


def test_a_crowd_excuses_its_class_alone():
    one = random_result(0)
    stray = replace(one, scores=one.scores[:1], labels=np.array([1]), boxes=np.array([[520.0, 520.0, 600.0, 600.0]]))
    region = {"ignored": np.array([[500.0, 500.0, 700.0, 700.0]])}
    for crowds, counted in ((np.array([1]), 0), (np.array([-1]), 0), (None, 0), (np.array([0]), 1)):
        found = replace(stray, **region, crowds=crowds)
        assert len(count_hits(found).scores) == counted
        assert judge(found).count(Verdict.BACKGROUND) == counted


def test_sizes_are_those_of_objects_and_not_of_their_boxes():
    one = random_result(3)
    small = replace(one, true_areas=np.full(6, 100.0))
    assert set(measure({"image": small}, CLASSES)) - {"ap", "ap50", "ap75", "ap50_lost_to_doubles"} == {"ap_small"}
    table = next(
        each
        for each in artefacts({"image": small}, CLASSES, "test", np.full(3, 2.0), "", [])
        if each.name == "test_sizes"
    )
    assert [row[1] for row in table.rows] == [6, 0, 0]


def test_doubles_are_what_suppression_removes():
    single = random_result(3)
    single = replace(single, scores=np.ones(6), labels=single.true_labels, boxes=single.true_boxes)
    twice = replace(
        single, scores=np.repeat([1.0, 0.9], 6), labels=np.tile(single.labels, 2), boxes=np.tile(single.boxes, (2, 1))
    )
    assert len(without_doubles(twice).scores) == 6
    assert measure({"image": single}, CLASSES)["ap50_lost_to_doubles"] == pytest.approx(0)


def test_nothing_found_and_nothing_there():
    nothing = ImageResult(*(np.zeros(shape) for shape in (0, 0, (0, 4), 0, (0, 4), (0, 4))))
    nothing = replace(nothing, labels=np.zeros(0, dtype=np.int64), true_labels=np.zeros(0, dtype=np.int64))
    there = replace(random_result(0), scores=nothing.scores, labels=nothing.labels, boxes=nothing.boxes)
    assert measure({"image": there}, CLASSES)["ap"] == 0
    assert np.isnan(measure({"image": nothing}, CLASSES)["ap"])
    assert artefacts({"image": nothing}, CLASSES, "test", np.full(3, 0.5), "", [])


def test_results_come_in_the_order_of_their_ids():
    table = ResultTable()
    table.add(["b", "a"], [random_result(0), random_result(1)])
    assert list(table.gather()) == ["a", "b"]
