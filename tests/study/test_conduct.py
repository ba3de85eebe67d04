"""Whole studies of made-up runs: what is trained, repeated and left out, and what is said and written."""

import errno
import json
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.study.made_up_runs import (
    ARMS,
    ITEMS,
    MadeUpRuns,
    accuracy,
    begin_run,
    phase,
    study_of,
    table,
    write_run,
)
from vision_train.errors import UserError
from vision_train.locks import take
from vision_train.progress import Work
from vision_train.recipe import load_recipe
from vision_train.study import execution
from vision_train.study.processes import lock_of
from vision_train.study.results import _environment
from vision_train.study.study import Study


def test_seeds_alternate_between_the_arms_and_leave_every_file(conduct):
    runs = MadeUpRuns(accuracy)
    said = conduct(runs, *ARMS)
    assert runs.trained == [(name, seed) for seed in range(3) for name in ("plain", "mixed")]
    assert {path.name for path in Path("study").iterdir() if path.is_file()} >= {
        *("table.md", "table.json", "plot.png", "compare.html", "study.json"),
    }
    assert "plain seed 0 (1 of 3)  test accuracy 50.0 %" in said
    assert said.count("left") == 5
    assert said.splitlines()[-1] == "study/compare.html"


def test_what_runs_warned_of_is_told_once_an_arm(conduct):
    """A warning has the numbers of the first seed, and names all arms that share it."""

    def warnings(name: str, seed: int) -> list[str]:
        guesses = {"plain": seed < 2, "mixed": False, "fast": seed == 1}[name]
        guessing = [f"accuracy on test is {40 + seed}.{len(name)} %, which could be guessing"] if guesses else []
        return ["2 optimiser steps in all are few", *guessing]

    said = conduct(MadeUpRuns(accuracy, warnings=warnings), *ARMS, "fast.yaml")
    told = [
        "Warning of plain (3 of 3 runs) and mixed (3 of 3 runs) and fast (3 of 3 runs): 2 optimiser steps in all are "
        "few.",
        "Warning of plain (2 of 3 runs): accuracy on test is 40.5 %, which could be guessing.",
        "Warning of fast (1 of 3 runs): accuracy on test is 41.4 %, which could be guessing.",
    ]
    assert [line for line in said.splitlines() if line.startswith("Warning")] == told
    for file in ("table.md", "compare.html"):
        text = Path("study", file).read_text()
        assert all(text.count(warning) == 1 for warning in told)
    assert table()["cautions"][:3] == told


def test_what_pretraining_warned_of_is_told_beside_it(conduct):
    said = conduct(
        MadeUpRuns(accuracy, warnings=lambda name, seed: ["few steps"] * (name == "fast")),
        *ARMS,
        pretraining=[(1, "fast.yaml")],
    )
    assert "Warning of mixed pretrain (3 of 3 runs): few steps." in said


def test_runs_are_paired_by_seed(conduct):
    conduct(MadeUpRuns(accuracy), *ARMS)
    (cell,) = table()["cells"]
    (comparison,) = cell["comparisons"]
    assert comparison["difference"] == pytest.approx((0.1 + 0.11 + 0.12) / 3)
    assert comparison["verdict"] == "better"
    assert comparison["wins"] == 3
    assert cell["arms"][1]["values"] == {"0": 0.6, "1": 0.66, "2": 0.72}
    assert cell["arms"][1]["runs"]["2"] == "runs/mixed/2"
    low, high = comparison["item_interval"].values()
    assert low < comparison["difference"] < high


def test_seeds_with_test_items_of_their_own_cover_these(conduct):
    conduct(MadeUpRuns(accuracy, items=lambda seed: [f"{seed} {item}" for item in ITEMS]), *ARMS)
    (comparison,) = table()["cells"][0]["comparisons"]
    assert (comparison["own_samples"], comparison["item_interval"]) == (True, None)
    assert comparison["verdict"] == "better"
    assert "each seed has test images of its own" in comparison["sentence"]
    assert "| covered |" in Path("study/table.md").read_text()


def test_of_test_items_that_only_some_seeds_have_in_common_nothing_is_known(conduct):
    conduct(MadeUpRuns(accuracy, items=lambda seed: [f"{seed // 2} {item}" for item in ITEMS]), *ARMS)
    (comparison,) = table()["cells"][0]["comparisons"]
    assert (comparison["own_samples"], comparison["item_interval"]) == (False, None)
    assert comparison["verdict"] == "ahead"
    assert "over the images unknown" in comparison["sentence"]


