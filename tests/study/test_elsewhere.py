"""Studies whose runs are trained elsewhere: the commands of their runs, and which results are taken."""

import io
import json
import shlex
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.study.made_up_runs import ARMS, MadeUpRuns, accuracy, retold, table
from vision_train.cli import app
from vision_train.errors import UserError
from vision_train.files import write_json
from vision_train.recipe import load_recipe, write_recipe


def made_elsewhere(lines: list[str], train) -> None:
    """Bring the runs of emitted commands to their end, in the order of their lines."""
    for line in lines:
        program, *arguments = shlex.split(line, comments=True)
        assert (program, arguments[-1]) == ("vision-train", "--auto-resume")
        train(arguments[:-1], io.BytesIO())


def without_the_machine(table: dict) -> dict:
    return {key: value for key, value in table.items() if key not in ("command", "most_jobs")}


def test_what_was_emitted_and_collected_is_what_compare_finds(conduct, recipes):
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    options = {"seeds": 2, "pretraining": [(1, "pre.yaml")]}
    said = conduct(None, *ARMS, emitted=True, **options)
    lines = conduct.lines
    assert len(lines) == 2 * 3
    assert lines[2].endswith("# 3: mixed seed 0, after 2")
    assert "6 commands, in any order, at once if you like; those that say `after N` once" in said
    runs = MadeUpRuns(accuracy)
    made_elsewhere(lines[:-1], runs)
    with pytest.raises(UserError, match=r"1 of 6 runs have no result.*--emit(?s:.)*seed 1: not begun"):
        conduct(None, *ARMS, collected=True, **options)
    assert table()["runs"]["finished"] == 5
    assert json.loads(Path("study/study.json").read_text()).get("looks", []) == []
    conduct(None, *ARMS, emitted=True, **options)
    assert [line.partition("  #")[0] for line in conduct.lines] == [lines[-1].partition("  #")[0]]
    made_elsewhere(conduct.lines, runs)
    conduct(None, *ARMS, collected=True, **options)
    collected = table()
    conduct(None, *ARMS, emitted=True, **options)
    assert conduct.lines == []
    shutil.rmtree("study")
    conduct(MadeUpRuns(accuracy), *ARMS, **options)
    assert without_the_machine(collected) == without_the_machine(table())


def emit(conduct, *arms: str, **options) -> list[str]:
    conduct(None, *(arms or ARMS), emitted=True, **options)
    return conduct.lines


def test_a_run_that_was_trained_otherwise_is_refused_and_its_keys_are_named(conduct):
    lines = emit(conduct, seeds=2)
    by_script = [line.replace(" --run-dir", " trainer.max_epochs=1 --run-dir", 1) for line in lines[:1]]
    made_elsewhere([*by_script, *lines[1:]], MadeUpRuns(accuracy))
    with pytest.raises(UserError, match=r"1 of 4 runs were not trained as .*(?s:.)*plain seed 0: ") as error:
        conduct(None, *ARMS, seeds=2, collected=True)
    assert f"trainer.max_epochs is 1, in the study 40 ({Path.cwd() / 'study/runs/plain/0'})" in str(error.value)
    assert not Path("study/table.json").exists()
    shutil.rmtree("study/runs/plain/0")
    made_elsewhere(emit(conduct, seeds=2), MadeUpRuns(accuracy))
    conduct(None, *ARMS, seeds=2, collected=True)
    retold("study/runs/mixed/1", "seed=0", "data.labels_per_class=5")
    with pytest.raises(UserError, match=r"mixed seed 1: seed is 0, in the study 1; data.labels_per_class is 5"):
        conduct(None, *ARMS, seeds=2, collected=True)
    with pytest.raises(UserError, match="not trained as this study says"):
        conduct(MadeUpRuns(accuracy), *ARMS, seeds=2)


def test_a_job_that_read_the_recipe_before_it_was_edited_is_found_out(conduct):
    (queued, *_) = emit(conduct, seeds=1)
    read = load_recipe(shlex.split(queued)[2], ["seed=0"])
    Path("plain.yaml").write_text(Path("plain.yaml").read_text().replace("lr: 2.0e-3", "lr: 4.0e-3"))
    made_elsewhere(emit(conduct, seeds=1), MadeUpRuns(accuracy))
    write_recipe(Path("study/runs/plain/0/recipe.yaml"), read)
    with pytest.raises(UserError, match=r"plain seed 0: optim.lr is 0.002, in the study 0.004"):
        conduct(None, *ARMS, seeds=1, collected=True)


def test_a_run_of_another_fold_and_one_that_says_nothing_are_refused(conduct):
    options = {"seeds": 1, "folds": 2}
    made_elsewhere(emit(conduct, **options), MadeUpRuns(accuracy))
    conduct(None, *ARMS, collected=True, **options)
    retold("study/runs/plain/0/2", "data.fold.number=1")
    Path("study/runs/mixed/0/1/recipe.yaml").unlink()
    with pytest.raises(UserError, match=r"2 of 4 runs(?s:.)*mixed seed 0 fold 1: holds no recipe.yaml") as error:
        conduct(None, *ARMS, collected=True, **options)
    assert "plain seed 0 fold 2: data.fold.number is 1, in the study 2" in str(error.value)


