"""The calibration study: heads side by side do not meet, pools of no use have no class, counts claim what they may."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vision_train.semi.verdict import PoolVerdict

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(FOLDER))  # as where the script is run
calibration_images = importlib.import_module("calibration_images")
calibration_training = importlib.import_module("calibration_training")
calibration_studies = importlib.import_module("calibration_studies")
calibration_counts = importlib.import_module("calibration_counts")
verdict_calibration = importlib.import_module("verdict_calibration")

PLAN = {
    "seed": 7,
    "draws": 3,
    "seeds": 3,
    "fresh_draws": 2,
    "sets": {"digits": {"test": 200, "val": 100}},
    "features": {"encoder_steps": 2, "components": 8, "weak_views": 2, "strong_views": 3},
    "training": {
        "steps": 12,
        "batch": 8,
        "hidden": 8,
        "rate": 0.01,
        "grid": [0.5, 1.0],
        "threshold": 0.5,
        "weights": {"mean_teacher": 10.0},
    },
    "tasks": [
        {"name": "first", "images": "digits", "classes": [0, 3, 8], "labels_per_class": 2, "method": "freematch"},
        {"name": "second", "images": "digits", "classes": [1, 7], "labels_per_class": 2, "method": "mean_teacher"},
    ],
}
METHODS = ("freematch", "fixmatch", "mean_teacher")


@pytest.fixture(scope="module")
def images():
    return calibration_images.load_images("digits", PLAN["seed"])


@pytest.fixture(scope="module")
def features(images):
    return calibration_images.features_of(images, PLAN["features"], PLAN["seed"])


@pytest.fixture(scope="module")
def of_task(features):
    return calibration_studies.TaskStudies(calibration_studies.tasks_of(PLAN)[0], PLAN, features)


def trained(of_task, features, targets, heads, method):
    network = calibration_training.train_together(features, targets, heads, of_task.arm(method), 8)
    return [value.detach().clone() for value in network.parameters()]


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_a_head_learns_the_same_alone_as_beside_others(of_task, features, method):
    kind = "none" if method == "none" else "real"
    heads = [of_task.head(kind, draw, seed) for draw in range(2) for seed in range(2)]
    together = trained(of_task, features, of_task.targets, heads, method)
    for index, head in enumerate(heads):
        alone = trained(of_task, features, of_task.targets, [head], method)
        for side_by_side, own in zip(together, alone, strict=True):
            torch.testing.assert_close(side_by_side[index], own[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_labels_of_the_pool_and_of_test_images_change_no_bit(of_task, features, method):
    head = of_task.head("real", 0, 0)
    hidden = of_task.targets.clone()
    hidden[torch.from_numpy(np.setdiff1d(np.arange(len(hidden)), head.labelled))] = 0
    before, after = (trained(of_task, features, targets, [head], method) for targets in (of_task.targets, hidden))
    assert all(torch.equal(first, second) for first, second in zip(before, after, strict=True))


def test_arms_of_a_seed_share_start_labels_and_images_but_not_the_order_of_the_pool(of_task):
    own, copies, real = (of_task.head(kind, 1, 2) for kind in ("self-pool", "copies", "real"))
    assert own.seed == copies.seed == real.seed
    assert np.array_equal(own.labelled, real.labelled)
    assert np.array_equal(own.pool, copies.pool)
    assert np.array_equal(own.pool, own.labelled)
    assert len({own.pool_seed, copies.pool_seed, real.pool_seed}) == 3


def test_no_image_is_both_learned_from_and_tested_on(of_task):
    cut = of_task.cut(0)
    for kind in ("self-pool", "real"):
        head = of_task.head(kind, 0, 1)
        learned = np.union1d(head.labelled, head.pool)
        assert not np.intersect1d(learned, np.concatenate([cut.test, cut.val])).size
    assert not np.intersect1d(cut.test, cut.val).size
    assert np.bincount(of_task.targets[of_task.labelled(0, 1)]).tolist() == [2, 2, 2]


def test_pools_of_no_use_are_shuffled_scans_and_letters(of_task, features, images):
    scans, real = len(images.real), of_task.pool("real", 0, 0)
    assert np.array_equal(of_task.pool("shuffled", 0, 0), scans + real)
    foreign = of_task.pool("foreign", 0, 0)
    assert len(foreign) == len(real)
    assert foreign.min() >= 2 * scans
    assert foreign.max() < len(features.clean)
    before, after = images.real.flatten(1).sort(dim=1).values, images.shuffled.flatten(1).sort(dim=1).values
    assert torch.equal(before, after)
    assert not torch.equal(images.real, images.shuffled)
    assert images.foreign.mean() > 0.05


def test_pools_of_no_use_take_turns(of_task):
    assert {of_task.task.null(draw) for draw in range(3)} == set(calibration_studies.NULLS)


def test_a_study_is_judged_as_runs_are(of_task):
    of_task.train_all()
    verdict = of_task.verdict("real", 0)
    assert isinstance(verdict, PoolVerdict)
    assert (verdict.pool.other, verdict.pool.seeds) == ("self-pool", 3)
    assert verdict.method.other in calibration_studies.CONTROLS
    assert verdict.method.item_interval is not None
    rows = list(of_task.study_rows())
    assert [row["pool"] == "real" for row in rows] == [False, True] * 3
    values = [[float(value) for value in rows[1][key].split()] for key in ("method", "self_pool")]
    assert float(rows[1]["pool_difference"]) == pytest.approx(np.mean(values[0]) - np.mean(values[1]), abs=1e-5)
    assert [row["draw"] for row in of_task.fresh_rows()] == [3, 4]


def test_a_study_cut_short_goes_on_with_its_next_task(tmp_path, monkeypatch, features):
    monkeypatch.setattr(calibration_images, "features_of", lambda *_: features)
    verdict_calibration.run(tmp_path / "whole", PLAN)
    verdict_calibration.run(tmp_path / "cut", {**PLAN, "tasks": PLAN["tasks"][:1]})
    rows = verdict_calibration.read(tmp_path / "cut" / "studies.csv")
    verdict_calibration.append(tmp_path / "cut" / "studies.csv", [{**rows[0], "task": "second"}])  # stopped here
    verdict_calibration.run(tmp_path / "cut", PLAN)
    for table in ("studies.csv", "fresh.csv"):
        assert (tmp_path / "cut" / table).read_text() == (tmp_path / "whole" / table).read_text()
    tables = [verdict_calibration.read(tmp_path / "cut" / f"{table}.csv") for table in ("studies", "fresh")]
    assert "of 6" in calibration_counts.summary(*tables)


@pytest.mark.parametrize(("most", "total"), [(12, 400), (8, 300), (20, 600)])
def test_five_per_cent_are_claimed_up_to_the_counts_of_the_specification(most, total):
    found = calibration_counts.Count(87, 100)
    assert "is not shown" not in calibration_counts.sentence(calibration_counts.Count(most, total), found)
    assert "is not shown" in calibration_counts.sentence(calibration_counts.Count(most + 1, total), found)


@pytest.mark.parametrize(("least", "total"), [(334, 400), (87, 100)])
def test_eighty_per_cent_are_claimed_from_the_counts_of_the_specification(least, total):
    false = calibration_counts.Count(0, 400)
    assert "is not shown" not in calibration_counts.sentence(false, calibration_counts.Count(least, total))
    assert "is not shown" in calibration_counts.sentence(false, calibration_counts.Count(least - 1, total))
    assert "is not shown" in calibration_counts.sentence(false, calibration_counts.Count(0, 0))


def test_a_plan_that_was_changed_is_refused(tmp_path, monkeypatch):
    assert len(verdict_calibration.read_plan()["tasks"]) == 20
    changed = tmp_path / "plan.yaml"
    changed.write_bytes(verdict_calibration.PLAN.read_bytes() + b"\n")
    monkeypatch.setattr(verdict_calibration, "PLAN", changed)
    with pytest.raises(SystemExit, match=r"plan\.yaml: is not the plan that was committed"):
        verdict_calibration.read_plan()


@pytest.mark.slow
def test_the_published_tables_say_what_the_page_says():
    tables = [
        verdict_calibration.read(verdict_calibration.PUBLISHED / f"{table}.csv") for table in ("studies", "fresh")
    ]
    page = verdict_calibration.PUBLISHED.with_suffix(".md").read_text("utf-8")
    told = calibration_counts.summary(*tables).splitlines()
    (sentence,) = [line for line in told if line.startswith('"helped" is said falsely')]
    assert f"> {sentence}\n" in page
    plan = verdict_calibration.read_plan()
    assert len(tables[0]) == 2 * len(plan["tasks"]) * plan["draws"]
    assert len(tables[1]) == len(plan["tasks"]) * plan["fresh_draws"]
    found = ("verdict", "pool_verdict", "helped")
    again = verdict_calibration.judged_again(tables[0], plan, comparisons=1)
    assert [[row[key] for key in found] for row in again] == [[row[key] for key in found] for row in tables[0]]
    stricter = verdict_calibration.judged_again(tables[0], plan, comparisons=2)
    assert "91 of 123" in calibration_counts.summary(stricter, tables[1])


def test_item_17_foreign_pools_cost_accuracy_as_the_card_tells_of_the_published_table():
    rows = verdict_calibration.read(verdict_calibration.PUBLISHED / "studies.csv")
    told = (verdict_calibration.PUBLISHED.parents[1] / "methods" / "semi.md").read_text("utf-8")
    pools = {"more scans of the classes": "real", "copies of the labelled scans": "copies"}
    pools |= {"letters": "foreign", "scans with shuffled pixels": "shuffled"}
    for words, pool in pools.items():
        cells = []
        for method in ("freematch", "fixmatch", "mean_teacher"):
            found = [float(row["difference"]) for row in rows if row["pool"] == pool and row["task"].endswith(method)]
            cells.append(f"{100 * np.mean(found):+.1f} ({len(found)})")
        assert f"| {words} | {' | '.join(cells)} |" in told