@pytest.mark.parametrize(("own", "verdict"), [(False, "ahead"), (True, "better")])
def test_a_metric_without_items_is_judged_by_seeds_that_have_test_items_of_their_own(conduct, own, verdict):
    def train(arguments, log):
        code = runs(arguments, log)
        file = Path(arguments[-1], "artefacts", "test_items.json")
        file.write_text(file.read_text().replace('"accuracy"', '"loss"'))
        return code

    runs = MadeUpRuns(accuracy, items=lambda seed: [f"{seed if own else 0} {item}" for item in ITEMS])
    conduct(train, *ARMS)
    assert table()["cells"][0]["comparisons"][0]["verdict"] == verdict


def test_a_second_call_trains_nothing_and_more_seeds_and_arms_are_added(conduct):
    conduct(MadeUpRuns(accuracy), *ARMS, seeds=2)
    again = MadeUpRuns(accuracy)
    assert "4 of 4 runs are finished already" in conduct(again, *ARMS, seeds=2)
    assert again.trained == []
    conduct(again, *ARMS, "fast.yaml", seeds=3)
    assert again.trained == [("fast", 0), ("fast", 1), ("plain", 2), ("mixed", 2), ("fast", 2)]
    assert "seeds were added after a reading at 2" in table()["cells"][0]["comparisons"][0]["sentence"]
    assert "added after a reading" not in table()["cells"][0]["comparisons"][1]["sentence"]
    assert "gives luck a second chance" in Path("study/compare.html").read_text()
    comparisons = table()["cells"][0]["comparisons"]
    assert [comparison["name"] for comparison in comparisons] == ["mixed", "fast"]
    assert "2 comparisons are judged together" in Path("study/table.md").read_text()


def test_a_run_with_a_checkpoint_goes_on_and_one_without_starts_again(conduct):
    conduct(MadeUpRuns(accuracy), *ARMS, seeds=2)
    for name in ("plain", "mixed"):
        Path(f"study/runs/{name}/1/summary.json").unlink()
    Path("study/runs/plain/1/leftover").write_text("")
    last = Path("study/runs/mixed/1/phases/fit/checkpoints/last.ckpt")
    last.parent.mkdir(parents=True)
    last.write_text("")
    runs = MadeUpRuns(accuracy)
    conduct(runs, *ARMS, seeds=2)
    assert [command[1] for command in runs.commands] == [str(Path.cwd() / "study/recipes/plain/fit.yaml"), "--resume"]
    assert not Path("study/runs/plain/1/leftover").exists()
    assert last.exists()


def test_a_failed_arm_is_reported_and_the_rest_goes_on(conduct):
    runs = MadeUpRuns(accuracy, failing={("mixed", 1)})
    with pytest.raises(
        UserError, match=r"1 runs? failed.*(?s:.)*mixed seed 1 \(2 of 3\): the training loss is no longer"
    ) as error:
        conduct(runs, *ARMS)
    log = Path.cwd() / "study/logs/mixed/1.txt"
    assert f"lower optim.lr ({log})" in str(error.value)
    assert log.read_text().startswith("$ vision-train fit ")
    assert len(runs.trained) == 6
    (comparison,) = table()["cells"][0]["comparisons"]
    assert (comparison["seeds"], comparison["failed"], comparison["verdict"]) == (2, 1, "failed")
    assert "mixed failed on 1 of 3 seeds" in comparison["sentence"]
    assert "2\u00a0of\u00a03, 1\u00a0failed" in Path("study/table.md").read_text()
    assert "preliminary" not in Path("study/table.md").read_text()
    assert table()["runs"]["finished"] == 5
    assert "Failed: mixed seed 1 (2 of 3)" in Path("study/compare.html").read_text()
    runs.failing.clear()
    conduct(runs, *ARMS)
    assert runs.trained[6:] == [("mixed", 1)]


