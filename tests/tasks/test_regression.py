"""Regression: metrics against libraries, in resamples too; standardised targets, predictions in units, refusals."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from vision_train.artefacts import Curve, Items, Table
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.statistics import registered_statistic
from vision_train.tasks.regression import scores as sheet
from vision_train.tasks.regression.task import DEVIATION, MEAN, RegressionTask, build
from vision_train.tasks.scores import Scores, ScoreTable

NAMES = ["height", "weight"]
COUNT = 50
REFERENCES = {
    "rmse": root_mean_squared_error,
    "r2": r2_score,
    "pearson": lambda true, guess: pearsonr(true, guess).statistic,
    "spearman": lambda true, guess: spearmanr(true, guess).statistic,
}


def numbers(noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Measured and predicted numbers of two kinds; some measured ones are equal."""
    generator = np.random.default_rng(0)
    true = generator.integers(0, 30, (COUNT, 2)) * [1.0, 10.0]
    return true, true + noise * generator.normal(size=true.shape) * [6.0, 60.0]


def gathered(true: np.ndarray, guess: np.ndarray) -> Scores:
    table = ScoreTable(sheet.fields(true.shape[1]))
    rows = np.concatenate([((true - guess) ** 2).mean(axis=1, keepdims=True), true, guess], axis=1)
    table.add([f"{number:03d}" for number in range(len(true))], torch.from_numpy(rows))
    return table.gather()


def over_both(reference, true: np.ndarray, guess: np.ndarray) -> float:
    return float(np.mean([reference(true[:, d], guess[:, d]) for d in range(2)]))


def test_metrics_are_those_of_scipy_and_sklearn():
    true, guess = numbers()
    measured = sheet.metrics(gathered(true, guess))
    assert measured["mae"] == pytest.approx(mean_absolute_error(true, guess))
    for name, reference in REFERENCES.items():
        assert measured[name] == pytest.approx(over_both(reference, true, guess), abs=1e-5), name


def test_every_metric_is_recomputed_in_resamples():
    true, guess = numbers()
    items = sheet.items(gathered(true, guess), "test")
    generator = np.random.default_rng(1)
    counts = np.array([np.ones(COUNT), *(generator.multinomial(COUNT, [1 / COUNT] * COUNT) for _ in range(8))])
    for name, reference in REFERENCES.items():
        found = registered_statistic(items.recomputed[name].statistic)(items.columns_of(name), counts)
        drawn = [np.repeat(np.arange(COUNT), row.astype(int)) for row in counts]
        assert found == pytest.approx([over_both(reference, true[each], guess[each]) for each in drawn]), name
    assert np.mean(items.values["mae"]) == pytest.approx(mean_absolute_error(true, guess))


def test_what_never_varies_has_no_correlation():
    true = np.array([[1.0], [2.0], [3.0]])
    measured = sheet.metrics(gathered(true, np.full((3, 1), 2.0)))
    assert math.isnan(measured["pearson"])
    assert measured["mae"] == pytest.approx(2 / 3)
    items = sheet.items(gathered(true, np.full((3, 1), 2.0)), "test")
    assert np.isnan(registered_statistic("regression/spearman")(items.columns, np.ones((1, 3)))).all()


def test_guessing_is_told_from_knowing():
    true, guess = numbers()
    scores = gathered(true, guess)
    assert not sheet.is_guessing(scores, sheet.metrics(scores))
    scores = gathered(true, np.random.default_rng(5).permutation(guess))
    assert sheet.is_guessing(scores, sheet.metrics(scores))


def test_the_report_shows_predicted_by_measured():
    true, guess = numbers()
    scores = gathered(true, guess)
    shown = {each.name: each for each in sheet.artefacts(scores, NAMES, "test", sheet.metrics(scores), [])}
    chart, table = shown["test_scatter_1"], shown["test_per_target"]
    assert isinstance(chart, Curve)
    assert chart.scattered == ["images"]
    assert chart.same_range
    assert chart.x_of["images"] == true[:, 1].tolist()
    assert chart.lines["images"] == guess[:, 1].tolist()
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == NAMES
    assert isinstance(shown["test_items"], Items)


@pytest.fixture
def task() -> RegressionTask:
    keys = ["model.name=vit", "model.args={patch_size: 16, embed_dim: 12, depth: 1, num_heads: 1}"]
    built = build(load_recipe("regression/discs", keys), NAMES)
    built.calibration = {MEAN: [100.0, 5.0], DEVIATION: [20.0, 0.5]}
    return built


def test_the_network_learns_deviations_and_predicts_units(task, monkeypatch):
    output = torch.tensor([[0.5, -1.0], [0.0, 2.0]])
    monkeypatch.setattr(task.network, "forward", lambda images: output)
    batch = {"id": ["a", "b"], "image": torch.zeros(2, 3, 64, 64), "target": torch.tensor([[110.0, 4.5], [120.0, 6.0]])}
    expected = torch.nn.functional.smooth_l1_loss(output, torch.tensor([[0.5, -1.0], [1.0, 2.0]]))
    assert task.training_step(batch, 0) == pytest.approx(expected.item())
    predicted = task.predict_step(batch, 0)
    assert predicted.tolist() == [[110.0, 4.5], [100.0, 6.0]]
    first, _ = task.predicted(batch, predicted)
    assert first.row == {"height": 110.0, "weight": 4.5}
    assert first.sentence == "height 110, weight 4.5"
    assert first.drawing(np.zeros((20, 20, 3), np.uint8)).shape == (184, 160, 3)
    assert task.calibrate(None) == task.calibration


def test_an_exported_network_gives_units(task):
    exported = task.exported(None)
    inputs = exported.draw(torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = task.network(inputs["image"]) * torch.tensor([20.0, 0.5]) + torch.tensor([100.0, 5.0])
    assert torch.allclose(exported.run(inputs)["numbers"], expected, rtol=1e-5)


def test_a_network_whose_outputs_are_not_those_of_its_last_layer_gives_no_units():
    built = build(load_recipe("regression/discs", ["model.name=volo_d1_224"]), NAMES)
    built.calibration = {MEAN: [100.0, 5.0], DEVIATION: [20.0, 0.5]}
    with pytest.raises(UserError, match=r"model\.name=volo_d1_224: .*last layer.*another model"):
        built.delivered()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["augment.mixing={mixup: 1.0}"], r"augment\.mixing.*regression does not"),
        (["run.select.metric=val/accuracy"], r"run\.select\.metric.*val/mae"),
        (["data.targets=[a,a]", "data.source=table", "data.labels=x.csv"], r"data\.targets.*once"),
        (["data.labels=x.csv"], r"data\.source.*data\.source=table"),
        (["method.loss=huber"], r"method\.loss"),
        (["semi.method=mean_teacher"], r"semi\.method"),
    ],
)
def test_what_does_not_go_together_is_refused(keys, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        load_recipe("regression/discs", keys)
