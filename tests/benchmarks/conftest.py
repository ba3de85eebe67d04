"""What benchmarks of training steps share."""

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
