"""What a run finds on the machine that trains it: `data.batch_size=auto` and `optim.lr=auto`."""

import io
import json
import re
import signal
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vision_train.artefacts import Curve
from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe
from vision_train.run import largest_batch as batches
from vision_train.run import phase
from vision_train.run.automatic import settle_automatic
from vision_train.run.directory import PASSED_ON, RunDirectory
from vision_train.run.dry_run import dry_run
from vision_train.run.fit import fit, resume
from vision_train.run.largest_batch import largest_batch, parts_of, tried_for
from vision_train.run.range_test import HIGHEST, LOWEST, STEPS, RangeTest, find_rate, judged
from vision_train.tasks.classification.task import ClassificationTask

QUIET = Console(quiet=True)
# Nothing that depends on which samples are in a batch together.
SAME = (
    "augment.mixing={maskmix: 0, mixup: 0, cutmix: 0, labels: area}",
    *("model.args.drop_path_rate=0", "model.args.proj_drop_rate=0", "trainer.max_epochs=2"),
)


def losses_of(run: Path) -> list[float]:
    return [line["val/loss"] for line in read_metrics(run / "metrics.jsonl") if "val/loss" in line]


def of_gpu() -> None:
    raise torch.OutOfMemoryError("out of memory")


def of_processor() -> torch.Tensor:
    """Asks for more than any processor can address, and is refused in torch's own words."""
    return torch.empty(2**60, dtype=torch.uint8)


def of_numpy() -> np.ndarray:
    return np.empty(2**60, dtype=np.uint8)


@pytest.fixture
def room_for(monkeypatch):
    """Let training run out of memory with more samples than this in a batch."""

    def limit(most: int, fail: Callable[[], object] = of_gpu) -> None:
        original = ClassificationTask.training_step

        def training_step(self, batch, index):
            if len(batch["label"]) > most:
                fail()
            return original(self, batch, index)

        monkeypatch.setattr(ClassificationTask, "training_step", training_step)

    return limit


@pytest.mark.parametrize(
    ("effective", "expected"),
    [
        (1, [1]),
        (2, [2]),
        (3, [3]),
        (16, [2, 4, 8, 16]),
        (48, [2, 4, 6, 12, 24, 48]),
        (50, [2, 10, 50]),
        (45, [3, 5, 9, 15, 45]),
        (61, [61]),
    ],
)
def test_parts_divide_the_effective_batch(effective, expected):
    assert parts_of(effective) == expected


def test_the_largest_part_that_fits_is_taken_and_the_effective_batch_stays(tiny, room_for):
    room_for(10)
    recipe, tried = largest_batch(load_recipe(tiny, ["trainer.accumulate_grad_batches=2"]))
    assert (recipe.data.batch_size, recipe.trainer["accumulate_grad_batches"]) == (8, 8)
    assert [(each.batch, each.bytes is None) for each in tried] == [(2, False), (4, False), (8, False), (16, True)]


@pytest.mark.parametrize(
    ("effective", "expected"), [(1, [1]), (3, [2, 3]), (16, [2, 4, 8, 16]), (61, [2, 4, 8, 16, 32, 61])]
)
def test_a_small_batch_is_tried_before_a_large_one(effective, expected):
    assert tried_for(parts_of(effective)) == expected


@given(st.integers(min_value=1, max_value=5000))
def test_what_is_tried_holds_all_parts_and_never_grows_far_at_once(effective):
    tried = tried_for(parts_of(effective))
    assert {*parts_of(effective)} <= {*tried}
    assert tried[0] <= 2
    assert all(one < other < 3 * one for one, other in pairwise(tried))


@pytest.mark.parametrize("fail", [of_processor, of_numpy])
def test_too_little_memory_of_a_processor_ends_the_search_as_that_of_a_gpu_does(tiny, room_for, fail):
    room_for(5, fail)
    recipe, tried = largest_batch(load_recipe(tiny, ["data.batch_size=8"]))
    assert (recipe.data.batch_size, [each.bytes is None for each in tried]) == (4, [False, False, True])


