"""Intervals cover the truth, as docs/statistics.md says: a hundred studies of each kind, two hundred of folds."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

STUDIES = Path(__file__).parents[2] / "docs" / "studies"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_study", STUDIES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


coverage_study, folds_study = script("coverage"), script("folds")
CASES = {case.title: case for case in coverage_study.CASES}


@pytest.mark.parametrize("title", ["accuracy, 100 groups of about 4", "AUROC, 100 bags", "AP, 200 images"])
def test_100_studies_of_400_resamples(title, monkeypatch):
    monkeypatch.setattr(coverage_study, "LARGE", 20_000)
    covered = coverage_study.coverage(CASES[title], studies=100, resamples=400, seed=1).ours
    assert covered >= 0.88  # at a coverage of 95 %, 99 times in 100


@pytest.mark.parametrize("partly", [{"validation": 0.4}, {"validation": 0.1, "drawn": 10}])
def test_folds_raise_no_more_false_alarms_where_runs_learn_from_a_part_of_what_is_not_tested(partly):
    case = folds_study.Case(100, 5, 5, **partly)
    corrected, by_learnt, plain = folds_study.shares_found(200, 1, case)
    assert by_learnt <= corrected <= 0.08  # at 5 %, 97 times in 100
    assert plain > 0.25
