"""Every key is documented, from the docstrings of the sections."""

import pytest

from vision_train.errors import UserError
from vision_train.recipe import explain, load_recipe, to_plain
from vision_train.tasks import task_packages


@pytest.mark.parametrize("task", [None, *task_packages()])
def test_every_key_has_a_text(task: str | None):
    keys = explain(task)
    assert [key.name for key in keys if not key.text] == []
    assert [key.name for key in keys if bool(key.kind) != bool(key.default)] == []
    assert len({key if task is None else key.path for key in keys}) == len(keys)


def test_every_key_of_a_recipe_is_explained():
    def paths(inside: dict, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        found = {(*path, key) for key in inside}
        for key, value in inside.items():
            if isinstance(value, dict) and (*path, key) != ("model", "args"):
                found |= paths(value, (*path, key))
        return found

    plain = to_plain(load_recipe("quickstart", ["optim.ema.decay=0.5"]))
    assert paths(plain) <= {key.path for key in explain("classification")}


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("extends", "text or a list of texts", "null"),
        (
            "task",
            "classification | pretraining | bags | detection | dense_detection | grounding | regression",
            "required",
        ),
        ("data", "", ""),
        ("data.on_bad", "error | skip", "error"),
        ("augment.train.crop_scale", "a list of 2 numbers or null", "null"),
        ("augment.mean", "a list of 3 numbers or null", "null"),
        ("model.args", "a mapping", "{}"),
        ("model.compile", "true or false", "false"),
        ("model.checkpoint", "text or a mapping or null", "null"),
        ("model.freeze", "a list of texts or all_but_head", "[]"),
        ("optim.lr_factors", "a mapping", "{}"),
        ("method.label_smoothing", "a number", "0.0"),
        ("optim.ema", "a mapping or null", "null"),
        ("optim.ema.decay", "a number or null", "null"),
        ("trainer.max_epochs", "a whole number or null", "required"),
        ("trainer.gradient_clip_val", "a number or null", "Lightning's"),
    ],
)
def test_type_and_default(name: str, kind: str, default: str):
    (key,) = [key for key in explain("classification") if key.name == name]
    assert (key.kind, key.default) == (kind, default)


def test_a_text_over_several_lines_becomes_one():
    (key,) = [key for key in explain("classification") if key.name == "data.splits"]
    assert "by the images' paths alone, where folders or the csv name no such split." in key.text


def test_without_a_task_each_method_key_says_whose_it_is():
    (key,) = [key for key in explain() if key.name == "method.label_smoothing"]
    assert key.text.startswith("For the task `classification`: ")


def test_without_a_task_a_key_of_several_kinds_of_data_says_whose_meaning_each_is():
    meanings = [key.text for key in explain() if key.name == "data.source"]
    assert len(meanings) > 1
    assert all(text.startswith("For the task") for text in meanings)
    (shared,) = [key.text for key in explain() if key.name == "data.workers"]
    assert not shared.startswith("For the task")


def test_an_unknown_task():
    with pytest.raises(UserError, match=r"^clasification: no task of this name; did you mean classification\?$"):
        explain("clasification")
