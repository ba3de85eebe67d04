"""The metrics of single items, from the task that measures them to the study that resamples them."""

import pytest
import torch

from vision_train.artefacts import Items, read_artefact, write_artefact
from vision_train.tasks.classification.scores import artefacts, gather, metrics, score_batch


def test_a_metric_is_the_mean_of_its_items(tmp_path):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (40,), generator=generator)
    ids = [f"image {index}" for index in range(40)]
    scores = gather([score_batch(ids, torch.randn(40, 7, generator=generator), labels)])
    for artefact in artefacts(scores, [f"class {index}" for index in range(7)], "test"):
        write_artefact(tmp_path, artefact)
    items = read_artefact(tmp_path / "test_items.json")
    assert isinstance(items, Items)
    assert items.ids == sorted(ids)
    whole = metrics(scores)
    for name, values in items.values.items():
        assert sum(values) / len(values) == pytest.approx(whole[name])
    assert items.values.keys() == {"accuracy", "accuracy_top5", "loss"}
