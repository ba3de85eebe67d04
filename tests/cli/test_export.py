"""``vision-train export`` on the command line: help, and mistakes that end with 2 and leave nothing."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vision_train.cli import app


def test_the_help_shows_examples_and_formats():
    result = CliRunner().invoke(app, ["export", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "torch-export" in result.stdout
    assert "vision-train export runs/relation_detr/shapes/0" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["absent"], "absent"), (["absent", "--format", "caffe"], "--format caffe")],
)
def test_mistakes_end_with_2_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["export", *arguments])
    assert result.exit_code == 2
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert [*tmp_path.iterdir()] == []
