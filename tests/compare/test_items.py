"""The metrics of single items, from the task that measures them to the study that resamples them."""

import numpy as np
import pytest
import torch

from vision_train.artefacts import Items, read_artefact, write_artefact
from vision_train.compare.statistics import Pair, compare_pair
from vision_train.tasks.bags import scores as bag_scores
from vision_train.tasks.bags.exhibits import result_artefacts
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


@pytest.mark.parametrize(("classes", "measured"), [(3, {"accuracy", "auroc", "loss"}), (1, {"accuracy", "loss"})])
def test_so_it_is_of_bags_where_it_is_known(tmp_path, classes, measured):
    generator = torch.Generator().manual_seed(0)
    fields = torch.full((40, len(bag_scores.FIELDS)), torch.nan, dtype=torch.float64)
    fields[:, 0] = torch.randint(0, classes, (40,), generator=generator)
    fields[:, 1] = torch.rand(40, generator=generator)
    probabilities = torch.randn(40, 3, generator=generator).double().softmax(dim=1)
    scores = bag_scores.Scores([f"bag {index}" for index in range(40)], fields, probabilities)
    for artefact in result_artefacts(scores, ["a", "b", "c"], "test", []):
        write_artefact(tmp_path, artefact)
    items = read_artefact(tmp_path / "test_items.json")
    assert isinstance(items, Items)
    assert items.values.keys() == measured
    whole = bag_scores.metrics(scores)
    for name, values in items.values.items():
        assert sum(values) / len(values) == pytest.approx(whole[name], abs=1e-12)


@pytest.mark.slow
def test_aurocs_that_test_bags_alone_set_apart_raise_a_false_alarm_in_at_most_5_of_100_studies():
    """An arm moves the score of each bag, and the bags may favour one that is not better."""
    bags, seeds, generator = 100, 5, np.random.default_rng(0)
    labels = torch.arange(bags) % 2
    verdicts = []
    for _ in range(200):
        ease = labels.numpy() + generator.normal(0, 1, bags)
        items = []
        for _ in range(2):
            scores = ease + generator.normal(0, 0.7, bags) + generator.normal(0, 0.5, (seeds, bags))
            positive = torch.from_numpy(scores).sigmoid()
            of_arm = [bag_scores.auroc_items(each, labels) for each in torch.stack([1 - positive, positive], dim=-1)]
            items.append(torch.stack(of_arm).numpy())
        first, second = (dict(enumerate(of_arm.mean(axis=1).tolist())) for of_arm in items)
        pair = Pair("second", "first", second, first, bags, (items[1] - items[0]).mean(axis=0))
        verdicts.append(compare_pair(pair, "max").verdict)
    alarms = sum(verdict in ("better", "worse") for verdict in verdicts)
    assert alarms < 21  # of 200 studies at 5 %, 999 times in 1,000
    assert sum(verdict in ("ahead", "behind") for verdict in verdicts) > alarms
