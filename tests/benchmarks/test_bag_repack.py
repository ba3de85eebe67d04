"""Random access to a bag of 100,000 x 512 as TRIDENT writes it, and after `repack`, in one thread.

    pytest tests/benchmarks/test_bag_repack.py --benchmark-enable -s

The whole bag, as training reads it, and 2,000 of its rows, as a random subset of instances would be. The
two layouts take turns, so that other load on the machine falls on both alike. The file is in memory by then: a disk
that has to be read adds the same to both.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from vision_train.data.bags.bag import read_bag
from vision_train.data.bags.formats import open_bag
from vision_train.data.bags.index import index_bags
from vision_train.data.bags.tools.repack import repack_bags

INSTANCES, WIDTH, ROWS, ROUNDS = 100_000, 512, 2_000, 5
LEAST = 5.0
"""Times as fast, at least."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bag, a chunk for each row, and the same after repacking."""
    slow, fast = tmp_path_factory.mktemp("slow"), tmp_path_factory.mktemp("fast")
    generator = np.random.default_rng(0)
    with h5py.File(slow / "slide.h5", "w") as file:
        features = generator.standard_normal((INSTANCES, WIDTH), dtype=np.float32)
        coords = generator.integers(0, 100_000, (INSTANCES, 2))
        for name, values in (("features", features), ("coords", coords)):
            file.create_dataset(name, data=values, maxshape=(None, values.shape[1]), chunks=(1, values.shape[1]))
    start = time.perf_counter()
    (done,) = repack_bags(index_bags(slow), fast)
    print(f"\nrepacked {done.id}: {INSTANCES} x {WIDTH} float32 in {time.perf_counter() - start:.1f} s")
    return {"a chunk a row": slow, "repacked": fast}


def whole_bag(folder: Path) -> float:
    """Read everything, and use each value once."""
    bag = read_bag(index_bags(folder).entries["slide"])
    assert bag.coords is not None
    return float(bag.features.sum() + bag.coords.sum())


def some_rows(folder: Path) -> float:
    """Read rows here and there."""
    rows = np.sort(np.random.default_rng(0).choice(INSTANCES, ROWS, replace=False))
    with open_bag(folder / "slide.h5") as stored:
        return float(np.asarray(stored.arrays["features"].read(rows)).sum())


@pytest.mark.parametrize("access", [whole_bag, some_rows])
def test_random_access(benchmark: Any, folders: dict[str, Path], access: Callable[[Path], float]) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in folders}

    def timed(name: str) -> None:
        start = time.perf_counter()
        access(folders[name])
        seconds[name].append(time.perf_counter() - start)

    assert access(folders["repacked"]) == pytest.approx(access(folders["a chunk a row"]))
    benchmark.pedantic(lambda: timed("repacked"), setup=lambda: timed("a chunk a row"), rounds=ROUNDS)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["a chunk a row"] / medians["repacked"]
    benchmark.extra_info["times as fast"] = round(ratio, 1)
    print(f"\n{access.__name__}")
    for name, median in medians.items():
        print(f"{name:14} {1000 * median:8.1f} ms, median of {ROUNDS} rounds")
    print(f"repacked is {ratio:.1f} times as fast")
    assert ratio >= LEAST
