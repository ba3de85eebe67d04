"""The word `auto` in a recipe."""

from pathlib import Path

import pytest

from vision_train.errors import UserError
from vision_train.recipe import load_recipe, write_recipe

SAID = ("data.batch_size=auto", "optim.lr=auto")


def test_the_value_beneath_stays(tmp_path):
    recipe, plain = load_recipe("quickstart", SAID), load_recipe("quickstart")
    assert recipe.run.automatic == ["data.batch_size", "optim.lr"]
    assert (recipe.data.batch_size, recipe.optim.lr) == (plain.data.batch_size, plain.optim.lr)
    write_recipe(tmp_path / "kept.yaml", recipe)
    assert load_recipe(tmp_path / "kept.yaml") == recipe


def test_a_file_may_say_it_and_a_later_value_takes_it_back(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("extends: quickstart\ndata: {batch_size: auto}\noptim: {lr: auto}\n")
    assert load_recipe(file).run.automatic == ["data.batch_size", "optim.lr"]
    later = load_recipe(file, ["data.batch_size=16"])
    assert (later.run.automatic, later.data.batch_size) == (["optim.lr"], 16)
    assert load_recipe(file, ["run.automatic=[]"]).run.automatic == []


def test_a_recipe_without_the_word_leaves_nothing_to_the_machine():
    assert load_recipe("quickstart").run.automatic == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["run.automatic=[data.workers]"], ["run.automatic[0]", "data.workers", "optim.lr"]),
        (["run.automatic=optim.lr"], ["run.automatic", "optim.lr", "list"]),
        (["data.workers=auto"], ["data.workers", "auto"]),
        (["optim.lr=auto", "run.pretrain=droppos/digits"], ["optim.lr", "run.pretrain", "model.checkpoint"]),
        (["data.batch_size=auto", "semi.verdict={}"], ["data.batch_size", "semi.verdict"]),
    ],
)
def test_what_cannot_be_found_is_refused_by_name(overrides, said):
    with pytest.raises(UserError) as refused:
        load_recipe("semi/digits" if "semi" in str(overrides) else "quickstart", overrides)
    for words in said:
        assert words in str(refused.value)


def test_a_place_is_named_where_the_word_was_written(tmp_path):
    file = Path(tmp_path / "mine.yaml")
    file.write_text("extends: quickstart\noptim: {lr: auto}\nrun: {pretrain: droppos/digits}\n")
    with pytest.raises(UserError, match=r"mine\.yaml:2"):
        load_recipe(file)


def test_bags_have_no_range_test():
    with pytest.raises(UserError, match=r"optim\.lr, but the loss of bags.*number"):
        load_recipe("acmil/digit_bags", ["optim.lr=auto"])
