"""How long a shard takes to find its share of a list of paths, and what memory that takes.

pytest tests/benchmarks/test_long_lists.py --benchmark-enable -s
"""

import time
from pathlib import Path
from typing import Any

import psutil

from vision_train.recipe import load_recipe
from vision_train.run.shards import Shard

LINES, SHARDS = 10_000_000, 1_000


def test_a_shard_of_a_long_list(benchmark: Any, tmp_path: Path) -> None:
    listed = tmp_path / "images.txt"
    with listed.open("w") as file:
        file.writelines(f"pool/{number % 1000:03d}/image_{number:09d}.jpg\n" for number in range(LINES))
    recipe = load_recipe("quickstart", ["data.source=images", f"data.root={tmp_path}"], runnable=False)
    reader = recipe.kind.load()
    process = psutil.Process()
    before, began = process.memory_info().rss, time.process_time()
    loader = benchmark.pedantic(
        lambda: reader.loose(recipe, [listed], learner="a run", taken=Shard(3, SHARDS).takes), rounds=1
    )
    seconds, memory = time.process_time() - began, process.memory_info().rss - before
    found = len(loader.dataset)
    assert abs(found - LINES / SHARDS) < LINES / SHARDS * 0.1
    benchmark.extra_info |= {"seconds": round(seconds, 1), "mebibytes": round(memory / 2**20, 1)}
    print(f"\n{found:,} of {LINES:,} paths in {seconds:.1f} s of the processor; {memory / 2**20:.1f} MiB more")
