"""Version 2: what is asked of the kernel, against a directory that is as it would be with controllers.

The tests' machines have the controllers in version 1. That a tree is born in its group, is found and killed there is tested
with the real hierarchy in `tests/agent/hostile`; that the kernel holds the limits which are written here is not tested.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.containment import cgroup2, files
from agent.containment.cgroup2 import Groups2, base_of, open_groups2
from agent.containment.leaf import ContainmentError
from tests.agent.containment.fake_cgroup2 import FakeCgroup2

ALL = ("cpuset", "cpu", "io", "memory", "pids")
NAME = "hetuflow-a.1.2"
AGENT = 4_000_001
MEBIBYTE = 1024 * 1024


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeCgroup2]:
    def made(controllers: tuple[str, ...] = ALL, processes: tuple[int, ...] = (AGENT,)) -> FakeCgroup2:
        made = FakeCgroup2(tmp_path / "delegated", controllers, [*processes, os.getpid()])
        for name in ("make_group", "remove_group", "write"):
            monkeypatch.setattr(files, name, getattr(made, name))
        return made

    return made


def opened(fake: FakeCgroup2, ceiling: int = 0) -> Groups2:
    return open_groups2(str(fake.root), NAME, ceiling, clones=True)


def content(path: Path) -> str:
    return path.read_text().strip()


def test_what_is_delegated_is_divided(fake: Callable[..., FakeCgroup2]) -> None:
    group = fake()
    groups = opened(group, ceiling=24576)
    assert groups.limits == ("memory", "cpu", "processes")
    assert group.procs(str(group.root)) == []
    assert group.procs(str(group.root / "agent")) == [AGENT]
    assert group.procs(str(group.root / NAME / "keeper")) == [os.getpid()]
    assert content(group.root / NAME / "cgroup.subtree_control") == "memory pids cpu io"
    assert content(group.root / NAME / "pids.max") == "24576"


def test_a_later_keeper_finds_it_divided(fake: Callable[..., FakeCgroup2]) -> None:
    """The agent is in its own group then, and its keeper begins there."""
    group = fake()
    opened(group).close()
    own = str(group.root / "agent")
    assert os.getpid() in group.procs(own)
    assert not (group.root / NAME).exists()
    groups = open_groups2(own, "hetuflow-a.3.4", 0, clones=True)
    assert groups.directories == (str(group.root / "hetuflow-a.3.4"),)
    assert groups.limits == ("memory", "cpu", "processes")
    assert group.procs(own) == [AGENT]


def test_limits_are_set_before_the_tree_is_born(fake: Callable[..., FakeCgroup2]) -> None:
    group = fake()
    leaf = opened(group).leaf("i.1", memory_bytes=64 * MEBIBYTE, cpu_cores=0.8, processes=20)
    path = group.root / NAME / "i.1"
    assert leaf.descriptor is not None and leaf.enforced == ("memory", "cpu", "processes")
    found = [
        content(path / name) for name in ("memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max")
    ]
    assert found == [str(64 * MEBIBYTE), "0", "1", "80000 100000", "20"]
    leaf.confine()
    assert leaf.descriptor is None
    assert leaf.remove() and not path.exists()


def test_without_a_limit_only_the_ceiling_is_set(fake: Callable[..., FakeCgroup2]) -> None:
    group = fake()
    leaf = opened(group, ceiling=1000).leaf("i.1", memory_bytes=0, cpu_cores=0.0, processes=0)
    path = group.root / NAME / "i.1"
    assert leaf.enforced == ()
    assert [content(path / name) for name in ("memory.max", "cpu.max", "pids.max")] == ["max", "max 100000", "200"]
    assert leaf.remove()


@pytest.mark.parametrize(("current", "is_broken"), [(195, True), (20, False)])
def test_the_ceiling_is_a_reason_only_for_a_tree_that_is_at_it(
    current: int, is_broken: bool, fake: Callable[..., FakeCgroup2]
) -> None:
    """The kernel counts in a leaf also the forks that a group above has refused."""
    group = fake()
    leaf = opened(group, ceiling=1000).leaf("i.1", memory_bytes=0, cpu_cores=0.0, processes=0)
    (group.root / NAME / "i.1" / "pids.events").write_text("max 3\n")
    (group.root / NAME / "i.1" / "pids.current").write_text(f"{current}\n")
    broken = leaf.broken()
    assert (broken is not None) == is_broken
    assert broken is None or "the 200 of a job without max_processes" in broken[1]


def test_what_was_used(fake: Callable[..., FakeCgroup2]) -> None:
    group = fake()
    leaf = opened(group).leaf("i.1", memory_bytes=0, cpu_cores=0.0, processes=0)
    path = group.root / NAME / "i.1"
    (path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\nsystem_usec 2\n")
    (path / "memory.current").write_text("1000\n")
    (path / "memory.peak").write_text("5000\n")
    (path / "pids.current").write_text("3\n")
    assert not leaf.is_deserted()
    (path / "io.stat").write_text(
        "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1\n"
    )
    (path / "memory.pressure").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=250000\nfull total=9\n")
    usage = leaf.usage()
    assert (usage.cpu_seconds, usage.memory_bytes, usage.memory_peak_bytes) == (1.5, 1000, 5000)
    assert (usage.disk_read_bytes, usage.disk_write_bytes) == (11, 22)
    assert (usage.cpu_pressure_seconds, usage.memory_pressure_seconds) == (0.0, 0.25)


@pytest.mark.parametrize(
    ("file", "events", "reason"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 1\n", "memory"),
        ("memory.events", "low 0\nhigh 0\nmax 9\noom 0\noom_kill 0\noom_group_kill 0\n", None),  # reclaimed in time
        (
            "memory.events",
            "low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 0\n",
            None,
        ),  # the machine's, not its own
        ("pids.events", "max 1\n", "processes"),
        ("pids.events", "max 0\n", None),
    ],
)
def test_which_limit_was_broken(file: str, events: str, reason: str | None, fake: Callable[..., FakeCgroup2]) -> None:
    group = fake()
    leaf = opened(group).leaf("i.1", memory_bytes=64 * MEBIBYTE, cpu_cores=0.0, processes=20)
    (group.root / NAME / "i.1" / file).write_text(events)
    broken = leaf.broken()
    assert (broken[0] if broken else None) == reason
    assert broken is None or ("64 MiB" in broken[1] or "limit of 20" in broken[1])


def test_a_failed_fork_after_the_kill_is_no_reason(fake: Callable[..., FakeCgroup2]) -> None:
    group = fake()
    leaf = opened(group).leaf("i.1", memory_bytes=0, cpu_cores=0.0, processes=20)
    path = group.root / NAME / "i.1"
    leaf.kill()
    assert content(path / "cgroup.kill") == "1"
    (path / "pids.events").write_text("max 7\n")
    assert leaf.broken() is None


def test_controllers_that_are_not_there_hold_nothing(fake: Callable[..., FakeCgroup2]) -> None:
    group = fake(controllers=("cpu", "memory"))
    groups = opened(group, ceiling=100)
    assert groups.limits == ("memory", "cpu")
    leaf = groups.leaf("i.1", memory_bytes=MEBIBYTE, cpu_cores=0.5, processes=20)
    assert leaf.enforced == ("memory", "cpu")
    assert not leaf.is_deserted(), "nobody knows"
    assert leaf.remove()


def test_what_belongs_to_systemd_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = FakeCgroup2(tmp_path / "a.service", ALL, [os.getpid()])
    for name in ("make_group", "remove_group", "write"):
        monkeypatch.setattr(files, name, getattr(made, name))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    with pytest.raises(ContainmentError, match=r"a\.service belongs to systemd: give the unit Delegate=yes"):
        opened(made)
    assert made.procs(str(made.root)) == [os.getpid()]
    delegated = {"user.delegate": b"1"}
    monkeypatch.setattr(os, "getxattr", lambda path, name: delegated[name])
    assert opened(made).limits == ("memory", "cpu", "processes")


def test_what_is_not_writable_is_not_delegated(
    fake: Callable[..., FakeCgroup2], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = fake()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ContainmentError, match="is not writable: it is not delegated"):
        opened(group)


def test_a_group_that_cannot_be_read_is_not_empty(fake: Callable[..., FakeCgroup2]) -> None:
    """Such as for want of a descriptor: who believed it would call a tree gone that runs."""
    groups = opened(fake())
    leaf = groups.leaf("i.1", memory_bytes=0, cpu_cores=0.0, processes=0)
    events = Path(leaf.directory) / "cgroup.events"
    events.write_text("populated 0\nfrozen 0\n")
    assert not leaf.is_populated()
    events.unlink()
    events.mkdir()
    assert leaf.is_populated()
    events.rmdir()
    assert not leaf.is_populated(), "it is gone"


def test_before_linux_5_7_the_keeper_enters(fake: Callable[..., FakeCgroup2]) -> None:
    group = fake()
    groups = open_groups2(str(group.root), NAME, 0, clones=False)
    leaf = groups.leaf("i.1", memory_bytes=MEBIBYTE, cpu_cores=0.0, processes=0)
    path = group.root / NAME / "i.1"
    assert leaf.descriptor is None
    leaf.enter()
    assert group.procs(str(path)) == [os.getpid()]
    assert content(path / "memory.max") == "max", "the keeper must not be killed for its program"
    leaf.leave()
    leaf.confine()
    assert group.procs(str(path)) == []
    assert content(path / "memory.max") == str(MEBIBYTE)


@pytest.mark.parametrize(
    ("own", "base"),
    [
        ("/s/a.service", "/s/a.service"),
        ("/s/a.service/agent", "/s/a.service"),
        ("/s/a.service/hetuflow-a.1.2/keeper", "/s/a.service"),
        ("/s/keeper", "/s/keeper"),
    ],
)
def test_the_group_that_is_divided(own: str, base: str) -> None:
    assert base_of(own) == base
    assert cgroup2.AGENT_GROUP == "agent", "what the documentation says of DelegateSubgroup"
