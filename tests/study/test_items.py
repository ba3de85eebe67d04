"""Results of single test samples, from the task that measures them to the study that resamples them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vision_train.artefacts import Items, Recomputed, read_artefact, write_artefact
from vision_train.errors import UserError
from vision_train.report import measured_samples as samples
from vision_train.statistics import Resampled, registered_statistic, resample_statistic, statistic
from vision_train.study.judgement import Pair, compare_pair
from vision_train.study.plan import Draw
from vision_train.study.runs import Run
from vision_train.tasks.bags import scores as bag_scores
from vision_train.tasks.bags.results import result_artefacts
from vision_train.tasks.classification.scores import FIELDS, artefacts, metrics, score_batch
from vision_train.tasks.scores import Scores


def written(folder: Path, found: list) -> Items:
    """The items among artefacts, written and read again."""
    for artefact in found:
        write_artefact(folder, artefact)
    items = read_artefact(folder / "test_items.json")
    assert isinstance(items, Items)
    return items


def computed(items: Items) -> dict[str, float]:
    """Every metric of all items."""
    found = {name: sum(values) / len(values) for name, values in items.values.items()}
    for name, how in items.recomputed.items():
        ones = np.ones((1, len(items.ids)))
        found[name] = registered_statistic(how.statistic)(items.columns_of(name), ones).item()
    return found


def test_every_metric_of_images_follows_from_their_items(tmp_path):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (40,), generator=generator)
    ids = [f"image {index}" for index in range(40)]
    scores = Scores(ids, FIELDS, score_batch(torch.randn(40, 7, generator=generator), labels), {})
    items = written(tmp_path, artefacts(scores, [f"class {index}" for index in range(7)], "test", metrics(scores)))
    assert items.ids == ids
    assert computed(items) == pytest.approx(metrics(scores), abs=1e-6)
    assert items.groups is None


def test_images_of_a_network_that_diverged_have_no_calibration(tmp_path):
    numbers = score_batch(torch.tensor([[torch.nan] * 7, [1.0] + [0.0] * 6]), torch.arange(2))
    items = written(tmp_path, artefacts(Scores(["a", "b"], FIELDS, numbers, {}), list("abcdefg"), "test", {}))
    assert computed(items).keys() == {"accuracy", "accuracy_top5", "balanced_accuracy", "f1"}


@pytest.mark.parametrize("classes", [3, 1])
def test_every_metric_of_bags_follows_from_their_items_where_it_is_known(tmp_path, classes):
    generator = torch.Generator().manual_seed(0)
    fields = bag_scores.fields(3)
    rows = torch.full((40, len(fields)), torch.nan, dtype=torch.float64)
    rows[:, 0] = torch.randint(0, classes, (40,), generator=generator)
    rows[:, 1] = torch.rand(40, generator=generator)
    rows[:, -3:] = torch.randn(40, 3, generator=generator).double().softmax(dim=1)
    groups = {f"bag {index}": f"patient {index // 2}" for index in range(30)}
    scores = Scores([f"bag {index}" for index in range(40)], fields, rows, groups)
    measured = bag_scores.metrics(scores)
    items = written(tmp_path, result_artefacts(scores, ["a", "b", "c"], "test", measured, [], {}))
    known = {name: value for name, value in measured.items() if np.isfinite(value)}
    assert computed(items) == pytest.approx(known, abs=1e-6)
    assert ("auroc" in known) == (classes > 1)
    assert items.groups[28:32] == ["patient 14", "patient 14", "bag 30", "bag 31"]


def test_items_of_an_earlier_version_are_read(tmp_path):
    old = {"kind": "Items", "name": "test_items", "ids": ["a", "b"], "values": {"auroc": [0.5, 1.0]}}
    (tmp_path / "test_items.json").write_text(json.dumps(old))
    items = read_artefact(tmp_path / "test_items.json")
    assert items == Items("test_items", ["a", "b"], {"auroc": [0.5, 1.0]})


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"values": {"loss": [1.0]}}, "loss"),
        ({"groups": ["a"]}, "groups"),
        ({"columns": {"score": [[1.0]]}}, "score"),
        ({"values": {"f1": [1.0, 0.0]}, "recomputed": {"f1": Recomputed("macro_f1")}}, "f1"),
    ],
)
def test_items_that_do_not_fit_together_are_refused(parts, says):
    with pytest.raises(ValueError, match=says):
        Items("test_items", ["a", "b"], **parts)


def run(folder: Path, items: Items, seed: int = 0) -> Run:
    write_artefact(folder / "artefacts", items)
    return Run(folder.name, folder / "fit.yaml", Draw(seed), folder, folder / "log.txt", "test/auroc")


def scored(generator: np.random.Generator, bags: int, **more) -> Items:
    labels = np.arange(bags) % 2
    positive = 1 / (1 + np.exp(-generator.normal(size=bags) - labels))
    columns = {"label": labels.tolist(), "probabilities": np.stack([1 - positive, positive], axis=1).tolist()}
    ids = [f"bag {index}" for index in range(bags)]
    return Items("test_items", ids, columns=columns, recomputed={"auroc": Recomputed("macro_auroc")}, **more)


def test_a_recomputed_difference_is_paired_over_seeds_and_samples(tmp_path):
    generator = np.random.default_rng(0)
    groups = [f"patient {index // 3}" for index in range(60)]
    first, second = (
        {seed: run(tmp_path / f"{arm} {seed}", scored(generator, 60, groups=groups), seed) for seed in range(2)}
        for arm in "ab"
    )
    common = samples.common_samples([*first.values(), *second.values()], "test/auroc")
    same = common.difference(first, first, [0, 1])
    assert (same.observed, same.values.std(), same.groups) == (0, 0, 20)
    found = common.difference(second, first, [0, 1])
    aurocs = [
        computed(samples.read_items(of.folder, "test"))["auroc"] for arm in (second, first) for of in arm.values()
    ]
    assert found.observed == pytest.approx((aurocs[0] + aurocs[1] - aurocs[2] - aurocs[3]) / 2)
    assert np.mean(found.values) == pytest.approx(found.observed, abs=0.02)


def test_runs_of_an_earlier_version_are_resampled_with_the_others(tmp_path):
    """They hold values whose mean is the metric, and no groups."""
    new = scored(np.random.default_rng(0), 20, groups=[f"patient {index // 2}" for index in range(20)])
    old = Items("test_items", new.ids, {"auroc": [0.25, 0.75] * 10})
    runs = [run(tmp_path / "new", new), run(tmp_path / "old", old)]
    common = samples.common_samples(runs, "test/auroc")
    found = common.difference({0: runs[0]}, {0: runs[1]}, [0])
    assert found.observed == pytest.approx(computed(new)["auroc"] - 0.5)
    assert found.groups == 10


def test_seeds_whose_samples_belong_to_one_patient_are_not_apart(tmp_path):
    def runs(name: str, patients: list[str]) -> list[Run]:
        items = [Items("test_items", [f"{seed}"], {"auroc": [1.0]}, [patients[seed]]) for seed in range(2)]
        return [run(tmp_path / f"{name} {seed}", each, seed) for seed, each in enumerate(items)]

    assert samples.have_own_samples(runs("apart", ["p", "q"]), "test/auroc")
    assert not samples.have_own_samples(runs("together", ["p", "p"]), "test/auroc")


def test_a_statistic_of_a_task_is_found_by_its_name_alone(tmp_path):
    @statistic("tests/share_of_twos")
    def share_of_twos(columns, counts):
        return counts @ (np.array(columns["x"]) == 2) / counts.sum(axis=1)

    def items(name: str) -> Items:
        how = {"twos": Recomputed(name, {"x": "score"})}
        return Items("test_items", ["a", "b", "c"], columns={"score": [2, 1, 2]}, recomputed=how)

    known, unknown = run(tmp_path / "known", items("tests/share_of_twos")), run(tmp_path / "odd", items("os.system"))
    common = samples.common_samples([known], "test/twos")
    assert common.difference({0: known}, {0: known}, [0]).observed == 0
    with pytest.raises(UserError, match=r"odd/artefacts/test_items\.json.*test/twos.*os\.system.*install") as error:
        samples.common_samples([unknown], "test/twos").difference({0: unknown}, {0: unknown}, [0])
    assert "tests/share_of_twos" in str(error.value)


@pytest.mark.slow
def test_aurocs_that_test_bags_alone_set_apart_raise_a_false_alarm_in_at_most_5_of_100_studies():
    """An arm moves the score of each bag, and the bags may favour one that is not better."""
    bags, seeds, generator = 100, 5, np.random.default_rng(0)
    labels, auroc = np.arange(bags) % 2, registered_statistic("macro_auroc")
    verdicts = []
    for _ in range(200):
        ease = labels + generator.normal(0, 1, bags)
        arms: list[list[Resampled]] = []
        for _ in range(2):
            scores = ease + generator.normal(0, 0.7, bags) + generator.normal(0, 0.5, (seeds, bags))
            positive = 1 / (1 + np.exp(-scores))
            columns = [{"label": labels, "probabilities": np.stack([1 - each, each], axis=1)} for each in positive]
            arms.append([resample_statistic(auroc, each, np.arange(bags), resamples=400) for each in columns])
        first, second = ({seed: each.observed for seed, each in enumerate(arm)} for arm in arms)
        values = np.mean([theirs.values - ours.values for ours, theirs in zip(*arms, strict=True)], axis=0)
        observed = float(np.mean([second[seed] - first[seed] for seed in range(seeds)]))
        pair = Pair("second", "first", second, first, bags, Resampled(observed, values, bags))
        verdicts.append(compare_pair(pair, "max").verdict)
    alarms = sum(verdict in ("better", "worse") for verdict in verdicts)
    assert alarms < 21  # of 200 studies at 5 %, 999 times in 1,000
    assert sum(verdict in ("ahead", "behind") for verdict in verdicts) > alarms
