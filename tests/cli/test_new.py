"""`vision-train new`: questions or options become a short recipe that can be trained at once."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from vision_train.cli import app
from vision_train.recipe import load_recipe
from vision_train.recipe.overview import entries
from vision_train.recipe.starting import candidates, offered_tasks
from vision_train.tasks import suggested_recipe


def run(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["new", *arguments], input=typed, catch_exceptions=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # By name the package would be asked, whose `new` is the function.
    monkeypatch.setattr(sys.modules["vision_train.cli.new"], "_at_a_terminal", lambda: True)


def write_images(*names: str) -> None:
    for number, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(name)


def write_classes() -> None:
    write_images(*(f"photos/{label}/{number}.png" for label in ("cat", "dog") for number in range(6)))


def write_pool() -> None:
    write_images(*(f"pool/{number}.png" for number in range(8)))


def write_boxes() -> None:
    names = [f"{number}.png" for number in range(12)]
    write_images(*(f"boxes/{name}" for name in names))
    images = [{"id": i, "file_name": name, "width": 48, "height": 40} for i, name in enumerate(names)]
    boxes = [{"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [4, 4, 20, 16]} for i in range(12)]
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "van"}]
    content = {"images": images, "annotations": boxes, "categories": categories}
    Path("boxes/annotations.json").write_text(json.dumps(content))


def write_expressions() -> None:
    names = [f"{number}.png" for number in range(60)]
    write_images(*(f"said/{name}" for name in names))
    with Path("said/said.csv").open("w", newline="") as file:
        rows = [[name, f"the {('red', 'blue')[i % 2]} thing", 4, 4, 20, 16] for i, name in enumerate(names)]
        csv.writer(file).writerows([["path", "text", "x", "y", "w", "h"], *rows])


def write_features() -> None:
    Path("features").mkdir()
    rows = []
    for number in range(12):
        np.save(f"features/s{number}.npy", np.random.default_rng(number).normal(size=(6, 16)).astype(np.float32))
        rows.append([f"s{number}", ("benign", "tumour")[number % 2]])
    with Path("features.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["slide_id", "label"], *rows])


def write_numbers() -> None:
    names = [f"{number}.png" for number in range(12)]
    write_images(*(f"people/{name}" for name in names))
    rows = [f"{name},{20 + number},{150 + number}" for number, name in enumerate(names)]
    Path("people/people.csv").write_text("\n".join(["path,age,height", *rows]))


OPTIONS: dict[str, tuple[Callable[[], None], list[str], str]] = {
    "classification": (write_classes, ["--data", "photos"], "12 images of 2 classes: cat 6, dog 6"),
    "pretraining": (write_pool, ["--data", "pool"], "8 images"),
    "bags": (write_features, ["--data", "features", "--labels", "features.csv"], "12 bags of 2 classes"),
    "detection": (write_boxes, ["--data", "boxes"], "12 images with 12 boxes of 2 classes: car 6, van 6"),
    "grounding": (write_expressions, ["--data", "said"], "60 expressions of 60 images"),
    "regression": (
        write_numbers,
        ["data.targets=[age]", "--labels", "people/people.csv"],
        "age from 20 to 31, mean 25.5",
    ),
}
"""Task -> its data, the options that name them, and what is found."""


def test_the_tasks_are_those_with_recipes_for_data_of_ones_own():
    assert [*offered_tasks(entries())] == [*OPTIONS]


@pytest.mark.parametrize("task", OPTIONS)
def test_a_task_suggests_a_recipe_that_can_be_chosen(task: str):
    offered = [entry.name for entry in candidates(entries(), task, pool=False)]
    assert suggested_recipe(task) in (None, offered[0])


@pytest.mark.slow
@pytest.mark.parametrize("task", OPTIONS)
def test_what_is_written_is_valid_and_can_be_trained(task: str):
    from vision_train.run.dry_run import dry_run

    write, options, found = OPTIONS[task]
    write()
    result = run("mine.yaml", "--task", task, *options, "--yes")
    assert result.exit_code == 0, result.stderr
    assert found in result.stdout
    recipe = load_recipe("mine.yaml")
    assert recipe.task == task
    # Sizes for tests, and the data of the file again, in whose place they put drawn ones.
    places = [f"data.{key}={value}" for key in ("root", "labels") if (value := getattr(recipe.data, key)) is not None]
    small = load_recipe(
        "mine.yaml", [f"data.source={recipe.data.source}", *places, "trainer.accelerator=cpu"], smoke=True
    )
    said = dry_run(small)
    assert "steps" in said
    assert not [*Path.cwd().glob("runs*")]


def test_names_each_key_and_the_next_commands():
    write_classes()
    run("mine.yaml", "--task", "classification", "--data", "photos", "--yes")
    text = Path("mine.yaml").read_text()
    assert "#   vision-train fit mine.yaml --dry-run" in text
    assert "12 images of 2 classes" in text
    lines = text.splitlines()
    keys = [number for number, line in enumerate(lines) if line.startswith("  ") and not line.startswith("  #")]
    assert len(keys) >= 4
    assert all(lines[number - 1].lstrip().startswith("#") for number in keys)
    assert len(lines) < 40
    assert max(map(len, lines)) <= 120


def test_a_pool_leads_to_a_recipe_that_learns_from_it():
    write_classes()
    write_pool()
    options = ["--task", "classification", "--data", "photos", "--unlabelled", "pool", "--checkpoint", "weights.pth"]
    assert run("mine.yaml", *options, "--yes").exit_code == 0
    recipe = load_recipe("mine.yaml")
    assert recipe.semi.method != "none"
    assert recipe.data.unlabelled == str(Path("pool").absolute())
    assert recipe.model.checkpoint == str(Path("weights.pth").absolute())


def test_without_a_pool_nothing_is_left_that_needs_one():
    write_expressions()
    run("mine.yaml", "--task", "grounding", "--data", "said", "--yes")
    recipe = load_recipe("mine.yaml")
    assert recipe.semi.method == "none"
    assert (recipe.data.unlabelled, recipe.data.share) == (None, 1.0)


def test_without_weights_nothing_is_frozen():
    write_boxes()
    run("mine.yaml", "--task", "detection", "--data", "boxes", "--yes")
    assert yaml.safe_load(Path("mine.yaml").read_text())["model"] == {"checkpoint": None, "freeze": []}


@pytest.mark.usefixtures("terminal")
def test_asks_four_questions():
    write_classes()
    write_pool()
    result = run("mine.yaml", typed="1\nphotos\npool\nweights.pth\n")
    assert result.exit_code == 0, result.stderr
    for said in (
        "1. What do you have",
        "2. Where are they?",
        "12 images of 2 classes",
        "3. A folder",
        "Which weights?",
    ):
        assert said in result.stdout
    recipe = load_recipe("mine.yaml")
    assert (recipe.task, recipe.model.checkpoint) == ("classification", str(Path("weights.pth").absolute()))


@pytest.mark.usefixtures("terminal")
def test_asks_again_where_there_is_nothing_and_for_what_is_not_offered():
    write_classes()
    result = run("mine.yaml", typed="99\n1\nnowhere\nphotos\n\nclassification/vit_tiny\n\n")
    assert result.exit_code == 0, result.stderr
    assert "data.root" in result.stdout
    assert yaml.safe_load(Path("mine.yaml").read_text())["extends"] == "classification/vit_tiny"


@pytest.mark.usefixtures("terminal")
def test_the_end_of_what_is_typed_interrupts_and_writes_nothing():
    assert run("mine.yaml", typed="1\n").exit_code == 130
    assert not Path("mine.yaml").exists()


@pytest.mark.usefixtures("terminal")
def test_a_file_of_labels_is_added_to_a_folder():
    write_images("loose/a.png", "loose/b.png")
    Path("labels.csv").write_text("path,label\na.png,cat\nb.png,dog\n")
    result = run("mine.yaml", "--task", "classification", typed="loose\nlabels.csv\n\n1\n\n")
    assert result.exit_code == 0, result.stderr
    data = yaml.safe_load(Path("mine.yaml").read_text())["data"]
    assert (data["root"], data["labels"]) == ("loose", "labels.csv")


@pytest.mark.usefixtures("terminal")
def test_a_key_that_the_data_ask_for_can_be_typed_and_corrected():
    write_numbers()
    typed = "people/people.csv\ndata.targets=[weight]\ndata.targets=[age]\n\n"
    result = run("mine.yaml", "optim.lr=1e-4", "--task", "regression", typed=typed)
    assert result.exit_code == 0, result.stderr
    assert "data.targets" in result.stdout
    assert "no column weight" in result.stdout
    recipe = load_recipe("mine.yaml")
    assert (recipe.data.targets, recipe.optim.lr) == (["age"], 1e-4)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["data.targets=[age]"], ["recipe.yaml data.targets=[age]"]),
        (
            ["--yes", "mine.yaml", "optim.rl=1", "--task", "classification", "--data", "photos"],
            ["optim.rl", "unknown key"],
        ),
        ([], ["--yes", "--task", "--data"]),
        (["--yes"], ["--task", "classification"]),
        (["--yes", "--task", "classification"], ["--data"]),
        (["--yes", "--task", "clasification", "--data", "photos"], ["--task", "did you mean classification"]),
        (["--yes", "--task", "classification", "--data", "nowhere"], ["data.root", "nowhere"]),
        (["--yes", "--task", "bags", "--data", "photos", "--unlabelled", "pool"], ["--unlabelled"]),
        (
            ["--yes", "--task", "classification", "--data", "photos", "--recipe", "vit_tiny"],
            ["--recipe", "did you mean classification/vit_tiny"],
        ),
        (["--yes", "--task", "classification", "--data", "photos", "--unlabelled", "no"], ["--unlabelled", "no such"]),
        (["there.yaml", "--yes"], ["there.yaml", "--force"]),
        (["mine.txt", "--yes"], ["mine.txt", "YAML"]),
        (["absent/mine.yaml", "--yes"], ["absent"]),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_written(arguments: list[str], parts: list[str]):
    write_classes()
    Path("there.yaml").write_text("kept")
    result = run(*arguments)
    assert result.exit_code == 2
    assert all(part in result.stderr for part in parts), result.stderr
    assert Path("there.yaml").read_text() == "kept"
    assert not Path("recipe.yaml").exists()


@pytest.mark.parametrize(("options", "told"), [([], True), (["--checkpoint", "timm"], False)])
def test_says_where_a_network_would_start_from_random_weights(options: list[str], told: bool):
    write_classes()
    said = run("mine.yaml", "--task", "classification", "--data", "photos", *options, "--yes").stdout
    assert ("random weights" in said) is told
    write_features()
    bags = run("bags.yaml", "--task", "bags", "--data", "features", "--labels", "features.csv", "--yes").stdout
    assert "random weights" not in bags, "features were made by a network that has learnt"


def test_labels_of_which_nothing_can_be_learnt_are_refused():
    write_images("a.png", "b.png")
    Path("labels.csv").write_text("path,car,dog\na.png,,\nb.png,,\n")
    options = ["--task", "classification", "--recipe", "multilabel/vit_small", "--labels", "labels.csv", "--yes"]
    result = run("mine.yaml", *options)
    assert result.exit_code == 2, result.stdout
    assert "no training image bears car" in result.stderr
    assert not Path("mine.yaml").exists()


def test_a_folder_of_parquet_files_names_the_key_for_them():
    Path("stored").mkdir()
    Path("stored/train.parquet").touch()
    result = run("mine.yaml", "--task", "classification", "--data", "stored", "--yes")
    assert result.exit_code == 2
    assert "no class folders. It holds Parquet or Arrow files: set data.source=parquet" in result.stderr


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody can write into, even as root")
def test_a_place_that_cannot_be_written_is_refused_before_the_questions():
    result = run("/proc/mine.yaml", "--task", "classification", "--data", "photos", "--yes")
    assert result.exit_code == 2
    assert "/proc: cannot be written" in result.stderr


def test_writes_over_a_file_when_told_to():
    write_classes()
    Path("there.yaml").write_text("gone")
    options = ["--task", "classification", "--data", "photos", "--yes", "--force"]
    assert run("there.yaml", *options).exit_code == 0
    assert load_recipe("there.yaml").task == "classification"