def test_an_arm_that_fails_on_every_seed_leaves_the_others_comparable(conduct):
    runs = MadeUpRuns(accuracy, failing={("mixed", seed) for seed in range(3)})
    with pytest.raises(UserError, match="3 runs failed"):
        conduct(runs, *ARMS, "fast.yaml")
    assert [comparison["name"] for comparison in table()["cells"][0]["comparisons"]] == ["fast"]


def test_levels_and_budgets_are_those_of_the_seeds_in_common(conduct):
    runs = MadeUpRuns(accuracy, failing={("mixed", 0), ("mixed", 1)})
    with pytest.raises(UserError, match="2 runs failed"):
        conduct(runs, *ARMS, seeds=4)
    plain, mixed = table()["cells"][0]["arms"]
    assert mixed["values"].keys() == {"2", "3"}
    assert plain["values"].keys() == {"0", "1", "2", "3"}
    assert table()["cells"][0]["comparisons"][0]["first_mean"] == pytest.approx((0.6 + 0.65) / 2)
    assert mixed["first_budget"] == plain["budget"]


def test_a_result_that_is_not_finite_counts_as_failed_and_is_trained_anew(conduct):
    runs = MadeUpRuns(lambda name, seed: None if (name, seed) == ("mixed", 0) else accuracy(name, seed))
    with pytest.raises(UserError, match=r"mixed seed 0 \(1 of 3\): measured no finite test/accuracy"):
        conduct(runs, *ARMS)
    last = Path("study/runs/mixed/0/phases/fit/checkpoints/last.ckpt")
    last.parent.mkdir(parents=True)
    last.write_text("")
    again = MadeUpRuns(accuracy)
    conduct(again, *ARMS)
    assert again.trained == [("mixed", 0)]
    assert again.commands[0][1] != "--resume"
    assert not last.exists()
    assert table()["cells"][0]["arms"][1]["values"]["0"] == 0.6


def test_pretraining_is_shared_between_arms_and_done_once_a_seed(conduct):
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    runs = MadeUpRuns(accuracy, steps={"pre": 7})
    conduct(runs, *ARMS, "fast.yaml", seeds=2, pretraining=[(1, "pre.yaml"), (2, "pre.yaml")])
    each = ["plain", "pre", "mixed", "fast"]
    assert runs.trained == [(name, seed) for seed in range(2) for name in each]
    (digest,) = Path("study/pretrained").iterdir()
    start = f'model.checkpoint="{digest.absolute()}/1/weights.safetensors"'
    assert [start in command for command in runs.commands[4:]] == [False, False, True, True]
    plain, mixed, fast = (arm["budget"] for arm in table()["cells"][0]["arms"])
    assert [plain["pretraining_steps"], mixed["pretraining_steps"], fast["pretraining_samples"]] == [0, 7, 7 * 64]
    assert "Unequal budgets" in Path("study/compare.html").read_text()
    assert "**7 (!)**" in Path("study/table.md").read_text()


def test_arms_whose_pretraining_failed_fail_with_its_reason(conduct):
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    runs = MadeUpRuns(accuracy, failing={("pre", 0)})
    with pytest.raises(
        UserError, match=r"mixed seed 0 \(1 of 2\): it starts from mixed pretrain, which failed: the training"
    ):
        conduct(runs, *ARMS, seeds=2, pretraining=[(1, "pre.yaml")])
    assert ("mixed", 1) in runs.trained


@pytest.mark.parametrize("jobs", [2, 8])
def test_several_jobs_come_to_the_same_result(conduct, jobs):
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    cells = []
    for count in (jobs, 1):
        said = conduct(MadeUpRuns(accuracy), *ARMS, jobs=count, pretraining=[(0, "pre.yaml"), (1, "pre.yaml")])
        cells.append(table()["cells"])
        assert ("times are under load" in Path("study/compare.html").read_text()) == (count > 1)
        if count > 1:
            assert f"{jobs} runs at a time" in said
            conduct(MadeUpRuns(accuracy), *ARMS, pretraining=[(0, "pre.yaml"), (1, "pre.yaml")])
            assert f"Up to {jobs} runs were trained at a time" in Path("study/table.md").read_text()
        shutil.rmtree("study")
    assert cells[0] == cells[1]


