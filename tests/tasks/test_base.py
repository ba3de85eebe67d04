"""The base class of tasks: what its loops call, and the defaults that a small task can rely on."""

from typing import Any

import numpy as np
import pytest
import torch

from vision_train.artefacts import Items, Metric
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.tasks.base import Batch, Task
from vision_train.tasks.predicted import Predicted
from vision_train.tasks.scores import Scores, ScoreTable


class Brightness(Task):
    """Knows nothing but how bright images are."""

    metrics = (Metric("brightness", "mean brightness"),)

    def new_scores(self) -> ScoreTable:
        return ScoreTable(["brightness"])

    def score(self, batch: Batch, loader: int = 0) -> torch.Tensor | None:
        rows = batch["image"].mean(dim=(1, 2, 3))[:, None]
        if loader > 0:
            return None
        self.scores.add(batch["id"], rows)
        return rows

    def measure(self, scores: Scores) -> dict[str, float]:
        return {"brightness": scores.column("brightness").mean().item()}

    def begin_gallery(self) -> None:
        self.considered: list[str] = []

    def consider(self, batch: Batch, output: Any) -> None:
        self.considered += batch["id"]

    def conclude(self, scores: Scores, split: str, measured: dict[str, float]) -> list[Items]:
        return [Items(f"{split}_items", scores.ids, {"brightness": scores.column("brightness").tolist()})]


@pytest.fixture
def task() -> Brightness:
    made = Brightness(load_recipe("quickstart"), torch.nn.Linear(1, 1), ["a", "b"])
    made.logged = {}
    made.log_dict = lambda values, **_: made.logged.update(values)  # type: ignore[method-assign]
    return made


def batch_of(**levels: float) -> Batch:
    """Images of one brightness each, normalised as the recipe does."""
    image = torch.stack([torch.full((3, 4, 6), (level - 0.5) / 0.5) for level in levels.values()])
    return {"id": list(levels), "image": image}


def test_validation_and_test_log_under_the_name_of_the_split(task):
    task.on_validation_epoch_start()
    task.validation_step(batch_of(a=1.0), 0)
    task.validation_step(batch_of(b=0.0), 1)
    task.on_validation_epoch_end()
    assert task.logged == {"val/brightness": 0}
    task.test_split = "val"
    task.on_test_epoch_start()
    task.test_step(batch_of(c=1.0), 0)
    task.on_test_epoch_end()
    assert task.logged == {"val/brightness": 1}, "a pass begins with no scores of the one before"
    (items,) = task.artefacts()
    assert (items.name, items.ids) == ("val_items", ["c"])


def test_companions_of_a_split_are_scored_and_never_shown(task):
    task.on_test_epoch_start()
    task.test_step(batch_of(a=1.0), 0)
    task.test_step(batch_of(b=0.0), 0, 1)
    task.on_test_epoch_end()
    assert task.considered == ["a"]
    assert task.logged == {"test/brightness": 1}


def test_a_new_task_reports_on_the_split_that_its_kind_of_data_is_judged_on(task):
    assert task.test_split == task.recipe.kind.judged == "test"
    pretraining = load_recipe("droppos/digits")
    assert Brightness(pretraining, torch.nn.Linear(1, 1), []).test_split == "val"


def test_a_task_that_predicts_nothing_says_what_to_do(task):
    with pytest.raises(UserError, match=r"task=classification: .*model\.checkpoint=RUN"):
        task.predicted(batch_of(a=1.0), None)


def test_a_network_that_encodes_no_images_is_refused_as_encoder(task):
    with pytest.raises(UserError, match=r"task=classification: .*name another checkpoint"):
        task.encoder()


def test_pixels_are_those_before_normalisation(task):
    pixels = task.pixels_of(batch_of(a=0.2)["image"][0].to(torch.bfloat16))
    assert (pixels.shape, pixels.dtype) == ((4, 6, 3), np.uint8)
    assert np.abs(pixels.astype(int) - 51).max() <= 1
    assert task.pixels_of(torch.full((3, 2, 2), 9.0)).max() == 255


def test_preview_shows_so_many_augmented_images(task):
    batches = (batch_of(**{f"{number}a": 0.0, f"{number}b": 1.0}) for number in range(10**6))
    shown = task.preview(batches, 3)
    assert [row.id for row in shown.rows] == ["0a", "0b", "1a"]
    assert [row.pictures["augmented"].max() for row in shown.rows] == [0, 255, 0]


def test_preview_of_what_is_no_image_is_refused(task):
    with pytest.raises(UserError, match="task=classification: preview shows images"):
        task.preview(iter([{"id": ["a"], "features": torch.zeros(1, 2)}]), 1)


def test_predictions_need_no_drawing_and_no_cells():
    assert Predicted("a", {"number": 1.0}) == Predicted("a", {"number": 1.0}, None, {})


def test_parameters_keep_their_plain_names_and_generators_are_none(task):
    assert list(task.network.state_dict()) == ["weight", "bias"]
    assert task.random_generators() == {}
    assert dict(task.adapt_published({"w": torch.zeros(1)}, task.network)) == {"w": torch.zeros(1)}
    assert task.notes == []
