"""Two runs at once on one machine against one alone: wanted is at most 2.3 x the time.

    python tests/benchmarks/two_runs.py                        # the quickstart, three rounds
    python tests/benchmarks/two_runs.py --quota 1.5            # in a control group of so many processors; needs root
    python tests/benchmarks/two_runs.py trainer.max_epochs=2 --rounds 1    # shortened, to try the script

The machine has to be idle. Runs are whole processes of the command line, start-up and report included, as a user starts
them; OMP_NUM_THREADS and the like are taken out of their environment. Alone and two at once take turns, with threads
that sleep while they wait, as the command line has it, and with threads that spin (the default of GNU's OpenMP), so
that one sees what sleeping costs a run alone and what it saves two. Two that spin can take very long: leave them out
with --skip-spinning.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST = 2.3
UNSET = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
WAYS = {"sleeping": {}, "spinning": {"GOMP_SPINCOUNT": "300000"}}
"""What is set beside the user's environment; the second is what the runtime does by itself."""


def seconds(folder: Path, runs: int, overrides: list[str], set_beside: dict[str, str]) -> float:
    """How long so many runs take that are started together, until the last has ended."""
    environment = {name: value for name, value in os.environ.items() if name not in UNSET} | set_beside
    command = [sys.executable, "-m", "vision_train", "fit", "quickstart", *overrides]
    began = time.perf_counter()
    processes = [
        subprocess.Popen([*command, "--run-dir", str(folder / str(run))], env=environment, stdout=subprocess.DEVNULL)
        for run in range(runs)
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("a run failed; see what it said above")
    return time.perf_counter() - began


def record_of(folder: Path) -> str:
    """What a run noted of its threads."""
    found = json.loads((folder / "0" / "environment.json").read_text())
    return f"{found['threads']} threads ({found['threads_by']}), {found['waiting_threads']}"


@contextmanager
def control_group(processors: float | None) -> Iterator[None]:
    """This process, and what it starts, in a control group with a quota, of version 1 or 2."""
    if processors is None:
        yield
        return
    first = Path("/sys/fs/cgroup/cpu")
    group = (first if first.is_dir() else first.parent) / f"two_runs_{os.getpid()}"
    group.mkdir()
    quota = round(100_000 * processors)
    if first.is_dir():
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text(str(quota))
    else:
        (group / "cpu.max").write_text(f"{quota} 100000")
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="keys of the recipe, to shorten it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quota", type=float, metavar="PROCESSORS", help="run in a control group with this quota")
    parser.add_argument("--skip-spinning", action="store_true", help="measure sleeping threads alone")
    options = parser.parse_args()
    ways = list(WAYS)[:1] if options.skip_spinning else list(WAYS)
    taken: dict[tuple[str, int], list[float]] = {(way, runs): [] for way in ways for runs in (1, 2)}
    print(f"load before: {os.getloadavg()[0]:.2f} (should be near 0)")
    with control_group(options.quota):
        for number in range(options.rounds):
            for (way, runs), times in taken.items():
                with tempfile.TemporaryDirectory() as folder:
                    times.append(seconds(Path(folder), runs, options.overrides, WAYS[way]))
                    print(
                        f"round {number + 1}, {way}, {runs}: {times[-1]:.1f} s  {record_of(Path(folder))}", flush=True
                    )
    for way in ways:
        alone, both = (statistics.median(taken[way, runs]) for runs in (1, 2))
        print(f"{way}: alone {alone:.1f} s, two at once {both:.1f} s, {both / alone:.2f} x", end="")
        print(f" (at most {MOST} x is asked for)" if way == "sleeping" else "")


if __name__ == "__main__":
    main()
