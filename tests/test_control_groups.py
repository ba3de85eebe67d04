"""What control groups of Linux grant."""

import pytest

from vision_train.control_groups import granted_processors, memory_left

# What Linux shows, shortened: lines of /proc/self/cgroup and mountinfo, and the files below the mounted hierarchies.
V1_MOUNT = "33 23 0:30 {root} {at}/cpu rw,relatime - cgroup cgroup rw,{controllers}"
V2_MOUNT = "38 31 0:35 {root} {at} rw,relatime - cgroup2 cgroup2 rw"


def v1(quota: int, period: int = 100_000) -> dict[str, str]:
    return {"cpu.cfs_quota_us": f"{quota}\n", "cpu.cfs_period_us": f"{period}\n"}


def v2(quota: str) -> dict[str, str]:
    return {"cpu.max": f"{quota} 100000\n"}


@pytest.mark.parametrize(
    ("groups", "mount", "root", "controllers", "files", "expected"),
    [
        ("0::/", V2_MOUNT, "/", "", {".": v2("150000")}, 1.5),  # a container with a name space of its own
        ("0::/", V2_MOUNT, "/", "", {".": v2("max")}, None),
        ("0::/", V2_MOUNT, "/", "", {".": {}}, None),  # the group at the top of a machine has no such file
        ("0::/a.slice/b.service", V2_MOUNT, "/", "", {"a.slice/b.service": v2("50000"), "a.slice": v2("max")}, 0.5),
        ("0::/a.slice/b.service", V2_MOUNT, "/", "", {"a.slice/b.service": v2("max"), "a.slice": v2("200000")}, 2.0),
        ("0::/../other", V2_MOUNT, "/", "", {".": v2("300000")}, 3.0),
        ("4:cpu,cpuacct:/docker/1f", V1_MOUNT, "/docker/1f", "cpu,cpuacct", {"cpu": v1(250_000)}, 2.5),
        ("4:cpu:/docker/1f", V1_MOUNT, "/", "cpu", {"cpu/docker/1f": v1(-1), "cpu": v1(100_000, 50_000)}, 2.0),
        ("4:cpu:/", V1_MOUNT, "/", "cpu", {"cpu": v1(-1)}, None),
        ("4:cpuset:/\n3:memory:/", V1_MOUNT, "/", "cpuset", {"cpu": v1(100_000)}, None),
    ],
)
def test_the_quota_of_control_groups(tmp_path, groups, mount, root, controllers, files, expected):
    process, at = tmp_path / "self", tmp_path / "sys"
    process.mkdir()
    (process / "cgroup").write_text(f"{groups}\n")
    other = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755"
    (process / "mountinfo").write_text(f"{other}\n{mount.format(root=root, at=at, controllers=controllers)}\n")
    for folder, named in files.items():
        (at / folder).mkdir(parents=True, exist_ok=True)
        for name, content in named.items():
            (at / folder / name).write_text(content)
    assert granted_processors(process) == expected


def test_other_systems_have_no_quota(tmp_path):
    assert granted_processors(tmp_path / "nothing") is None


def v2_memory(most: str) -> dict[str, str]:
    return {"memory.max": most, "memory.current": "700", "memory.stat": "anon 5\ninactive_file 50"}


V1_MEMORY = {"memory.limit_in_bytes": "900", "memory.usage_in_bytes": "950", "memory.stat": "total_inactive_file 20"}


@pytest.mark.parametrize(
    ("groups", "mount", "files", "expected"),
    [
        (
            "0::/",
            V2_MOUNT,
            {"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 5\ninactive_file 50"},
            350,
        ),
        ("0::/", V2_MOUNT, {"memory.max": "max", "memory.current": "700", "memory.stat": "inactive_file 50"}, None),
        ("0::/", V2_MOUNT, {}, None),
        (
            "5:memory:/",
            V1_MOUNT,
            {"memory.limit_in_bytes": "900", "memory.usage_in_bytes": "950", "memory.stat": "total_inactive_file 20"},
            0,
        ),
    ],
)
def test_the_memory_that_control_groups_leave(tmp_path, groups, mount, files, expected):
    process, at = tmp_path / "self", tmp_path / "sys"
    process.mkdir()
    (process / "cgroup").write_text(f"{groups}\n")
    (process / "mountinfo").write_text(
        f"{mount.format(root='/', at=at, controllers='memory').replace('/cpu', '/memory')}\n"
    )
    folder = at / "memory" if mount is V1_MOUNT else at
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    assert memory_left(process) == expected
