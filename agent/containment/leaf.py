"""What a control group of its own does for one process tree."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from typing import Final, Protocol

from attrs import frozen

from agent.containment import files

MEBIBYTE: Final = 1024 * 1024
CPU_PERIOD_MICROSECONDS: Final = 100_000
CPU_QUOTA_MICROSECONDS_MIN: Final = 1000
"""The kernel takes no less."""

FULL_SHARE_MIN: Final = 0.9
"""Of its ceiling, in a tree that is ended for it: some of it may just have died."""

GROUP_PREFIX: Final = "hetuflow-"


class ContainmentError(Exception):
    """Control groups were asked for and cannot be had. The message says why not."""


@frozen(slots=True, kw_only=True)
class LeafUsage:
    """None = this group cannot tell."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    disk_read_bytes: int | None = None
    disk_write_bytes: int | None = None
    cpu_pressure_seconds: float | None = None
    memory_pressure_seconds: float | None = None


NO_FIGURES: Final = LeafUsage()


class Leaf(Protocol):
    """A group in which one tree is born, and which it cannot leave without the rights of its keeper."""

    @property
    def level(self) -> str:
        """cgroup2 or cgroup1."""
        ...

    @property
    def directory(self) -> str:
        """That of the group which holds the tree together: who is in it is in its `cgroup.procs`."""
        ...

    @property
    def enforced(self) -> tuple[str, ...]:
        """The limits that were asked for and that the kernel holds here: memory, cpu, processes."""
        ...

    @property
    def descriptor(self) -> int | None:
        """Of its directory, for a clone into it; None where the keeper has to `enter` for the length of the spawn."""
        ...

    def enter(self) -> None:
        """What this thread starts is born here now. Raises `OSError`, and is where it was then."""
        ...

    def leave(self) -> None: ...

    def confine(self) -> None:
        """Set what must not hold while the keeper is inside. Raises `OSError`."""
        ...

    def pids(self) -> list[int]:
        """Live processes, zombies not counted."""
        ...

    def is_populated(self) -> bool: ...

    def is_deserted(self) -> bool:
        """Nothing of the tree is left, not even something to be reaped. False also where that cannot be told."""
        ...

    def kill(self) -> None:
        """SIGKILL to all, so that none can fork meanwhile; again until it is empty."""
        ...

    def usage(self) -> LeafUsage: ...

    def broken(self) -> tuple[str, str] | None:
        """Which limit was broken, with a sentence that has the figure. Stays what it was first."""
        ...

    def remove(self) -> bool:
        """False while something is left in it."""
        ...


class Groups(Protocol):
    """Where a keeper's leaves are made."""

    @property
    def level(self) -> str: ...

    @property
    def limits(self) -> tuple[str, ...]:
        """Which limits the kernel can hold here."""
        ...

    @property
    def directories(self) -> tuple[str, ...]:
        """Below these, `*/cgroup.procs` has every program of this keeper: for who must end them when it is killed."""
        ...

    def leaf_directory(self, name: str) -> str:
        """Which `Leaf.directory` a leaf of this name will have."""
        ...

    def leaf(self, name: str, *, memory_bytes: int, cpu_cores: float, processes: int) -> Leaf:
        """Raises `OSError`."""
        ...

    def close(self) -> None:
        """Remove what is empty."""
        ...


def send(pids: list[int], number: signal.Signals) -> None:
    """To each that is still there, but never to this process itself."""
    own = os.getpid()
    for pid in pids:
        if pid != own:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def quota(cpu_cores: float) -> int:
    """Microseconds of CPU time in each period."""
    return max(CPU_QUOTA_MICROSECONDS_MIN, round(cpu_cores * CPU_PERIOD_MICROSECONDS))


def memory_sentence(limit_bytes: int, peak_bytes: int) -> str:
    peak = f", used {peak_bytes / MEBIBYTE:.0f} MiB at most" if peak_bytes else ""
    return f"ended because it needed more memory than its limit of {limit_bytes / MEBIBYTE:g} MiB{peak} (memory)"


def has_run_into(path: str, asked: int, most: int) -> bool:
    """A fork failed in this group, for its limit of processes. `asked`: the limit is its own, 0 = the ceiling.

    The kernel counts here also what a group above has refused, which is no fault of a tree that is far from its ceiling.
    """
    if not files.keyed(f"{path}/pids.events").get("max", 0):
        return False
    return bool(asked) or files.number(f"{path}/pids.current") >= most * FULL_SHARE_MIN


def processes_sentence(asked: int, most: int) -> str:
    """`asked`: the limit of its own, 0 = none; `most` then held."""
    if asked:
        return f"ended because it wanted more processes and threads than its limit of {asked} (processes)"
    return (
        f"ended because it wanted more processes and threads than the {most} of a job without max_processes (processes)"
    )


@frozen(slots=True)
class KeeperId:
    """What tells a keeper apart on its machine: pids mean nothing outside of their namespace (containers have their own)."""

    namespace: str
    pid: int
    start: str
    """Its start time, see `agent.process_tree.identity`."""


def keeper_name(agent: str, keeper: KeeperId) -> str:
    """A group's name that tells by itself whether its keeper is still there."""
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in agent)[:64]
    return f"{GROUP_PREFIX}{plain}.{keeper.namespace}.{keeper.pid}.{keeper.start}"


def keeper_of(name: str) -> KeeperId | None:
    """The keeper whose group has this name; None = not a name of ours."""
    parts = name.removeprefix(GROUP_PREFIX).rsplit(".", 3)
    if not name.startswith(GROUP_PREFIX) or len(parts) != 4 or not parts[2].isdigit():
        return None
    return KeeperId(parts[1], int(parts[2]), parts[3])


def process_ceiling(sources: Mapping[str, int]) -> int:
    """What one keeper's programs may have of processes and threads together: three quarters of what the machine allows.

    So that a fork bomb without a limit of its own leaves room for the keeper, its agent and whoever comes to look.
    """
    known = [value for value in sources.values() if value > 0]
    return max(16, min(known) * 3 // 4) if known else 0


def tree_ceiling(ceiling: int) -> int:
    """What a tree without a limit of its own may have, of the `ceiling` of all: 15 % of what the machine allows.

    Source: systemd, `DefaultTasksMax=15%`. With three quarters a bomb became 24 576 processes, beside which two cores did
    nothing else: the end took 43 s, and agent, server and database had lost each other meanwhile.
    """
    return max(16, ceiling // 5) if ceiling else 0