def test_no_worker_idles_while_another_pretrains(conduct):
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    runs = MadeUpRuns(accuracy)
    all_plain = threading.Event()

    def train(arguments, log):
        if "pretrained" in arguments[-1] and arguments[-1].endswith("0"):
            assert all_plain.wait(60), "nothing else was trained in the meantime"
        code = runs(arguments, log)
        if sum(name == "plain" for name, _ in runs.trained) == 3:
            all_plain.set()
        return code

    conduct(train, *ARMS, jobs=2, pretraining=[(1, "pre.yaml")])
    assert len(runs.trained) == 9


def test_a_grid_gets_a_table_for_each_value_and_joint_tests(conduct):
    conduct(MadeUpRuns(accuracy), *ARMS, grid="data.labels_per_class=5,20")
    cells = table()["cells"]
    assert [cell["title"] for cell in cells] == ["data.labels_per_class=5", "data.labels_per_class=20"]
    assert Path("study/runs/mixed/labels_per_class=20/2/summary.json").exists()
    first = cells[0]["comparisons"][0]
    assert first["sentence"].count("simultaneous 95 % interval") == 1
    assert "| p × 2 |" in Path("study/table.md").read_text()
    assert "taken at 97.5 %" in Path("study/table.md").read_text()
    page = Path("study/compare.html").read_text()
    assert page.count('class="spread"') == 3 + 4  # two arms and one difference; and how two arms learnt at two values
    assert "### data.labels_per_class=20" in Path("study/table.md").read_text()


def of_fold(arguments: Sequence[str]) -> int:
    """The fold that a command line tests on."""
    (fold,) = (int(each.rpartition("=")[2]) for each in arguments if each.startswith("data.fold.number="))
    return fold


@pytest.fixture
def folded_runs():
    """Made-up runs whose accuracy depends on the fold, which has test items of its own."""

    def train(arguments, log):
        recipe = load_recipe(arguments[1], arguments[2:-2], runnable=False)
        fold = of_fold(arguments)
        assert (recipe.data.fold.number, recipe.data.fold.of) == (fold, 3)
        assert Path(arguments[-1]).parts[-2:] == (str(recipe.seed), str(fold))
        value = round(accuracy(recipe.name, recipe.seed) + 0.02 * fold, 4)
        train.trained.append((recipe.name, recipe.seed, fold))
        begin_run(Path(arguments[-1]), recipe)
        write_run(Path(arguments[-1]), value, 100, [f"fold {fold} {item}" for item in ITEMS])
        return 0

    train.trained = []
    return train


def test_folds_are_paired_and_judged_by_the_corrected_test(conduct, folded_runs):
    said = conduct(folded_runs, *ARMS, seeds=2, folds=3)
    assert folded_runs.trained[:3] == [("plain", 0, 1), ("mixed", 0, 1), ("plain", 0, 2)]
    assert len(folded_runs.trained) == 2 * 3 * 2
    (cell,) = table()["cells"]
    (comparison,) = cell["comparisons"]
    assert table()["folds"] == 3
    assert list(cell["arms"][1]["values"]) == ["0/1", "0/2", "0/3", "1/1", "1/2", "1/3"]
    differences = np.array([0.1, 0.1, 0.1, 0.11, 0.11, 0.11])
    error = differences.std(ddof=1) * (1 / 6 + 1 / 2) ** 0.5
    half = 2.5706 * error  # t of 5 degrees of freedom at 97.5 %
    assert list(comparison["interval"].values()) == pytest.approx([0.105 - half, 0.105 + half], abs=1e-4)
    assert (comparison["seeds"], comparison["verdict"], comparison["item_interval"]) == (6, "better", None)
    assert "by the corrected t test over the folds" in comparison["sentence"]
    assert "mixed seed 1 fold 3  test accuracy" in said
    page = Path("study/compare.html").read_text()
    assert "Nadeau and Bengio" in page
    assert "over the seeds" not in page
    assert "2 seeds, 3 folds each" in page


def test_a_study_of_folds_goes_on_and_takes_more_seeds_and_no_other_folds(conduct, folded_runs):
    conduct(folded_runs, *ARMS, seeds=1, folds=3)
    shutil.rmtree("study/runs/mixed/0/2")
    folded_runs.trained.clear()
    conduct(folded_runs, *ARMS, seeds=2, folds=3)
    assert ("mixed", 0, 2) in folded_runs.trained
    assert len(folded_runs.trained) == 7
    with pytest.raises(UserError, match="--folds: were 3, are not given"):
        conduct(folded_runs, *ARMS, seeds=2)


