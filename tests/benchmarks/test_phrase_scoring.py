"""What scoring expressions without boxes costs, beside plain prediction of the same expressions.

    pytest tests/benchmarks/test_phrase_scoring.py --benchmark-enable -s -n 0

Expressions are asked about as before a round: as in validation, with the attention of [REG], and under V other views,
and all scores are made of the answers. Prediction answers the first view and carries the boxes back to the original.
Batches are ready before; both take turns, and the time is that of the processor of one thread, so that other load on
the machine counts little. Target: the median of the turns is at most 1.1 (V + 1) predictions. Reading the views beside
reading the images as they are is shown and not judged: loaders do it in processes of their own.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from vision_train.data.module import POOL_SPLIT
from vision_train.recipe import load_recipe
from vision_train.run.phase import prepare, scan

TURNS, WARM_UP = 11, 2
MOST = 1.1
BATCH = 32
SCORES = {"faithfulness", "robustness", "confidence"}
DRAWN = ["run.pretrain=null", "model.freeze=[]"]
WIDER = [
    *("data.image_size=128", "data.scales=[128]", "model.args.dim=128", "model.args.heads=4", "model.args.hidden=512"),
    "model.args.fusion_layers=6",
]


def seconds(call: Callable[[], object]) -> float:
    before = time.process_time()
    with torch.inference_mode():
        call()
    return time.process_time() - before


@pytest.mark.parametrize(("batch", "overrides"), [(BATCH, []), (BATCH // 4, WIDER)], ids=["drawn", "wider"])
def test_scoring_v_views_beside_the_image_costs_as_many_predictions(batch: int, overrides: list[str]) -> None:
    torch.set_num_threads(1)
    prepared = prepare(scan(load_recipe("actress/referring", [*DRAWN, *overrides])))
    task: Any = prepared.task.eval()
    data: Any = prepared.data
    samples = data.samples(POOL_SPLIT)[:batch]
    asked = data.make_views(samples, task.pool_views(SCORES), alone=True)
    plain = data.make_dataset(samples, stream=None, alone=True)

    def read(dataset: Any) -> Any:
        return dataset.to_batch([dataset[place, 0] for place in range(batch)])

    views, image = read(asked), read(plain)
    cases: dict[str, Callable[[], object]] = {
        "scoring": lambda: task.answer_pool(views["id"], views["views"], SCORES),
        "prediction": lambda: task.predicted(image, task.predict_step(image, 0)),
        "reading views": lambda: read(asked),
        "reading images": lambda: read(plain),
    }
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(WARM_UP + TURNS):
        for name, case in cases.items():
            taken[name].append(seconds(case))
    turns = {name: each[WARM_UP:] for name, each in taken.items()}
    count = len(views["views"])
    ratios = [ours / (count * theirs) for ours, theirs in zip(turns["scoring"], turns["prediction"], strict=True)]
    for name, each in turns.items():
        print(f"{name}: {1000 * statistics.median(each):.1f} ms")
    ratio = statistics.median(ratios)
    print(f"{count} views: {ratio:.3f} of as many predictions ({min(ratios):.3f} to {max(ratios):.3f})")
    assert ratio <= MOST
