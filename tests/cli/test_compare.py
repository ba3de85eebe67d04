"""``vision-train compare``: what is refused before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vision_train.cli import app


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("extends: quickstart\noptim: {lr: 0.01}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["quickstart"], "compare needs two recipes or more, got quickstart"),
        (["quickstart", "data.labels_per_class=5"], "compare needs two recipes or more"),
        (["quickstart", "quickstart"], "are the same recipe once resolved"),
        (["quickstart", "mine.yaml", "--seeds", "0"], "--seeds 0"),
        (["quickstart", "mine.yaml", "--grid", "data.labels_per_clas=1,2"], "did you mean data.labels_per_class?"),
        (["quickstart", "mine.yaml", "seed=4"], "--seeds"),
        (["quickstart", "mine.yaml", "--collect", "--out", "typo"], "--out typo: holds no study"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(place, arguments, says):
    before = sorted(place.rglob("*"))
    result = CliRunner().invoke(app, ["compare", *arguments])
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("Error") == 1
    assert sorted(place.rglob("*")) == before


def test_without_recipes_it_explains_itself(place):
    assert CliRunner().invoke(app, ["compare"]).exit_code == 2
    help_text = CliRunner().invoke(app, ["compare", "--help"]).stdout
    assert "RECIPE RECIPE... [KEY=VALUE]..." in help_text
    assert "--grid" in help_text


def test_a_refusal_does_not_wait_for_torch(place):
    code = (
        "import sys\nfrom vision_train.study.plan import make_plan\n"
        "make_plan(['quickstart', 'mine.yaml'], 2, None)\n"
        "print({'torch', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
