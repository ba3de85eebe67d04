"""What a container or a scheduler grants to this process through the control groups of Linux, of either version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

Amount = TypeVar("Amount", int, float)

OWN = Path("/proc/self")
CPU_MAX, QUOTA, PERIOD = "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"
"""Files about processors: of version 2, and the two of version 1."""
MEMORY = {"memory.max": "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"}
"""File of the most memory -> file of what is used, of either version."""
RECLAIMED = ("inactive_file", "total_inactive_file")
"""Lines of ``memory.stat``, of either version: copies of files that give way where memory is needed."""


def granted_processors(process: Path = OWN) -> float | None:
    """Processors whose time the control group of a process may use, or one around it; None without a limit.

    Args:
        process: Its folder of Linux; on other systems there is none.
    """
    return _least("cpu", _quota, process)


def memory_left(process: Path = OWN) -> int | None:
    """Bytes that the control group of a process may still take, or one around it; None without a limit.

    Args:
        process: Its folder of Linux; on other systems there is none.
    """
    return _least("memory", _left, process)


def _least(controller: str, of_group: Callable[[Path], Amount | None], process: Path) -> Amount | None:
    try:
        groups = (process / "cgroup").read_text().splitlines()
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError:
        return None
    limits = (of_group(folder) for folder in _folders(controller, groups, mounts))
    return min((limit for limit in limits if limit is not None), default=None)


def _folders(controller: str, groups: list[str], mounts: list[str]) -> Iterator[Path]:
    """Folders of the control groups that a process is in as far as they meter something.

    Args:
        controller: What they meter: ``cpu`` or ``memory``.
        groups: Lines of ``cgroup``: number, controllers and path of each hierarchy; version 2 names no controllers.
        mounts: Lines of ``mountinfo``.
    """
    paths: dict[str, str] = {}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = path
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind not in paths or (kind == "cgroup" and controller not in options.split(",")):
            continue
        root, mounted = (Path(place) for place in before.split(" ")[3:5])
        # Within a container the path may be that of the host, of which no more than the root is mounted.
        inside = Path(paths[kind])
        folder = mounted / inside.relative_to(root) if inside.is_relative_to(root) else mounted
        yield from (place for place in (folder, *folder.parents) if place.is_relative_to(mounted))


def _quota(folder: Path) -> float | None:
    """Processors whose time a control group may use by its own files."""
    try:
        if (folder / CPU_MAX).exists():
            quota, period = (folder / CPU_MAX).read_text().split()
        else:
            quota, period = ((folder / name).read_text() for name in (QUOTA, PERIOD))
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError):  # the group at the top has no such file
        return None


def _left(folder: Path) -> int | None:
    """Bytes that a control group may still take by its own files; without a limit version 1 has a huge number."""
    try:
        most, used = next((most, used) for most, used in MEMORY.items() if (folder / most).exists())
        limit = int((folder / most).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        reclaimed = next((int(statistics[name]) for name in RECLAIMED if name in statistics), 0)
        return max(limit - int((folder / used).read_text()) + reclaimed, 0)
    except (OSError, ValueError, StopIteration):  # `max`, and the group at the top, which has no such file
        return None