def test_what_a_run_fills_in_itself_and_what_a_machine_needs_may_differ(conduct):
    """Values found for `auto`, the number format of the device, and workers."""
    keys = ("optim.lr=auto", "data.batch_size=auto", "trainer.precision=auto")
    made_elsewhere(emit(conduct, *ARMS, *keys, seeds=1), MadeUpRuns(accuracy))
    found = ["optim.lr=0.003", "data.batch_size=32", "trainer.accumulate_grad_batches=2"]
    for arm in ("plain", "mixed"):
        retold(f"study/runs/{arm}/0", *found, "trainer.precision=bf16-mixed", "data.workers=3")
    conduct(None, *ARMS, *keys, seeds=1, collected=True)
    for others, said in (
        ({"data.batch_size=16"}, "data.batch_size is 16, in the study 64; .*accumulate_grad_batches is 2"),
        ({"trainer.precision=16-mixed"}, "trainer.precision is `16-mixed`, in the study `auto`"),
        ({"trainer.limit_test_batches=1"}, "trainer.limit_test_batches is 1, in the study null"),
    ):
        before = Path("study/runs/mixed/0/recipe.yaml").read_text()
        retold("study/runs/mixed/0", *others)
        with pytest.raises(UserError, match=f"mixed seed 0: {said}"):
            conduct(None, *ARMS, *keys, seeds=1, collected=True)
        Path("study/runs/mixed/0/recipe.yaml").write_text(before)


def test_commands_name_what_only_the_end_of_a_start_writes(conduct):
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    options = {"seeds": 1, "pretraining": [(1, "pre.yaml")]}
    lines = emit(conduct, **options)
    first, second = (Path(shlex.split(line, comments=True)[-2]) for line in lines[1:])
    before = shlex.split(lines[2], comments=True)
    # The start is under way: it has the best of its epochs so far, and is not to be taken for it.
    (first / "checkpoints").mkdir(parents=True)
    (first / "checkpoints/best.ckpt").write_bytes(b"")
    refused = CliRunner().invoke(app, before[1:])
    assert refused.exit_code == 2
    assert f"a run writes this file as it ends: wait for the end of {first}, or" in refused.stderr
    assert not second.exists()
    shutil.rmtree(first)
    runs = MadeUpRuns(accuracy)
    made_elsewhere(lines, runs)
    shutil.rmtree(second)
    assert [line.partition("  #")[0] for line in emit(conduct, **options)] == [lines[2].partition("  #")[0]]


def test_a_result_that_began_before_its_start_had_ended_is_refused(conduct):
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    options = {"seeds": 1, "pretraining": [(1, "pre.yaml")]}
    lines = emit(conduct, **options)
    made_elsewhere(lines, MadeUpRuns(accuracy))
    start, run = (Path(shlex.split(line, comments=True)[-2]) for line in lines[1:])
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    began(start, noon)
    (start / "metrics.jsonl").write_text('{"phase": "fit", "epoch": 0, "step": 1, "time": 60.0}\n')
    for seconds, folder in ((59, False), (61, True)):
        began(run, noon + timedelta(seconds=seconds))
        retold(str(run), f"model.checkpoint={start if folder else start / 'weights.safetensors'}")
        conduct(None, *ARMS, collected=True, **options)
    began(run, noon + timedelta(seconds=59))
    with pytest.raises(UserError, match=r"mixed seed 0: began at 2026-01-01 12:00:59 UTC, before mixed pretrain had"):
        conduct(None, *ARMS, collected=True, **options)
    retold(str(run), f"model.checkpoint={run / 'weights.safetensors'}")
    with pytest.raises(UserError, match=r"mixed seed 0: model.checkpoint is "):
        conduct(None, *ARMS, collected=True, **options)


def began(run: Path, when: datetime) -> None:
    record = json.loads((run / "environment.json").read_text())
    write_json(run / "environment.json", record | {"began": when.isoformat()})


def test_a_figure_that_is_no_number_is_refused_by_file(conduct):
    made_elsewhere(emit(conduct, seeds=1), MadeUpRuns(accuracy))
    summary = Path("study/runs/plain/0/summary.json")
    write_json(summary, json.loads(summary.read_text()) | {"test/accuracy": "x"})
    with pytest.raises(UserError, match=r"plain/0/summary\.json: test/accuracy is 'x'.*restore"):
        conduct(None, *ARMS, seeds=1, collected=True)


def test_a_study_that_was_moved_knows_its_runs(conduct):
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    options = {"seeds": 1, "pretraining": [(1, "pre.yaml")]}
    lines = emit(conduct, **options)
    made_elsewhere(lines, MadeUpRuns(accuracy))
    start, run = (Path(shlex.split(line, comments=True)[-2]) for line in lines[1:])
    moved = Path("/elsewhere/study", start.relative_to(Path.cwd() / "study"), "weights.safetensors")
    retold(str(run), f"model.checkpoint={moved}")
    conduct(None, *ARMS, collected=True, **options)


def test_a_run_that_measured_nothing_has_no_command_and_its_folder_is_named(conduct):
    made_elsewhere(emit(conduct, seeds=1), MadeUpRuns(lambda name, seed: None if name == "mixed" else 0.5))
    folder = Path.cwd() / "study/runs/mixed/0"
    said = conduct(None, *ARMS, seeds=1, emitted=True)
    assert conduct.lines == []
    assert f"mixed seed 0: has no command, as it measured no finite test/accuracy; delete {folder} to train it" in said
    assert "every run is finished" not in said
    with pytest.raises(UserError, match=rf"mixed seed 0: measured no finite test/accuracy; delete {folder} to train"):
        conduct(None, *ARMS, seeds=1, collected=True)
    shutil.rmtree(folder)
    assert len(emit(conduct, seeds=1)) == 1
