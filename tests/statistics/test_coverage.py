"""The intervals over test samples cover the truth, as docs/statistics.md says: a hundred studies of each kind."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "studies" / "coverage.py"
spec = importlib.util.spec_from_file_location("coverage_study", SCRIPT)
coverage_study = importlib.util.module_from_spec(spec)
spec.loader.exec_module(coverage_study)
CASES = {case.title: case for case in coverage_study.CASES}


@pytest.mark.parametrize("title", ["accuracy, 100 groups of about 4", "AUROC, 100 bags", "AP, 200 images"])
def test_100_studies_of_400_resamples(title, monkeypatch):
    monkeypatch.setattr(coverage_study, "LARGE", 20_000)
    covered = coverage_study.coverage(CASES[title], studies=100, resamples=400, seed=1).ours
    assert covered >= 0.88  # at a coverage of 95 %, 99 times in 100
