"""Print the validation metrics of a study of detectors over time: the mean of its seeds at some epochs.

    python docs/studies/detection_over_time.py STUDY [EPOCH...]

STUDY is what ``vision-train compare --out STUDY`` wrote. An arm is read by the name of its folder.
"""

import json
import statistics
import sys
from pathlib import Path

METRICS = ("val/ap", "val/ap50", "val/ap50_lost_to_doubles")


def validations(run: Path) -> dict[int, dict[str, float]]:
    """Epoch, from 1 -> its validation metrics."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["epoch"] + 1: line for line in lines if METRICS[0] in line}


def main(study: Path, epochs: list[int]) -> None:
    """Print a row for each arm and metric."""
    print("| arm | metric | " + " | ".join(f"epoch {epoch}" for epoch in epochs) + " |")
    print("|---|---|" + "---|" * len(epochs))
    for arm in sorted((study / "runs").iterdir()):
        runs = [validations(log.parent) for log in sorted(arm.glob("*/metrics.jsonl"))]
        for metric in METRICS:
            means = [f"{statistics.mean(run[epoch][metric] for run in runs):.3f}" for epoch in epochs]
            print(f"| {arm.name} | {metric} | " + " | ".join(means) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(each) for each in sys.argv[2:]] or [3, 6, 9, 12, 15])
