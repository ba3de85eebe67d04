"""What a report and a study show of a pass of detection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.detr.relation import PositionRelation
from models.detr.relation_bias import SIZE_RATIOS, RelationBias, mean_bias
from vision_train.artefacts import Artefact, Items, Recomputed
from vision_train.tasks.detection.curves import precision_curves, score_curve, size_curve
from vision_train.tasks.detection.errors import judge
from vision_train.tasks.detection.hits import count_hits
from vision_train.tasks.detection.precision import AP, AP50, precisions
from vision_train.tasks.detection.results import Numbers, Results
from vision_train.tasks.detection.tables import Shown, class_tables, error_table, size_table, summary_table


def artefacts(
    results: Results, classes: Sequence[str], split: str, thresholds: Numbers, chosen: str, warnings: Sequence[str]
) -> list[Artefact]:
    """Errors, precision of each class, sizes, and the hits of each image.

    Args:
        results: Detections and truth of each image.
        classes: K class names.
        split: What was tested.
        thresholds: Score of each class from which on its detections count, K.
        chosen: How the thresholds were chosen, a sentence.
        warnings: What is wrong with the result, in sentences without a full stop.
    """
    precision = precisions(results, classes)  # 10 101 K 4
    judged = [judge(result) for result in results.values()]
    shown = [Shown(result, judge(result, thresholds)) for result in results.values()]
    return [
        summary_table(shown, classes, split, chosen, warnings),
        error_table(results, judged, shown, classes, split),
        *class_tables(shown, classes, precision[..., 0], thresholds, split),
        size_table(shown, precision, split),
        *precision_curves(precision[..., 0], classes, split),
        *score_curve(results, judged, split),
        *size_curve(shown, split),
        items(results, classes, split),
    ]


def items(results: Results, classes: Sequence[str], split: str) -> Items:
    """What each image adds to average precision, so that studies can resample images."""
    counted = [count_hits(result) for result in results.values()]
    columns: dict[str, list[object]] = {
        "score": [each.scores.tolist() for each in counted],
        "class_id": [each.labels.tolist() for each in counted],
        "hit": [each.hit.astype(int).tolist() for each in counted],
        "hit50": [each.hit[:, 0].astype(int).tolist() for each in counted],
        "truths": [np.bincount(result.true_labels, minlength=len(classes)).tolist() for result in results.values()],
    }
    at_50 = {"hit": "hit50"}
    if any(len(result.ignored) for result in results.values()):
        columns["counted"] = [each.counted.astype(int).tolist() for each in counted]
        columns["counted50"] = [each.counted[:, 0].astype(int).tolist() for each in counted]
        at_50["counted"] = "counted50"
    recomputed = {
        AP.name: Recomputed("average_precision"),
        AP50.name: Recomputed("average_precision", at_50),
    }
    return Items(f"{split}_items", list(results), columns=columns, recomputed=recomputed)


def relation_bias(relation: PositionRelation, split: str) -> RelationBias:
    """What each head has learned of where boxes lie to each other."""
    distances, heads = mean_bias(relation)
    note = (
        "What is added to the attention that the query of one box pays to that of another, averaged over directions. "
        "1 multiplies the attention by 2.7 before it is normalised."
    )
    title = "What the relation of boxes adds to attention"
    return RelationBias(f"{split}_relation", title, distances, [*SIZE_RATIOS], heads.tolist(), note)
