"""What benchmarks share."""

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def all_threads() -> Iterator[None]:
    """Compute on every core, as training does; other tests keep to one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute on one core, where the time of the processor is what counts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=sorted({1, os.cpu_count() or 1}), ids="{} threads".format)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Number of threads that PyTorch computes on: one, and every core."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