def test_other_errors_are_no_lack_of_memory(tiny, room_for):
    room_for(2, lambda: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        largest_batch(load_recipe(tiny))


def test_a_batch_without_a_part_that_fits_is_refused_with_one_that_has(tiny, room_for):
    room_for(5)
    with pytest.raises(UserError, match=r"4 samples fit.*not 13,.*of the 13 of a step.*data\.batch_size=8"):
        largest_batch(load_recipe(tiny, [*SAME, "data.batch_size=13"]))


def test_a_part_is_not_tried_that_would_take_more_than_is_free(tiny, monkeypatch):
    peaks = iter([2**40, 2 * 2**40])  # of two and of four samples; what is in use is little beside it
    monkeypatch.setattr(batches, "peak_memory", lambda: next(peaks))
    monkeypatch.setattr(batches, "memory_free", lambda device: 3 * 2**40)
    recipe, tried = largest_batch(load_recipe(tiny))
    assert [each.batch for each in tried] == [2, 4]  # eight would take four, of which there are three
    assert recipe.data.batch_size == 4


def test_no_room_for_any_is_refused_with_the_remedy(tiny, room_for):
    room_for(1)
    with pytest.raises(UserError, match=r"data\.batch_size=auto.*2 samples.*model\.name"):
        largest_batch(load_recipe(tiny))


def test_a_run_learns_from_parts_what_it_would_from_whole_batches(tiny, room_for):
    whole = fit(load_recipe(tiny, SAME), run_dir=Path("whole"), command=[], console=QUIET).path
    room_for(10)
    said = io.StringIO()
    console = Console(file=said, width=1000)
    run = fit(load_recipe(tiny, [*SAME, "data.batch_size=auto"]), run_dir=Path("run"), command=[], console=console)
    kept = load_recipe(run.recipe)
    assert (kept.run.automatic, kept.data.batch_size, kept.trainer["accumulate_grad_batches"]) == ([], 8, 4)
    assert "data.batch_size=auto: 8, of which 4 are accumulated to 32" in said.getvalue()
    assert "not enough memory for 16" in said.getvalue()
    losses = [
        [line["val/loss"] for line in read_metrics(path / "metrics.jsonl") if "val/loss" in line]
        for path in (whole, run.path)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_the_rate_is_a_third_of_that_with_the_smallest_loss():
    rates = [10 ** (place / 10 - 6) for place in range(70)]
    # Falls evenly to 1e-2 and rises from there on.
    losses = [2 - place / 40 if place <= 40 else 1 + (place - 40) / 5 for place in range(70)]
    chosen = judged(rates, losses)
    assert 2e-3 < chosen < 5e-3
    found = RangeTest(rates, losses, losses, chosen, "a step had 8 samples")
    curve = found.curve()
    assert isinstance(curve, Curve)
    (changes,) = curve.lines.values()
    assert len(curve.x) == len(changes) < len(rates)  # what rose far above the start would hide what fell
    assert max(changes) <= -min(changes)
    ((name, (place, _)),) = curve.marks.items()
    assert f"{found.chosen:.2g}" in name
    assert place == pytest.approx(torch.log10(torch.tensor(found.chosen)).item(), abs=1e-3)


def test_a_loss_that_never_falls_says_nothing():
    with pytest.raises(UserError, match=r"optim\.lr=auto.*fell from 2 .*set optim\.lr to a number"):
        judged([1e-6] * 20, [2.0] * 19 + [2.1])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_ctrl_c_while_memory_is_freed_comes_after_it_whichever_thread_takes_it(monkeypatch, elsewhere):
    def collect():
        thread = threading.Thread(target=signal.raise_signal, args=(signal.SIGINT,))
        if elsewhere:
            thread.start()
            thread.join()
        else:
            thread.run()
        freed.append(True)

    monkeypatch.setattr(batches.gc, "collect", collect)
    monkeypatch.setattr(batches, "_train_twice", lambda recipe: 0)
    before, freed = signal.signal(signal.SIGINT, signal.default_int_handler), []
    try:
        with pytest.raises(KeyboardInterrupt):
            batches._two_steps(load_recipe("quickstart"), 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert freed == [True]


def test_noise_that_happens_to_fall_at_first_is_no_fall():
    scattered = np.random.default_rng(0).normal(0.45, 0.05, 60)
    rates = [10 ** (place / 10 - 6) for place in range(80)]
    with pytest.raises(UserError, match=r"optim\.lr=auto.*noise; set optim\.lr to a number"):
        judged(rates, [*scattered, *np.linspace(0.5, 5, 20)])
    learning = [*scattered[:30], *(scattered[30:] - np.linspace(0, 0.3, 30)), *np.linspace(0.5, 5, 20)]
    assert judged(rates, learning) > 1e-4


@pytest.mark.parametrize("finite", [0, 5, 10])
def test_a_loss_that_is_not_finite_from_the_first_steps_on_is_said(tiny, monkeypatch, finite):
    original = ClassificationTask.training_step

    def training_step(self, batch, index):
        loss = original(self, batch, index)
        return loss if self.trainer.global_step < finite else loss * float("nan")

    monkeypatch.setattr(ClassificationTask, "training_step", training_step)
    with pytest.raises(UserError, match=rf"optim\.lr=auto.*no finite number in step {finite + 1} .*number"):
        find_rate(load_recipe(tiny, SAME))


def test_a_test_ends_within_an_epoch_however_long_that_is(tiny, monkeypatch):
    """Its rates would grow beyond the highest, where the loss does not: here it falls all the way."""
    original = ClassificationTask.training_step

    def training_step(self, batch, index):
        return original(self, batch, index) * 0 + 1 / (1 + self.trainer.global_step)

    monkeypatch.setattr(ClassificationTask, "training_step", training_step)
    _, test = find_rate(
        load_recipe(tiny, [*SAME, "data.batch_size=2", "data.labels_per_class=12"])
    )  # 60 steps an epoch
    assert len(test.rates) == STEPS
    assert test.rates[-1] == pytest.approx(HIGHEST)


@pytest.mark.parametrize(
    ("reference", "said"),
    [("null", "the same rate"), ("64", r"applied to them is (.*); .* 64, at a rate of (.*) \(optim.*64\)")],
)
def test_a_rate_belongs_to_the_batch_of_its_test(tiny, monkeypatch, reference, said):
    """That of one process, whatever the run has."""
    seen = []
    original = ClassificationTask.training_step

    def training_step(self, batch, index):
        seen.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return original(self, batch, index)

    monkeypatch.setattr(ClassificationTask, "training_step", training_step)
    two = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu")
    recipe, test = find_rate(load_recipe(tiny, [*SAME, *two, f"optim.lr_reference_batch={reference}"]))
    factor = 1 if reference == "null" else 32 / 64
    assert seen == pytest.approx([rate * factor for rate in test.rates])
    assert "a step had 32 samples" in test.batch
    assert (found := re.search(said, test.batch))
    assert [float(rate) for rate in found.groups()] == pytest.approx(
        [recipe.optim.lr / 2, recipe.optim.lr] if found.groups() else [], rel=0.05
    )
    assert test.batch in test.curve().note
    assert recipe.trainer["devices"] == 2


def test_rates_grow_evenly_and_groups_keep_their_proportions(tiny, monkeypatch):
    seen = []
    original = ClassificationTask.training_step

    def training_step(self, batch, index):
        seen.append([group["lr"] / group["initial_lr"] for group in self.trainer.optimizers[0].param_groups])
        return original(self, batch, index)

    monkeypatch.setattr(ClassificationTask, "training_step", training_step)
    groups = ("optim.lr_factors={'head.bias': 0.5}", "optim.min_lr=1e-5", "model.freeze_first={epochs: 1}")
    recipe, test = find_rate(load_recipe(tiny, [*SAME, *groups]))
    assert all(max(factors) == pytest.approx(min(factors)) for factors in seen)
    assert len(seen[0]) > 1
    assert test.rates[0] == pytest.approx(LOWEST)
    assert test.rates[1] / test.rates[0] == pytest.approx(test.rates[-1] / test.rates[-2])
    assert len(test.rates) == len(test.losses) <= STEPS
    written = load_recipe(tiny)
    assert recipe.optim.min_lr / recipe.optim.lr == pytest.approx(1e-5 / written.optim.lr)
    assert recipe.model.freeze_first is not None


def test_a_run_keeps_the_rate_that_it_found_and_its_report_the_test(tiny, monkeypatch):
    def stop(network):
        raise RuntimeError("before the test")

    with monkeypatch.context() as patch:
        patch.setattr(phase, "remove_adapters", stop)
        with pytest.raises(RuntimeError, match="before the test"):
            fit(load_recipe(tiny, [*SAME, "optim.lr=auto"]), run_dir=Path("run"), command=[], console=QUIET)
    kept = load_recipe(Path("run/recipe.yaml"))
    assert kept.run.automatic == []
    assert kept.optim.lr != load_recipe(tiny).optim.lr
    run = resume(Path("run"), console=QUIET)
    assert load_recipe(run.recipe).optim.lr == kept.optim.lr
    rates = [line["lr"] for line in read_metrics(run.path / "metrics.jsonl") if "lr" in line]
    assert max(rates) <= kept.optim.lr * (1 + 1e-9)
    assert json.loads((run.path / "artefacts" / "range_test.json").read_text())["x"][-1] > -4
    assert "Range test of the learning rate" in (run.path / "report.html").read_text()


@pytest.mark.parametrize("asked", ["auto", "0.01"])
def test_nobody_is_warned_of_a_rate_that_was_found(tiny, asked):
    """Scaled by the batch it is far from what the recipe keeps, and it was found so: only what was typed is doubted."""
    said = io.StringIO()
    recipe = load_recipe(tiny, [*SAME, "trainer.max_epochs=1", f"optim.lr={asked}", "optim.lr_reference_batch=512"])
    run = fit(recipe, run_dir=Path("run"), command=[], console=Console(file=said, width=1000))
    for text in (said.getvalue(), dry_run(recipe)):
        assert ("take the rate as written" in text) == (asked != "auto")
        assert asked != "auto" or re.search(r"optim\.lr=auto: .* the rate applied to them is [\d.e-]+ \(", text)
    (run.phase("fit") / "phase.json").unlink()
    run.summary.unlink()
    again = io.StringIO()
    resume(run.path, console=Console(file=again, width=1000))
    assert ("take the rate as written" in again.getvalue()) == (asked != "auto")


def test_a_dry_run_says_what_was_found(tiny, room_for):
    room_for(20)
    text = dry_run(load_recipe(tiny, [*SAME, "data.batch_size=auto", "optim.lr=auto"]))
    assert "data.batch_size=auto: 16" in text
    assert "optim.lr=auto: " in text
    assert not list(Path.cwd().glob("runs"))


BATCH, RATE = "data.batch_size=auto", "optim.lr=auto"


@pytest.mark.parametrize("left_open", [(BATCH,), (RATE,), (BATCH, RATE)], ids=["batch", "rate", "both"])
def test_a_process_that_another_one_started_takes_what_that_found(tiny, monkeypatch, left_open):
    recipe = load_recipe(tiny, [*SAME, *left_open])
    first = fit(recipe, run_dir=Path("run"), command=[], console=QUIET)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv(PASSED_ON, str(first.path))
    monkeypatch.setattr("vision_train.run.automatic.largest_batch", None)
    monkeypatch.setattr("vision_train.run.automatic.find_rate", None)
    theirs, kept = settle_automatic(recipe).recipe, load_recipe(RunDirectory(first.path).recipe)
    assert theirs.optim == kept.optim
    assert theirs.run == kept.run
    assert theirs.data.batch_size == kept.data.batch_size
    # A recipe that leaves only the rate open says nothing of accumulation.
    assert theirs.trainer == kept.trainer


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_NTASKS"])
def test_processes_of_a_launcher_are_refused(tiny, monkeypatch, name):
    monkeypatch.setenv(name, "2")
    with pytest.raises(UserError, match=r"optim\.lr.*2 processes.*--dry-run"):
        settle_automatic(load_recipe(tiny, ["optim.lr=auto"]))


def test_several_machines_are_refused_without_a_launcher_too(tiny):
    with pytest.raises(UserError, match=r"optim\.lr.*several machines.*--dry-run"):
        settle_automatic(load_recipe(tiny, ["optim.lr=auto", "trainer.num_nodes=2", "trainer.strategy=ddp"]))


def test_a_recipe_that_comes_first_may_leave_nothing_open(tiny):
    Path("first.yaml").write_text(f"extends: {tiny}\noptim: {{lr: auto}}\n")
    with pytest.raises(UserError, match=r"run\.pretrain=.*first\.yaml.*optim\.lr"):
        dry_run(load_recipe(tiny, ["run.pretrain=first.yaml"]))
