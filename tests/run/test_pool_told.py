"""What a dry run, a run and a preview say of the pool before the first step."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from vision_train.recipe import Recipe, load_recipe
from vision_train.run.dry_run import dry_run
from vision_train.run.fit import fit
from vision_train.run.preview import preview

SEMI = """
extends: semi/digits
data: {labels_per_class: 4, batch_size: 16, splits: {val: 0.1, test: 0.1}, epoch_batches: 3}
model: {args: {embed_dim: 16, depth: 1}}
optim: {warmup_steps: 2}
semi: {burn_in: 0.3, threshold: 0.8, rounds: {count: 2}}
trainer: {max_steps: 12, check_val_every_n_epoch: 1}
"""
UNUSED = "note: semi.method={} does not use semi.threshold=0.8"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a recipe with a pool, whose runs take seconds; the working directory is a fresh one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pool.yaml").write_text(SEMI)

    def make(*overrides: str) -> Recipe:
        return load_recipe("pool.yaml", overrides)

    return make


def lines(text: str, key: str) -> list[str]:
    """What a dry run says under a key, phase by phase."""
    return [line.removeprefix(key).strip() for line in text.splitlines() if line.startswith(f"{key} ")]


def test_keys_that_the_method_does_not_use_are_told_once(recipe):
    asked = recipe("semi.method=active_rounds", "semi.views=1")
    printed = [Console(file=io.StringIO(), width=300) for _ in range(2)]
    fit(asked, run_dir=None, command=[], console=printed[0])
    preview(asked, Path("p.png"), count=1, console=printed[1])
    for text in (*(console.file.getvalue() for console in printed), dry_run(asked)):
        assert text.splitlines().count(UNUSED.format("active_rounds")) == 1


def test_a_dry_run_says_in_which_step_the_pool_is_first_used_and_why(recipe):
    (told,) = lines(dry_run(recipe("semi.rounds.count=4")), "pool")
    assert told == "used from epoch 3 on, after 6 of 12 steps on labelled images alone (semi.burn_in=0.3)"
    console = Console(file=io.StringIO(), width=300)
    fit(recipe("semi.burn_in=null"), run_dir=None, command=[], console=console)
    assert "the pool is used from epoch 2 on, after 3 of 12 steps" in console.file.getvalue()
    assert "(semi.burn_in=null: 0.25 of the steps from random weights)" in console.file.getvalue()
    assert lines(dry_run(recipe("semi.method=none", "data.unlabelled=null")), "pool") == []


def test_a_dry_run_says_which_phases_learn_from_the_pool(recipe):
    rounds = dry_run(recipe("semi.method=active_rounds", "semi.views=1", "semi.burn_in=null"))
    assert lines(rounds, "pool") == [
        "not used in this phase (semi.burn_in=null: 0.25 of the steps from random weights)",
        "labelled before the first step by phase round-1; batch, memory and time here are without these images",
    ]
    voted = dry_run(recipe("semi.method=self_training", "semi.voters=2", "semi.views=1"))
    assert lines(voted, "pool")[-1].startswith("labelled before the first step by phase burn-in, phase voter-2; ")
    without = dry_run(recipe("semi.method=self_training", "semi.weight=0", "semi.views=1"))
    assert lines(without, "pool") == ["never used (semi.weight=0)"] * 2