def test_folds_share_pretraining_that_is_not_of_a_fold(conduct, folded_runs):
    def train(arguments, log):
        if "pretrained" not in arguments[-1]:
            return folded_runs(arguments, log)
        places.append(Path(arguments[-1]).name)
        begin_run(Path(arguments[-1]), load_recipe(arguments[1], arguments[2:-2], runnable=False))
        write_run(Path(arguments[-1]), None, 7, [])
        return 0

    places = []
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    conduct(train, *ARMS, seeds=2, folds=3, pretraining=[(1, "pre.yaml")])
    assert places == ["0", "1"]


def test_a_grid_of_names_is_drawn_without_an_axis(conduct):
    conduct(MadeUpRuns(accuracy), *ARMS, seeds=2, grid="optim.name=adamw,sgd", drawn=True)
    assert Path("study/compare.html").read_text().count('class="spread"') == 4  # how two arms learnt at two values
    assert Path("study/plot.png").stat().st_size > 1000


def test_one_seed_has_a_table_but_no_interval_and_says_why(conduct):
    said = conduct(MadeUpRuns(accuracy), *ARMS, seeds=1)
    (comparison,) = table()["cells"][0]["comparisons"]
    assert (comparison["interval"], comparison["p"], comparison["verdict"]) == (None, None, "not tested")
    assert "one run does not show how far another would lie" in said
    assert "With a single seed there is no interval" in Path("study/table.md").read_text()


def test_stopping_keeps_what_is_finished(conduct):
    def interrupted(arguments, log):
        if runs.trained:
            raise KeyboardInterrupt
        return runs(arguments, log)

    runs = MadeUpRuns(accuracy)
    with pytest.raises(KeyboardInterrupt):
        conduct(interrupted, *ARMS)
    assert "The same command goes on." in conduct.said
    runs.trained.clear()
    conduct(runs, *ARMS)
    assert ("plain", 0) not in runs.trained


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((*ARMS, "optim.lr=0.5"), {}, r"plain: optim.lr was 0.002, is 0.5"),
        (ARMS, {"seeds": 2}, "--seeds: were 3, are 2"),
        (ARMS, {"grid": "data.labels_per_class=5,10"}, "--grid: was not given, is data.labels_per_class"),
    ],
)
def test_a_folder_of_another_study_is_refused_and_says_what_differs(conduct, arguments, options, says):
    conduct(MadeUpRuns(accuracy), *ARMS)
    with pytest.raises(UserError, match=rf"holds another study(?s:.)*{says}"):
        conduct(MadeUpRuns(accuracy), *arguments, **options)


def test_what_only_follows_from_other_folds_is_not_said(conduct):
    def others(study: Study) -> Study:
        return replace(
            study, resolved=[[replace(cell, test_digest="others") for cell in arm] for arm in study.resolved]
        )

    conduct(MadeUpRuns(accuracy), *ARMS, emitted=True, folds=2, seeds=1)
    with pytest.raises(UserError, match=r"undo:\n  --folds: were 2, are not given$"):
        conduct(MadeUpRuns(accuracy), *ARMS, change=others)
    with pytest.raises(UserError, match="the test samples: some came, went or moved since"):
        conduct(MadeUpRuns(accuracy), *ARMS, change=others, folds=2, seeds=1)


def test_a_recipe_edited_since_is_refused(conduct):
    conduct(MadeUpRuns(accuracy), *ARMS)
    Path("mixed.yaml").write_text("extends: plain.yaml\naugment: {mixing: {cutmix: 0.5}}\n")
    says = r"mixed: augment.mixing.cutmix was 0.75, is 0.5 \(to train it anew and keep the others, delete (.*)\)"
    with pytest.raises(UserError, match=says) as error:
        conduct(MadeUpRuns(accuracy), *ARMS)
    shutil.rmtree(re.search(says, str(error.value))[1])
    again = MadeUpRuns(accuracy)
    conduct(again, *ARMS)
    assert again.trained == [("mixed", seed) for seed in range(3)]
    assert "cutmix: 0.5" in Path("study/recipes/mixed/fit.yaml").read_text()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"images": "others"}, "mixed: the samples of phase fit: some came, went or moved since"),
        ({"weights": "others"}, "mixed: model.checkpoint=None: holds other weights now"),
    ],
)
def test_images_or_weights_that_changed_since_are_refused(conduct, content, says):
    def changed(study: Study) -> Study:
        plain, (mixed,) = study.resolved
        other = replace(mixed, phases=(phase("fit", mixed.recipe, **content),))
        return replace(study, resolved=[plain, [other]])

    conduct(MadeUpRuns(accuracy), *ARMS)
    with pytest.raises(UserError, match=says):
        conduct(MadeUpRuns(accuracy), *ARMS, change=changed)


