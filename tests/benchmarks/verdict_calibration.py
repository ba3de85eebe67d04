"""How often the verdict on a pool says "helped" where the pool is of no use, and how often where it is.

    pip install 'vision-train[studies]' -c constraints.txt
    OMP_NUM_THREADS=1 python tests/benchmarks/verdict_calibration.py run FOLDER
    python tests/benchmarks/verdict_calibration.py summary FOLDER

`run` trains what docs/benchmarks/verdict_calibration_plan.yaml says, task by task, and appends what each measured to
`FOLDER/studies.csv` and `FOLDER/fresh.csv`; called again it goes on after the last finished task. It refuses a plan
that is not the one whose digest stands below. `summary` reads these tables, or the published ones without FOLDER;
with `--comparisons 2` it judges each study again, with intervals that hold together for so many comparisons.

`run FOLDER --pilot PLAN` tries another plan, which must have another seed and other tasks.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import yaml

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "docs" / "benchmarks" / "verdict_calibration_plan.yaml"
PUBLISHED = ROOT / "docs" / "benchmarks" / "verdict_calibration"
PLAN_SHA256 = "afe8e72dee663f8389ae76d9460be9913b9205cf3b9c7da66977bacb3595fc57"
"""The digest of the plan that was committed before the study ran."""

Row = dict[str, Any]


def read_plan(pilot: Path | None = None) -> Row:
    """Read the plan of the study, or that of a pilot.

    Raises:
        SystemExit: The plan was changed, or the pilot shares its seed or a task with the plan.
    """
    content = PLAN.read_bytes()
    if hashlib.sha256(content).hexdigest() != PLAN_SHA256:
        raise SystemExit(f"{PLAN}: is not the plan that was committed before the study ran; restore it with git")
    plan: Row = yaml.safe_load(content)
    if pilot is None:
        return plan
    tried: Row = yaml.safe_load(pilot.read_bytes())
    shared = {str(of["name"]) for of in plan["tasks"]} & {str(of["name"]) for of in tried["tasks"]}
    if tried["seed"] == plan["seed"] or shared:
        raise SystemExit(f"{pilot}: seed and tasks must be other than those of {PLAN.name}; shared: {sorted(shared)}")
    return tried


def run(folder: Path, plan: Row) -> None:
    """Train and judge task by task; a task whose rows are there already is not done again.

    Rows of the fresh draws are written last, so that a task is finished exactly if it has them.
    """
    from calibration_images import features_of, load_images
    from calibration_studies import TaskStudies, tasks_of

    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    finished = {row["task"] for row in read(folder / "fresh.csv")}
    studies = [row for row in read(folder / "studies.csv") if row["task"] in finished]
    replace(folder / "studies.csv", studies)
    cached: dict[str, Any] = {}
    for task in tasks_of(plan):
        if task.name in finished:
            continue
        began, computed = time.monotonic(), time.process_time()
        if task.images not in cached:
            cached[task.images] = features_of(load_images(task.images, plan["seed"]), plan["features"], plan["seed"])
        of_task = TaskStudies(task, plan, cached[task.images])
        of_task.train_all()
        append(folder / "studies.csv", of_task.study_rows())
        append(folder / "fresh.csv", of_task.fresh_rows())
        took = f"{time.monotonic() - began:.0f} s, {time.process_time() - computed:.0f} s of one core"
        print(f"{task.name}: {took}", flush=True)


def read(path: Path) -> list[Row]:
    """Rows of a table, plain or compressed; none where there is no file."""
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    packed = path.with_name(f"{path.name}.gz")
    if packed.exists():
        with gzip.open(packed, "rt", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    return []


def judged_again(studies: list[Row], plan: Row, comparisons: int) -> list[Row]:
    """The studies with the verdicts of so many comparisons."""
    from calibration_counts import rejudged
    from calibration_studies import share

    images = {of["name"]: share(plan["sets"][of["images"]]["test"], of["classes"]) for of in plan["tasks"]}
    return [rejudged(row, comparisons, images[row["task"]]) for row in studies]


def append(path: Path, rows: Iterable[Row]) -> None:
    """Append rows to a table, and its head where it is new."""
    rows = list(rows)
    new = not path.exists() or not path.stat().st_size
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        if new:
            writer.writeheader()
        writer.writerows(rows)


def replace(path: Path, rows: list[Row]) -> None:
    """Leave these rows alone in a table."""
    path.unlink(missing_ok=True)
    if rows:
        append(path, rows)


def main() -> None:
    """Parse the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("--pilot", type=Path)
    telling = verbs.add_parser("summary")
    telling.add_argument("folder", type=Path, nargs="?", default=PUBLISHED)
    telling.add_argument("--comparisons", type=int, default=1)
    asked = parser.parse_args()
    if asked.verb == "run":
        run(asked.folder, read_plan(asked.pilot))
    else:
        from calibration_counts import summary

        studies = read(asked.folder / "studies.csv")
        if asked.comparisons > 1:
            studies = judged_again(studies, read_plan(), asked.comparisons)
        print(summary(studies, read(asked.folder / "fresh.csv")))


if __name__ == "__main__":
    main()
