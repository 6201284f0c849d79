"""Which hierarchies are there, from the texts that machines really have."""

from __future__ import annotations

import pytest

from agent.containment.leaf import KeeperId, keeper_name, keeper_of, process_ceiling, quota, tree_ceiling
from agent.containment.mounts import Hierarchy, hierarchies

V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = """\
33 25 0:29 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
34 25 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct
35 25 0:31 / /sys/fs/cgroup/memory rw shared:13 - cgroup cgroup rw,memory
36 25 0:32 / /sys/fs/cgroup/pids rw shared:14 - cgroup cgroup rw,pids
37 25 0:33 / /sys/fs/cgroup/blkio rw shared:15 - cgroup cgroup rw,blkio
38 25 0:34 / /sys/fs/cgroup/unified rw shared:16 - cgroup2 cgroup2 rw
"""


def test_version_2_alone() -> None:
    own = "0::/system.slice/hetuflow-agent.service/agent\n"
    assert hierarchies(V2, own) == [Hierarchy(2, "/sys/fs/cgroup/system.slice/hetuflow-agent.service/agent")]


def test_both_at_once_and_only_controllers_of_use() -> None:
    own = "5:pids:/a\n4:memory:/b c\n3:cpu,cpuacct:/\n2:blkio:/\n1:name=systemd:/x\n0::/x\n"
    assert hierarchies(HYBRID, own) == [
        Hierarchy(1, "/sys/fs/cgroup/cpu,cpuacct", ("cpu", "cpuacct")),
        Hierarchy(1, "/sys/fs/cgroup/memory/b c", ("memory",)),
        Hierarchy(1, "/sys/fs/cgroup/pids/a", ("pids",)),
        Hierarchy(2, "/sys/fs/cgroup/unified/x"),
    ]


def test_a_container_sees_its_part() -> None:
    mounted = "700 690 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    assert hierarchies(mounted, "4:memory:/docker/abc\n") == [Hierarchy(1, "/sys/fs/cgroup/memory", ("memory",))]
    assert hierarchies(mounted, "4:memory:/docker/abc/x\n") == [Hierarchy(1, "/sys/fs/cgroup/memory/x", ("memory",))]


@pytest.mark.parametrize("own", ["4:memory:/docker/other\n", "4:memory:/../outside\n", "5:pids:/docker/abc\n", ""])
def test_what_lies_outside_has_no_path_here(own: str) -> None:
    mounted = "700 690 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    assert hierarchies(mounted, own) == []


def test_a_mount_point_with_a_space() -> None:
    mounted = "700 690 0:31 / /sys/fs/my\\040groups rw - cgroup2 none rw\n"
    assert hierarchies(mounted, "0::/\n") == [Hierarchy(2, "/sys/fs/my groups")]


@pytest.mark.parametrize("line", ["", "nonsense", "1 2 3 - cgroup cgroup rw,memory", "1 2 0:3 / /x rw - cgroup"])
def test_lines_that_are_none(line: str) -> None:
    assert hierarchies(line + "\n", "4:memory:/\n") == []


def test_a_group_tells_whose_it_is() -> None:
    keeper = KeeperId("4026531836", 4711, "123456")
    name = keeper_name("agent.1/../x é", keeper)
    assert "/" not in name
    assert keeper_of(name) == keeper


@pytest.mark.parametrize(
    "name",
    [
        "",
        "hetuflow-agent",
        "hetuflow-x.y.z",
        "other-agent.1.2",
        "hetuflow-x.1.2",
        "other-x.1.2.3",
        "agent",
        "system.slice",
    ],
)
def test_groups_of_others_are_nobodys_keepers(name: str) -> None:
    assert keeper_of(name) is None


def test_shares_of_cores() -> None:
    assert [quota(cores) for cores in (0.8, 2.0, 0.000001)] == [80_000, 200_000, 1000]


def test_a_bomb_leaves_room_for_others() -> None:
    assert process_ceiling({"pid_max": 32768, "threads-max": 200_000}) == 24576
    assert process_ceiling({"pid_max": 0, "threads-max": 0}) == 0
    assert [tree_ceiling(ceiling) for ceiling in (24576, 20, 0)] == [4915, 16, 0]