def test_another_order_or_some_of_the_arms_are_read_without_training(conduct):
    conduct(MadeUpRuns(accuracy), *ARMS, "fast.yaml")
    forbidden = MadeUpRuns(accuracy)
    conduct(forbidden, "mixed.yaml", "plain.yaml", "fast.yaml")
    assert [arm["name"] for arm in table()["cells"][0]["arms"]] == ["mixed", "plain", "fast"]
    assert table()["cells"][0]["comparisons"][0]["difference"] == pytest.approx(-0.11)
    assert "It was judged against plain before" in Path("study/table.md").read_text()
    conduct(forbidden, "fast.yaml", "mixed.yaml")
    assert [arm["name"] for arm in table()["cells"][0]["arms"]] == ["fast", "mixed"]
    assert "The study holds 3 arms, of which 2 are read here" in Path("study/compare.html").read_text()
    conduct(forbidden, *ARMS, "fast.yaml")
    assert forbidden.trained == []


def test_arms_of_one_folder_name_keep_their_folders_in_any_order(conduct):
    Path("a").mkdir()
    for name in ("a-b.yaml", "a/b.yaml"):
        place = "" if "/" not in name else "../"
        Path(name).write_text(f"extends: {place}plain.yaml\noptim: {{lr: {0.1 if place else 0.2}}}\n")
    Path("a/a-b.yaml").write_text("extends: ../plain.yaml\noptim: {lr: 0.3}\n")
    conduct(MadeUpRuns(accuracy), "a-b.yaml", "a/a-b.yaml", "a/b.yaml")
    folders = {path.name for path in Path("study/runs").iterdir()}
    again = MadeUpRuns(accuracy)
    conduct(again, "a/b.yaml", "a/a-b.yaml", "a-b.yaml")
    assert again.trained == []
    assert {path.name for path in Path("study/runs").iterdir()} == folders


def test_what_an_older_version_did_not_record_is_unknown(conduct):
    conduct(MadeUpRuns(accuracy), *ARMS)
    facts = json.loads(Path("study/study.json").read_text())
    del facts["digests"], facts["looks"]
    Path("study/study.json").write_text(json.dumps(facts))
    for file in Path("study/logs").rglob("*.json"):
        file.unlink()
    again = MadeUpRuns(accuracy)
    conduct(again, "mixed.yaml", "plain.yaml")
    assert again.trained == []
    assert table()["most_jobs"] is None


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"arms": []}'])
def test_a_damaged_record_is_one_message(conduct, content):
    Path("study").mkdir()
    Path("study/study.json").write_text(content)
    with pytest.raises(UserError, match=r"study\.json: is damaged; restore it, or name a new folder"):
        conduct(MadeUpRuns(accuracy), *ARMS)


def test_what_a_killed_first_attempt_left_is_no_other_study(conduct):
    Path("study/recipes").mkdir(parents=True)
    for name in (".lock", ".study.json.99.tmp"):
        Path("study", name).touch()
    runs = MadeUpRuns(accuracy)
    conduct(runs, *ARMS)
    assert len(runs.trained) == 6


def test_runs_under_different_conditions_are_told_in_red(conduct):
    def train(arguments, log):
        code = runs(arguments, log)
        if "mixed" in arguments[-1]:
            file = Path(arguments[-1], "environment.json")
            file.write_text(json.dumps(json.loads(file.read_text()) | {"threads": 2, "precision": "bf16-mixed"}))
        return code

    runs = MadeUpRuns(accuracy)
    conduct(train, *ARMS)
    assert "Runs under different conditions: threads 1 in 3 runs and 2 in 3 runs" in Path("study/table.md").read_text()
    assert '<p class="notice fault" role="note">Runs under different' in Path("study/compare.html").read_text()


