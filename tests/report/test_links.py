"""Where a report leads: files of its run, and the run that it started from."""

from pathlib import Path

import pytest

from vision_train.report.links import Link, files_of, started_from
from vision_train.report.record import RunRecord


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in ("first run", "second"):
        folder = tmp_path / name / "checkpoints"
        folder.mkdir(parents=True)
        (folder / "best.ckpt").touch()
        (folder.parent / "report.html").touch()
        (folder.parent / ".lock").touch()
    return tmp_path


def start(folder: Path, checkpoint) -> list[Link]:
    return started_from(RunRecord(folder, recipe={"model": {"checkpoint": checkpoint}}))


@pytest.mark.parametrize("place", ["first run", "first run/checkpoints/best.ckpt"])
def test_a_run_or_a_checkpoint_of_one_leads_to_its_report(runs, place):
    (link,) = start(runs / "second", str(runs / place))
    assert link == Link(str(runs / "first run"), "../first%20run/report.html")


def test_a_file_leads_to_itself_and_a_name_to_nothing(runs):
    file = runs / "weights.pt"
    file.touch()
    assert start(runs / "second", str(file)) == [Link(str(file), "../weights.pt")]
    assert start(runs / "second", "timm/vit_small") == [Link("timm/vit_small")]
    assert start(runs / "second", None) == []
    assert start(runs / "second", {"visual": str(file), "text": None}) == [Link(f"visual: {file}", "../weights.pt")]


def test_files_are_those_that_are_there_but_for_hidden_ones_and_the_page(runs):
    record = RunRecord(runs / "second", summary={"test/accuracy": 1.0})
    assert [link.text for link in files_of(record)] == ["checkpoints/", "summary.json", "checkpoints/best.ckpt"]
