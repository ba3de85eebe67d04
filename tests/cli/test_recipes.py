"""`vision-train recipes`: list, show, explain; plain when piped."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from vision_train.cli import app
from vision_train.recipe import builtin_recipes, explain, load_recipe, to_plain
from vision_train.recipe.catalogue import recipes_to_start_from


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["recipes", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make rich believe that it writes to a terminal 70 columns wide."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")


@pytest.mark.parametrize(
    ("arguments", "names"), [([], recipes_to_start_from()), (["--all"], builtin_recipes())], ids=["start", "all"]
)
def test_lists_recipes_with_their_descriptions(arguments: list[str], names: list[str]):
    lines = run(*arguments).stdout.splitlines()
    assert [line.split()[0] for line in lines] == names
    for name, line in zip(names, lines, strict=True):
        assert line.endswith(load_recipe(name, runnable=False).description)


@pytest.mark.usefixtures("terminal")
def test_arms_of_studies_are_listed_on_a_terminal_too_only_when_asked_for():
    assert "studies/" not in run().stdout
    assert "studies/" in run("--all").stdout


def test_shows_one_resolved_as_yaml_that_is_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shown = run("classification/vit_small", "optim.lr=0.5", "data.root=images").stdout
    Path("mine.yaml").write_text(shown)
    recipe = load_recipe("mine")
    assert (recipe.name, recipe.optim.lr, recipe.data.root) == ("mine", 0.5, str(tmp_path / "images"))
    expected = to_plain(load_recipe("classification/vit_small", ["optim.lr=0.5", "data.root=images"]))
    assert {"name": "classification/vit_small", **yaml.safe_load(shown)} == expected


def test_shows_a_recipe_that_still_lacks_its_data():
    assert yaml.safe_load(run("classification/vit_small").stdout)["data"]["root"] is None


def test_explains_every_key_on_a_line_of_its_own():
    lines = run("--explain").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [key.name for key in explain()]
    assert "optim.lr  (a number; default 0.001)  Learning rate after warm-up." in lines
    assert any(line.startswith("data  What to train on") for line in lines)


def test_explains_the_keys_of_a_recipe_with_their_values():
    lines = run("quickstart", "optim.lr=0.5", "--explain").stdout.splitlines()
    assert "optim.lr = 0.5  (a number; default 0.001)  Learning rate after warm-up." in lines
    assert any(line.startswith('model.args = {"patch_size": 4, ') for line in lines)
    assert any(line.startswith("optim.ema = null  ") for line in lines)
    assert any(line.startswith("optim.ema.decay  (") for line in lines)  # absent while there is no average


@pytest.mark.parametrize("section", ["semi", "data", "optim"])
def test_explains_the_keys_of_one_section(section: str):
    lines = run("--explain", section).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [key.name for key in explain() if key.path[0] == section]
    assert run(section, "--explain").stdout.splitlines() == lines


@pytest.mark.parametrize(("key", "count"), [("data.unlabelled", 3), ("semi.rounds.count", 1), ("semi.verdict", 7)])
def test_explains_one_key_and_what_it_holds(key: str, count: int):
    lines = run("--explain", key).stdout.splitlines()
    assert len(lines) == count
    assert all(line.split()[0].startswith(key) for line in lines)


def test_a_list_of_choices_names_them():
    assert "a list of faithfulness, robustness, confidence;" in run("--explain", "semi.rounds.scores").stdout


def test_explains_what_a_section_holds_down_to_its_inner_keys():
    lines = run("--explain", "semi").stdout.splitlines()
    for key in ("semi.method", "semi.burn_in", "semi.rounds.count", "semi.verdict.seeds", "semi.verdict.lora.rank"):
        assert any(line.startswith(f"{key}  (") for line in lines), key


@pytest.mark.parametrize("arguments", [[], ["--all"], ["quickstart"], ["--explain"], ["quickstart", "--explain"]])
def test_plain_when_piped(arguments: list[str]):
    shown = run(*arguments).stdout
    assert "\x1b" not in shown
    assert not set("│┃━─…") & set(shown)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("arguments", [[], ["--all"], ["quickstart"], ["--explain"], ["quickstart", "--explain"]])
def test_coloured_and_wrapped_on_a_terminal(arguments: list[str]):
    shown = run(*arguments).stdout
    assert "\x1b[" in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quikstart"], "did you mean quickstart?"),
        (["quickstart", "sed=1"], "command line: sed: unknown key; did you mean seed?"),
        (["quickstart", "seed"], "command line: `seed` is no override"),
        (["semi"], "semi: no recipe or file of this name"),
        (["sem", "--explain"], "sem: no recipe or file of this name"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(arguments: list[str], message: str):
    result = CliRunner().invoke(app, ["recipes", *arguments], catch_exceptions=False)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
