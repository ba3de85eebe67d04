"""`vision-train recipes`: list, show, explain; plain when piped."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from vision_train.cli import app
from vision_train.recipe import builtin_recipes, explain, load_recipe, to_plain
from vision_train.recipe.catalogue import recipes_to_start_from
from vision_train.recipe.plain import to_yaml


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
def test_lists_recipes_with_their_descriptions_under_titles(arguments: list[str], names: list[str]):
    lines = {line.split()[0]: line for line in run(*arguments).stdout.splitlines() if line.startswith("  ")}
    assert sorted(lines) == names
    for name, line in lines.items():
        assert line.endswith(load_recipe(name, runnable=False).description)


def test_images_of_several_labels_are_other_data_than_images_of_a_class():
    (part,) = [part for part in run().stdout.split("\n\n") if part.startswith("Images with several labels each")]
    assert "multilabel/vit_small" in part
    assert "classification/" not in part


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only some systems have a file that is always full")
def test_a_full_disk_behind_the_output_is_one_message():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "vision_train", "recipes"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: standard output cannot be written")
    assert "Traceback" not in done.stderr


def test_a_file_beside_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("photos.yaml").touch()
    result = CliRunner().invoke(app, ["fit", "photo.yaml"])
    assert result.exit_code == 2
    assert "did you mean photos.yaml?" in result.stderr


def test_groups_say_what_one_has_and_wants():
    titles = [line for line in run().stdout.splitlines() if line and not line.startswith(" ")]
    assert len(titles) == len({*titles})
    assert titles[0].startswith("Nothing yet")
    assert "Images with a class each → a classifier" in titles
    assert "Few images with boxes, many without → a detector" in titles


@pytest.mark.usefixtures("terminal")
def test_each_recipe_is_a_line_of_80_columns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = re.sub(r"\x1b\[[\d;]*m", "", run().stdout).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert not [line for line in lines if "…" in line]
    for name in recipes_to_start_from():
        description = load_recipe(name, runnable=False).description
        assert sum(line.split()[:1] == [name] and line.endswith(description) for line in lines) == 1, name


@pytest.mark.usefixtures("terminal")
def test_a_narrow_terminal_cuts_lines_and_a_wide_one_does_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "60")
    narrow = re.sub(r"\x1b\[[\d;]*m", "", run("--all").stdout).splitlines()
    monkeypatch.setenv("COLUMNS", "200")
    wide = re.sub(r"\x1b\[[\d;]*m", "", run("--all").stdout).splitlines()
    assert max(map(len, narrow)) == 60
    assert sum(line.startswith("  ") for line in narrow) == len(builtin_recipes())
    assert max(map(len, wide)) > 80


@pytest.mark.parametrize(
    ("words", "inside", "outside"),
    [
        (["boxes", "few"], "semi/detection", "relation_detr/resnet50"),  # the title
        (["SWIN"], "relation_detr/swin_large", "quickstart"),  # the name
        (["optim.lr_factors"], "relation_detr/resnet50", "quickstart"),  # a key
        (["convnext_large"], "relation_detr/convnext_large", "relation_detr/resnet50"),  # a value
        (["freematch"], "semi/digits", "semi/shapes"),
    ],
)
def test_searches_names_texts_keys_and_values(words: list[str], inside: str, outside: str):
    names = [line.split()[0] for line in run(*words).stdout.splitlines() if line.startswith("  ")]
    assert inside in names
    assert outside not in names


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


def test_shows_comments_beside_the_values_that_they_stand_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("below.yaml").write_text(
        "# Not of the recipe that extends this.\nextends: quickstart\noptim:\n  lr: 0.5  # bold\n"
        "  min_lr: 0.1  # replaced above\ntrainer: {max_epochs: 2}  # short\n"
    )
    Path("mine.yaml").write_text(
        "# Mine.\n# Two lines.\n\nextends: below  # where from\noptim:\n  # Two lines of reasons,\n  # one key.\n"
        "  warmup_epochs: 1\n  min_lr: 0.2\ndescription: 'not a # comment'\nsmoke:\n  seed: 1  # gone\n# The end.\n"
    )
    lines = run("mine.yaml", "optim.weight_decay=0.3").stdout.splitlines()
    assert lines[:2] == ["# Mine.", "# Two lines."]
    assert "  lr: 0.5  # bold" in lines
    assert "  min_lr: 0.2" in lines
    assert "trainer:  # short" in lines
    place = lines.index("  warmup_epochs: 1.0")
    assert lines[place - 2 : place] == ["  # Two lines of reasons,", "  # one key."]
    text = "\n".join(lines)
    assert "gone" not in text
    assert "Not of the recipe" not in text
    assert yaml.safe_load(text)["description"] == "not a # comment"


@pytest.mark.parametrize("name", builtin_recipes())
def test_comments_leave_a_shown_recipe_as_it_is(name: str):
    shown = yaml.safe_load(run(name).stdout)
    assert {"name": name, **shown} == yaml.safe_load(to_yaml(to_plain(load_recipe(name, runnable=False))))


def test_shows_a_recipe_that_still_lacks_its_data():
    assert yaml.safe_load(run("classification/vit_small").stdout)["data"]["root"] is None


def test_explains_every_key_on_a_line_of_its_own():
    lines = run("--explain").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [key.name for key in explain()]
    assert any(
        line.startswith("optim.lr  (a number, or auto; default 0.001)  Learning rate after warm-up. ") for line in lines
    )
    assert any(line.startswith("data  What to train on") for line in lines)


def test_explains_the_keys_of_a_recipe_with_their_values():
    lines = run("quickstart", "optim.lr=0.5", "--explain").stdout.splitlines()
    assert any(
        line.startswith("optim.lr = 0.5  (a number, or auto; default 0.001)  Learning rate after") for line in lines
    )
    assert any(line.startswith('model.args = {"patch_size": 4, ') for line in lines)
    assert any(line.startswith("optim.ema = null  ") for line in lines)
    assert any(line.startswith("optim.ema.decay  (") for line in lines)  # absent while there is no average


def keys_of(shown: str) -> list[str]:
    """The keys that are documented; below each stand indented the values that recipes give it."""
    return [line.split()[0] for line in shown.splitlines() if not line.startswith(" ")]


@pytest.mark.parametrize("section", ["semi", "data", "optim"])
def test_explains_the_keys_of_one_section(section: str):
    shown = run("--explain", section).stdout
    assert keys_of(shown) == [key.name for key in explain() if key.path[0] == section]
    assert run(section, "--explain").stdout == shown


@pytest.mark.parametrize(("key", "count"), [("data.unlabelled", 3), ("semi.rounds.count", 1), ("semi.verdict", 7)])
def test_explains_one_key_and_what_it_holds(key: str, count: int):
    keys = keys_of(run("--explain", key).stdout)
    assert len(keys) == count
    assert all(each.startswith(key) for each in keys)


def test_says_which_recipes_set_a_key_to_what():
    values = dict(line.split("  ", 1) for line in map(str.strip, run("--explain", "optim.lr").stdout.splitlines()[1:]))
    named = {name: value for value, names in values.items() for name in names.split(", ")}
    assert named["semi/detection"] == "= 0.0002"
    assert named["semi/classification"] == "= 0.0005", "what a recipe extends counts"
    assert set(named) <= set(recipes_to_start_from())
    assert "studies/" in run("--explain", "optim.lr", "--all").stdout


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
@pytest.mark.parametrize("arguments", [["quickstart"], ["--explain"], ["quickstart", "--explain"]])
def test_coloured_and_wrapped_on_a_terminal(arguments: list[str]):
    shown = run(*arguments).stdout
    assert "\x1b[" in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quikstart"], "did you mean quickstart"),
        (["quickstart", "sed=1"], "command line: sed: unknown key; did you mean seed?"),
        (["quickstart", "seed"], "command line: `seed` is no override"),
        (["detecton"], "did you mean detection"),
        (["swin", "slides"], "no recipe has all of the words"),
        (["quikstart", "seed=1"], "did you mean quickstart?"),
        (["optm", "--explain"], "optm: no key, section or recipe of this name; did you mean optim"),
        (["lr", "--explain"], "did you mean optim.lr?"),
        (["optim.layer_decey", "--explain"], "did you mean optim.layer_decay"),
        (["learning_rate", "--explain"], "did you mean optim.lr"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(arguments: list[str], message: str):
    result = CliRunner().invoke(app, ["recipes", *arguments], catch_exceptions=False)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_the_page_shows_what_the_verb_prints():
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    shown = re.search(r"^\$ vision-train recipes (--explain \S+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert run(*shown[1].split()).stdout == shown[2]
