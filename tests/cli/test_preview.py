"""`vision-train preview`: one picture, or one message before anything is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from vision_train.cli import app
from vision_train.files import OUTPUT_MARK, written_names
from vision_train.report.preview_sheet import BELOW, SIDE

SMALL = ["data.batch_size=8", "model.args.embed_dim=24", "model.args.depth=1"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def preview(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["preview", *arguments], catch_exceptions=False)


def test_draws_a_picture_and_says_what_it_shows():
    result = preview("quickstart", *SMALL, "--count", "3")
    assert result.exit_code == 0, result.output
    assert Image.open("preview.png").height > 3 * (SIDE + BELOW)
    first, second = result.stdout.splitlines()[-2:]  # behind what is said of work that takes long
    assert first == "preview.png"
    assert second.startswith("3 training ")
    assert {*Path().iterdir()} == {Path("preview.png"), Path(OUTPUT_MARK)}
    assert written_names(Path()) == {"preview.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["quickstart", "--out", "p.txt"],
            "--out p.txt: is no picture that can be written; end it in .png, .jpg, .jpeg",
        ),
        (["quickstart", "--out", "p"], "--out p: is no picture that can be written"),
        (["quickstart", "--out", "folder.png"], "--out folder.png: is a folder; name a file"),
        (["quickstart", "--out", "file/p.png"], "file: cannot be written"),
        (["quickstart", "--out", "file/deeper/p.png"], "deeper: cannot be written"),
        (["quickstart", "--count", "0"], "--count 0: must lie between 1 and 64"),
        (["quickstart", "--count", "65"], "--count 65: must lie between 1 and 64"),
        (["quikstart"], "did you mean quickstart?"),
        (["quickstart", "data.bacth_size=3"], "did you mean"),
        (["classification/vit_small"], "data.root: no images named; set data.root=FOLDER"),
        (["classification/vit_small", "data.root=nowhere"], "no such folder"),
        (["quickstart", "model.checkpoint=nowhere.pth"], "nowhere.pth"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(place: Path, arguments: list[str], message: str):
    (place / "file").touch()
    (place / "folder.png").mkdir()
    result = preview(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert result.stdout == ""
    assert sorted(map(str, Path().iterdir())) == ["file", "folder.png"]


def test_images_of_pretraining_are_shown_augmented():
    result = preview("droppos/digits", "model.args.embed_dim=24", "model.args.depth=1", "--count", "2")
    assert result.exit_code == 0, result.output
    assert Image.open("preview.png").height > 2 * (SIDE + BELOW)
    assert result.stdout.splitlines()[0] == "preview.png"


@pytest.mark.parametrize("recipe", ["acmil/digit_bags"])
def test_data_that_are_no_images_are_refused(recipe: str):
    result = preview(recipe)
    assert result.exit_code == 2
    assert "task=bags" in result.stderr
    assert not Path("preview.png").exists()


def test_the_help_is_light():
    probe = "import sys; from vision_train.cli import preview; assert not {'torch', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], check=True)
