"""How much memory a process has used, and how much more it may use."""

from __future__ import annotations

import sys

import psutil
import torch

from vision_train.control_groups import memory_left


def peak_memory() -> int:
    """Most memory this process has used so far, in bytes: the GPU's where one is used, else the process's own."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes, Linux in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_in_use(device: torch.device) -> int:
    """Bytes that tensors take on a GPU, or this process on a CPU, after what nobody needs any more was given back."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    return psutil.Process().memory_info().rss


def memory_free(device: torch.device) -> int:
    """Bytes that this process may take beside those in use: of a GPU, of the machine or of its control group."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    left, machine = memory_left(), psutil.virtual_memory().available
    return machine if left is None else min(left, machine)
