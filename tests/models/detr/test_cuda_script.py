"""The benchmark for GPUs runs at all: its checks and steps, of a tiny detector on a CPU."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "detection_cuda.py"


@pytest.mark.slow
def test_the_checks_of_the_gpu_benchmark_hold_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    result = tmp_path / "result.json"
    command = [sys.executable, str(SCRIPT), str(result), "--device", "cpu", "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(result.read_text())
    assert {(row["dtype"], row["backend"]) for row in figures["steps"]} >= {("torch.float32", "sdpa")}
    assert max(error for row in figures["bias"] for error in row["errors"]) < 0.05
    assert figures["group_of_one"] < 1e-3
    assert figures["tiny"]
    assert figures["training"]["images_per_second"] > 0