def test_a_full_disk_is_one_message_that_names_the_file(conduct, monkeypatch):
    def full(path, content):
        if path.name.startswith(".table.md"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"study/table\.md: cannot be written \(No space left on device\)"):
        conduct(MadeUpRuns(accuracy), *ARMS)


def test_a_folder_that_is_no_study_is_refused(conduct):
    Path("study").mkdir()
    Path("study/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes.txt and is no study"):
        conduct(MadeUpRuns(accuracy), *ARMS)
    assert [path.name for path in Path("study").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("content", ["{", "[]", ""])
@pytest.mark.parametrize("name", ["summary.json", "environment.json"])
def test_a_damaged_record_of_a_run_is_named_with_the_folder_to_delete(conduct, name, content):
    conduct(MadeUpRuns(accuracy), *ARMS, seeds=2)
    Path("study/runs/mixed/1", name).write_text(content)
    _environment.cache_clear()
    runs = MadeUpRuns(accuracy)
    with pytest.raises(UserError, match=rf"mixed/1/{name}: is damaged; .*delete .*study/runs/mixed/1 "):
        conduct(runs, *ARMS, seeds=2)
    assert runs.trained == []


def test_a_file_in_the_folders_place_is_refused(conduct):
    Path("study").write_text("")
    with pytest.raises(UserError, match=r"study: cannot be written \(Not a directory\)"):
        conduct(MadeUpRuns(accuracy), *ARMS)


def test_an_unwritable_folder_is_refused(conduct, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("vision_train.files.tempfile.TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"study: cannot be written \(Permission denied\).*--out"):
        conduct(MadeUpRuns(accuracy), *ARMS)


def test_two_commands_at_once_are_refused(conduct):
    study = study_of(*ARMS)
    with study.opened("first"), pytest.raises(UserError, match="another compare is at work here"):
        conduct(MadeUpRuns(accuracy), *ARMS)


@pytest.fixture
def when_waiting(monkeypatch) -> Callable[[Callable[[], None]], None]:
    """Calls a function when the command says that it waits for a process of an earlier one."""

    def arrange(function: Callable[[], None]) -> None:
        def watched(console: Console, text: str) -> None:
            say(console, text)
            if text.endswith("waiting"):
                function()

        say = Console.print
        monkeypatch.setattr(Console, "print", watched)

    monkeypatch.setattr(execution, "SECONDS_BETWEEN_LOOKS", 0.01)
    return arrange


def test_a_run_that_a_process_of_a_killed_command_still_trains_is_waited_for(conduct, when_waiting):
    conduct(MadeUpRuns(accuracy), *ARMS, seeds=2)
    summary, held = Path("study/runs/plain/1/summary.json"), take(Path("study/logs/plain/1.lock"))
    content = summary.read_text()
    summary.unlink()

    def end() -> None:
        summary.write_text(content)
        held.release()

    when_waiting(end)
    forbidden = MadeUpRuns(accuracy)
    assert "plain seed 1: a process of an earlier command trains it; waiting" in conduct(forbidden, *ARMS, seeds=2)
    assert forbidden.trained == []


def test_a_process_that_takes_the_lock_at_the_last_moment_is_waited_for_too(conduct, when_waiting):
    """It was still starting when its command was killed, and this command's process finds the run taken."""
    runs, held = MadeUpRuns(accuracy), []

    def train(arguments, log):
        if not held:
            held.append(take(lock_of(Path(log.name))))
            log.write(b"Error: 0.lock is held by another process\n")
            return 2
        return runs(arguments, log)

    when_waiting(lambda: held[0].release())
    assert "waiting" in conduct(train, *ARMS, seeds=2)
    assert len(runs.trained) == 4


def test_no_jobs_are_refused(conduct):
    with pytest.raises(UserError, match="--jobs 0"):
        conduct(MadeUpRuns(accuracy), *ARMS, jobs=0)


def test_the_page_lists_what_differs_and_links_every_run(conduct):
    conduct(MadeUpRuns(accuracy), *ARMS)
    page = Path("study/compare.html").read_text()
    assert "augment.<wbr>" in page or "augment.mixing.cutmix" in page
    assert '<a href="runs/mixed/2/report.html">72.0 %</a>' in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_page_says_the_verdict_first_and_shows_before_it_explains(conduct):
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    conduct(MadeUpRuns(accuracy, steps={"pre": 7}), *ARMS, pretraining=[(1, "pre.yaml")])
    page, text = Path("study/compare.html").read_text(), Path("study/table.md").read_text()
    parts = (
        'class="verdicts"',
        "Unequal budgets",
        'id="results"',
        "<svg",
        "<table",
        'id="what-differs"',
        "imports incl",
    )
    places = [page.index(part) for part in parts]
    assert places == sorted(places)
    places = [text.index(part) for part in ("- mixed is", "Unequal budgets", "## Results", "## What differs")]
    assert places == sorted(places)


def test_a_phase_that_only_some_arms_have_differs_from_what_it_trains_for(conduct):
    Path("pre.yaml").write_text("extends: plain.yaml\ntrainer: {max_epochs: 2}\n")
    conduct(MadeUpRuns(accuracy, steps={"pre": 7}), *ARMS, pretraining=[(1, "pre.yaml")])
    text = Path("study/table.md").read_text()
    assert "| augment.mixing.cutmix | 0 | 0.75 |" in text
    assert "| pretrain: augment.mixing.cutmix | – | 0 |" in text
    assert "| pretrain: trainer.max_epochs | – | 2 |" in text
    assert "pretrain: optim" not in text
    assert "| pre-training: training samples |" in text
    assert "**100 (!)**" in text


def test_keys_that_differ_in_some_cell_alone_are_listed(conduct):
    Path("mixed.yaml").write_text("extends: plain.yaml\noptim: {lr: 0.01}\ndata: {labels_per_class: 5}\n")
    conduct(MadeUpRuns(accuracy), *ARMS, grid="optim.lr=0.01,0.02")
    assert "| data.labels_per_class | 10 | 5 |" in Path("study/table.md").read_text()
    assert "| optim.lr " not in Path("study/table.md").read_text()


def test_the_running_arm_its_seed_and_epoch_and_the_time_left_of_the_study_are_shown(conduct, monkeypatch):
    runs, looked, seen = MadeUpRuns(accuracy), threading.Event(), []

    def train(arguments, log):
        looked.clear()
        log.write(b"epoch 10/40  loss 1.0\n")
        log.flush()
        assert looked.wait(60)
        return runs(arguments, log)

    def show(work, text=None, figures=()):
        if text.endswith("epoch 10/40"):
            seen.append((text, list(figures), work.share, work.left))
            looked.set()

    monkeypatch.setattr(Work, "show", show)
    conduct(train, *ARMS, seeds=1)
    first, last = seen[0], seen[-1]
    assert first[:3] == ("plain seed 0 epoch 10/40", ["0/2 runs"], 0.25 / 2)
    assert last[:3] == ("mixed seed 0 epoch 10/40", ["1/2 runs"], 1.25 / 2)
    assert all(left > 0 for *_, left in seen)


def test_a_page_names_its_two_intervals_and_draws_how_the_arms_learnt(conduct):
    conduct(MadeUpRuns(accuracy), *ARMS)
    page = Path("study/compare.html").read_text()
    headings = re.findall(r"<th[^>]*>([^<]*)</th>", page.partition("What differs")[0] + page)
    assert {"95 % of the mean", "95 % over seeds", "95 % over images"} <= set(headings)
    assert "95 %" not in headings
    assert f"{len(ITEMS)} test images" in page
    assert 'aria-label="Val accuracy by epoch: plain ends at' in page


@pytest.mark.slow
@pytest.mark.parametrize("width", [420, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_study_does_not_scroll_sideways_in_a_browser(conduct, opened, width, scheme):
    conduct(MadeUpRuns(accuracy), *ARMS)
    page = opened(Path("study/compare.html"), width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    heading = page.locator("section#results thead th").first
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"


def test_runs_that_were_deleted_are_measured_anew_in_the_same_process(conduct):
    conduct(MadeUpRuns(accuracy), *ARMS)
    before = table()["cells"][0]["arms"][1]["mean"]
    shutil.rmtree("study/runs")
    conduct(MadeUpRuns(lambda name, seed: accuracy(name, seed) - 0.2), *ARMS)
    assert table()["cells"][0]["arms"][1]["mean"] == pytest.approx(before - 0.2, abs=0.01)
