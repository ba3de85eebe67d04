"""Values that a recipe leaves to the machine, as the table of what differs shows them."""

from pathlib import Path

from tests.study.made_up_runs import ARMS, MadeUpRuns, accuracy, retold


def rows() -> dict[str, list[str]]:
    """The table of what differs, in Markdown: name -> the value of each arm."""
    part = Path("study/table.md").read_text().partition("## What differs")[2].partition("## ")[0]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in part.splitlines() if "|" in line]
    return {name: values for name, *values in cells}


def test_rates_and_batches_left_to_the_machine_are_those_that_the_runs_found(conduct):
    def train(arguments, log):
        code = runs(arguments, log)
        name, seed = runs.trained[-1]
        rate = {"plain": 0.001, "mixed": 0.004}[name] * (seed + 1)
        found = (f"optim.lr={rate}", "data.batch_size=16", "trainer.accumulate_grad_batches=4")
        retold(arguments[-1], *found, "run.automatic=[]")
        return code

    runs = MadeUpRuns(accuracy, steps={"mixed": 90})
    conduct(train, *ARMS, "optim.lr=auto", "data.batch_size=auto", seeds=2)
    found = rows()
    assert found["optim.lr"] == ["auto: 0.001 to 0.002", "auto: 0.004 to 0.008"]
    assert found["→ effective learning rate"] == found["optim.lr"]
    assert found["data.batch_size"] == ["auto: 16"] * 2
    assert found["trainer.accumulate_grad_batches"] == ["auto: 4"] * 2
    assert found["→ steps"] == ["auto: 100", "auto: 90"]
    assert "run.automatic" not in found
    assert "values that the runs found" in Path("study/compare.html").read_text()


def test_one_arm_may_have_a_number_and_the_rate_is_scaled_as_in_the_plan(conduct):
    Path("auto.yaml").write_text("extends: plain.yaml\noptim: {lr: auto}\n")

    def train(arguments, log):
        code = runs(arguments, log)
        if runs.trained[-1][0] == "auto":
            retold(arguments[-1], "optim.lr=0.005")
        return code

    runs = MadeUpRuns(accuracy)
    conduct(train, "plain.yaml", "auto.yaml", seeds=1)
    found = rows()
    assert found["optim.lr"] == ["0.002", "auto: 0.005"]
    assert found["→ effective learning rate"] == ["0.002", "auto: 0.005"]
    assert found["→ steps"] == ["100", "100"]


def test_before_there_are_runs_and_where_the_whole_batch_is_not_known_it_says_auto(conduct):
    keys = ("data.batch_size=auto", "optim.lr_reference_batch=256")
    conduct(None, *ARMS, *keys, seeds=1, emitted=True)
    conduct(MadeUpRuns(accuracy), *ARMS, *keys, seeds=1)
    assert rows()["→ effective learning rate"] == ["auto", "auto"]
