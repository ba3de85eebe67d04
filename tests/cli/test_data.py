"""``vision-train data``: the commands that the kinds of data add."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vision_train.cli import app


def test_the_commands_of_each_kind_are_offered() -> None:
    def commands(*words: str) -> str:
        return CliRunner().invoke(app, ["data", *words, "--help"]).stdout

    assert all(name in commands() for name in ("make", "repack", "embed"))
    assert all(name in commands("make") for name in ("digits", "digit_bags"))


def test_digits_are_made_with_the_command_that_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(app, ["data", "make", "digits", "scans"])
    assert made.stdout.splitlines() == [
        "Wrote 1797 images to scans (1297 train, 200 val, 300 test).",
        "Next: vision-train fit quickstart data.source=images data.root=scans",
    ]
    assert len(list(Path("scans/test").rglob("*.png"))) == 300
    again = CliRunner().invoke(app, ["data", "make", "digits", "scans"])
    assert again.exit_code == 2
    assert "scans exists and is not an empty folder" in again.stderr
