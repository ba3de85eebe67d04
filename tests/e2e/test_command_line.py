"""The command line from end to end: what each verb prints and leaves, and how a process ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ODD_NAME = "my [red] :cat:é 日本 (1)"
FIT = ("fit", "tiny.yaml", "data.root=photos")
TWO = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu")
DEADLINE = 120  # seconds; a test that hangs ends here


# --- fit


def test_fit_says_what_came_out_and_where(cli):
    result = cli(*FIT)
    assert result.exit_code == 0
    assert result.stderr == ""
    data, classes, start, attention, *between, headline, place = result.stdout.splitlines()
    (progress,) = (line for line in between if line.startswith("epoch "))
    assert data == "tiny: 8 train, 2 val, 2 test images of 2 classes -> runs/tiny/0"
    assert classes == "classes: class_0 (4 train, 1 val, 1 test), class_1 (4 train, 1 val, 1 test)"
    assert start.startswith("starting from random weights")
    assert attention.startswith("attention: sdpa (not xformers: it has kernels for CUDA devices only")
    assert re.fullmatch(
        r"epoch 1/1  val accuracy \d+\.\d %  loss \d+\.\d{4}  [\d,]+ samples/s  \d+ % waiting for data  \d+ s left",
        progress,
    )
    assert headline.startswith("test loss ")
    assert "test accuracy " in headline
    assert place == "runs/tiny/0/report.html"
    assert "\x1b" not in result.stdout


def test_long_lines_are_not_wrapped(cli):
    cli(*FIT, "--run-dir", "first")
    folder = Path("a_long_name" * 10)
    result = cli(*FIT, "--run-dir", folder / "run", "model.checkpoint=first")
    _, _, checkpoint, *_, place = result.stdout.splitlines()
    assert checkpoint.endswith("first/checkpoints/best.ckpt: fills 100 % of the model")
    assert place == f"{folder}/run/report.html"


def test_odd_names_are_shown_as_they_are(cli):
    """Brackets are no markup and colons no pictures, in paths, recipes, classes and file names."""
    shutil.copytree("photos", ODD_NAME)
    Path(ODD_NAME, "class_0").rename(Path(ODD_NAME, "[bold]"))
    recipe = Path(f"{ODD_NAME}.yaml")
    shutil.copy("tiny.yaml", recipe)
    result = cli("fit", recipe, f"data.root={ODD_NAME}")
    assert result.exit_code == 0, result.output
    run = Path("runs", ODD_NAME, "0")
    assert result.stdout.splitlines()[-1] == f"{run}/report.html"
    assert json.loads((run / "classes.json").read_text()) == ["[bold]", "class_1"]

    bad = Path(ODD_NAME, "[bold]", "[link] x.png")
    bad.touch()
    result = cli("predict", run, ODD_NAME, "--out", "[red].jsonl", "--render", "[pictures]", "data.on_bad=skip")
    assert result.exit_code == 0, result.output
    predicted, _, skipped = result.stdout.splitlines()
    assert predicted == "12 predictions in [red].jsonl"
    assert skipped.startswith(f"  {bad}: ")
    assert len(list(Path("[pictures]").glob("*.png"))) == 12


def test_dry_run_writes_nothing(cli, place):
    before = sorted(place.rglob("*"))
    result = cli(*FIT, "--dry-run")
    assert result.exit_code == 0
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert facts["parameters"] == "2,498"
    assert facts["steps"] == "2 an epoch, 2 in all"
    assert sorted(place.rglob("*")) == before


def test_values_with_spaces_quotes_and_lists(cli):
    shutil.copytree("photos", "two words")
    result = cli(
        "fit", "tiny.yaml", "data.root='two words'", "data.splits={val: 0.2, test: 0.2}", "description=a = 'b'"
    )
    assert result.exit_code == 0, result.output
    recipe = Path("runs/tiny/0/recipe.yaml").read_text()
    assert "two words\n" in recipe
    assert "val: 0.2" in recipe


# --- evaluate


@pytest.mark.parametrize(("split", "images"), [("train", 8), ("val", 2), ("test", 2)])
def test_evaluate_prints_one_json_object(run, cli, split, images):
    result = cli("evaluate", run, "--split", split, "--json")
    figures = json.loads(result.stdout)
    assert figures[f"{split}/samples"] == images
    assert figures.keys() >= {f"{split}/{name}" for name in ("loss", "accuracy", "accuracy_top5", "calibration_error")}
    assert result.stderr == ""


def test_evaluate_repeats_the_summary_and_writes_nothing(run, cli, place):
    before = sorted(place.rglob("*"))
    summary = json.loads((run / "summary.json").read_text())
    figures = dict(re.split(r" {2,}", line) for line in cli("evaluate", run).stdout.splitlines())
    assert float(figures["Test loss"]) == pytest.approx(summary["test/loss"], rel=1e-3)
    assert figures["Test accuracy"] == f"{100 * summary['test/accuracy']:.1f} %"
    assert sorted(place.rglob("*")) == before


def test_a_run_and_its_images_may_move(run, cli, place):
    Path("else/where").mkdir(parents=True)
    shutil.move(run, "else/where/run")
    assert cli("evaluate", "else/where/run").exit_code == 0
    Path("photos").rename("moved")
    lost = cli("evaluate", "else/where/run")
    assert lost.exit_code == 2
    assert f"data.root {place}/photos: no such folder; say where the images are with data.root=FOLDER" in lost.stderr
    assert cli("evaluate", "else/where/run", "data.root=moved").exit_code == 0
    assert cli("predict", "else/where/run", "moved").exit_code == 0


# --- predict


def test_predict_takes_images_folders_and_tables_each_image_once(run, cli):
    Path("table.csv").write_text(" path , note\nphotos/class_1/0001.png,x\n photos/class_1/0003.png ,y\n")
    result = cli("predict", run, "photos/class_0", "photos/class_0/0000.jpg", "table.csv", "--out", "out.csv")
    assert result.stdout == "8 predictions in out.csv\n"
    header, *rows = Path("out.csv").read_text().splitlines()
    assert header == "path,label,confidence,class_0,class_1"
    assert [row.split(",")[0] for row in rows] == [
        *(f"photos/class_0/000{index}.{'png' if index % 2 else 'jpg'}" for index in range(6)),
        "photos/class_1/0001.png",
        "photos/class_1/0003.png",
    ]


def test_predictions_as_json_lines(run, cli):
    assert cli("predict", run, "photos").exit_code == 0
    lines = [json.loads(line) for line in Path("predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    for line in lines:
        assert line.keys() == {"path", "label", "confidence", "top"}
        assert line["top"][line["label"]] == line["confidence"] == max(line["top"].values())
        assert sum(line["top"].values()) == pytest.approx(1, abs=1e-5)


# --- the rest


def test_data_made_here_is_data_read_here(cli):
    result = cli("data", "make", "digits", "digits")
    assert "Wrote 1797 images to digits (1297 train, 200 val, 300 test)." in result.stdout
    result = cli("fit", "quickstart", "data.source=images", "data.root=digits", "--dry-run")
    assert "1,297 train, 200 val, 300 test" in result.stdout


def test_a_shown_recipe_is_a_recipe(cli):
    Path("mine.yaml").write_text(cli("recipes", "tiny.yaml", "seed=7").stdout)
    assert cli("recipes", "mine.yaml").stdout == cli("recipes", "tiny.yaml", "seed=7").stdout


def test_json_is_all_there_is_on_standard_output(run, cli):
    assert json.loads(cli("inspect", run, "--json").stdout)["parameters"] == 2498
    assert "problems" in json.loads(cli("doctor", "--json").stdout)


@pytest.mark.parametrize(
    "arguments",
    [("fit", "--frob"), ("frob",), ("evaluate",), ("predict", "run"), ("data", "make", "frob"), ("doctor", "x")],
)
def test_usage_errors_exit_with_2(cli, arguments):
    assert cli(*arguments).exit_code == 2


@pytest.mark.parametrize("arguments", [("--help",), ("fit", "-h"), ("--version",)])
def test_help_exits_with_0(cli, arguments):
    assert cli(*arguments).exit_code == 0


# --- real processes


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the command as a terminal does: in a process group of its own, which Ctrl-C reaches whole."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "80"}
    return subprocess.Popen(
        [sys.executable, "-m", "vision_train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, output and errors, once every process has ended: until then one holds the other end of a pipe."""
    try:
        output, errors = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, output, errors


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_the_package_is_the_command(place):
    code, output, errors = finish(start("--help"))
    assert (code, errors) == (0, "")
    assert "vision-train" in output
    assert "\x1b" not in output


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_keeps_the_last_checkpoint_and_resume_goes_on(place, cli, processes):
    epochs = 100 if processes == 1 else 30
    process = start(*FIT, f"trainer.max_epochs={epochs}", "--run-dir", "run", *(TWO if processes == 2 else ()))
    wait_for(Path("run/phases/fit/checkpoints/last.ckpt"), process)
    os.killpg(process.pid, signal.SIGINT)
    code, output, errors = finish(process)
    assert code == 130, errors
    assert errors.endswith("Interrupted.\n")
    assert "Traceback" not in errors
    assert "Stopped; epoch 1 is saved. Go on with: vision-train fit --resume run" in output
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["epoch"] < epochs - 1
    assert not Path("run/summary.json").exists()
    if processes == 1:
        assert cli("fit", "--resume", "run").exit_code == 0
        assert json.loads(Path("run/summary.json").read_text())["train/epochs"] == epochs


def test_two_processes_train_and_report_once(place):
    code, output, errors = finish(start(*FIT, *TWO))
    assert code == 0, errors
    assert output.count("epoch 1/1") == 1
    assert output.endswith("runs/tiny/0/report.html\n")
    assert [path.name for path in Path("runs/tiny").iterdir()] == ["0"]


def test_two_processes_stop_together_at_an_image_that_one_of_them_cannot_read(place):
    Path("photos/class_0/0001.png").write_bytes(b"")
    code, _, errors = finish(start(*FIT, *TWO, "data.batch_size=1", "trainer.max_epochs=2"))
    assert code == 2
    assert errors.count("Error") == 1
    assert f"Error: unreadable image {place}/photos/class_0/0001.png: the file is empty" in errors
    assert "Traceback" not in errors
    assert not list(Path().glob("runs/tiny/*"))
