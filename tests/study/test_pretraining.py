"""A pre-training run that arms share does what the pre-training phase of an ordinary run would have done."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.recipe import load_recipe
from vision_train.run.fit import fit
from vision_train.study.execution import fit_arguments
from vision_train.study.plan import Draw, make_plan
from vision_train.study.resolved import resolve_arms
from vision_train.study.runs import Run
from vision_train.study.study import Study

ROUNDS = "data: {unlabelled: rest}\nsemi: {method: active_rounds, burn_in: 0.3, views: 0, rounds: {count: 1}}\n"
SMALL = "model: {args: {embed_dim: 24, depth: 1}}\noptim: {warmup_epochs: 0}\ntrainer: {max_epochs: 2}\n"


def train(run: Run) -> dict[str, float]:
    if run.start:
        train(run.start)
    _, recipe, *overrides, _, folder = fit_arguments(run)
    fit(load_recipe(recipe, overrides), run_dir=Path(folder), command=[], console=Console(quiet=True))
    return json.loads((run.folder / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", ROUNDS])
def test_an_arm_that_starts_from_a_shared_run_repeats_one_with_a_phase_of_its_own(recipes, more):
    torch.set_num_threads(1)
    Path("first.yaml").write_text(f"extends: plain.yaml\n{SMALL}")
    Path("second.yaml").write_text(f"extends: plain.yaml\n{SMALL}{more}run: {{pretrain: first.yaml}}\n")
    plan = make_plan(["first.yaml", "second.yaml"], 3, None)
    study = Study(Path("study ${of} [odd]=name").absolute(), plan, resolve_arms(plan))
    with study.opened("vision-train compare ..."):
        shared = train(study.run(arm=1, cell=0, draw=Draw(2)))
    own = fit(load_recipe("second.yaml", ["seed=2"]), run_dir=Path("own"), command=[], console=Console(quiet=True))
    whole = json.loads(own.summary.read_text())
    clock = {"train/samples_per_second", "train/data_wait", "train/seconds", "train/peak_memory_bytes"}
    of_all_phases = {"run/steps", "run/samples", "run/seconds"}
    compared = shared.keys() - clock - of_all_phases
    assert {key: shared[key] for key in compared} == {key: whole[key] for key in compared}
    assert shared.keys() == whole.keys()
    assert shared["checkpoint/matched_share"] == 1.0
