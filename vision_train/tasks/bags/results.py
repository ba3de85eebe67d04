"""Tables of a test pass over bags, and every bag's own numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vision_train.artefacts import Artefact, Items
from vision_train.tasks.bags.scores import ATTENTION_METRICS, auroc_items, predicted, probabilities
from vision_train.tasks.class_results import confusion_counts, confusion_matrix, per_class_table, summary_table
from vision_train.tasks.scores import Scores


def result_artefacts(
    scores: Scores, classes: Sequence[str], split: str, measured: Mapping[str, float], warnings: Sequence[str]
) -> list[Artefact]:
    """Size and metrics, per-class table, confusion matrix, and every bag."""
    labels, likely, names = scores.column("label").long(), predicted(scores), list(classes)
    confusion = confusion_counts(likely, labels, len(names))
    items = {
        "accuracy": (likely == labels).double(),
        "auroc": auroc_items(probabilities(scores), labels),
        "loss": scores.column("loss"),
        **{metric.name: scores.column(metric.name) for metric in ATTENTION_METRICS},
    }
    said = " ".join(f"Warning: {text}." for text in warnings)
    return [
        summary_table(split, "bags", len(scores.ids), dict(measured), said),
        per_class_table(confusion, names, split, "bags"),
        confusion_matrix(confusion, names, split),
        Items(
            f"{split}_items",
            scores.ids,
            {name: values.tolist() for name, values in items.items() if not values.isnan().any()},
        ),
    ]
