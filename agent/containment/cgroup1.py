"""Control groups of version 1: one hierarchy per controller, and a thread may move itself alone.

A tree is born in its group because the keeper's thread is in it for the length of the spawn: a "0" written to `tasks` moves
the writer and takes no lock. Measured on Linux 6.18: 8 us there and back, 50 us when cold; by `cgroup.procs`, which moves
whole processes, 10 to 20 ms when cold, in which the keeper would stand still. A group made, entered, left and removed costs
45 us of CPU time, so every tree gets one in the hierarchy that keeps it together; those of memory (0.13 ms) and cpu are made
only for a tree with such a limit. They are set after the keeper has left: it must not be throttled or killed for its program.

Kept together by: pids (nothing can fork while `pids.max` is 0), or else freezer (nothing runs while it is frozen).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Final

from agent.containment import files
from agent.containment.leaf import (
    CPU_PERIOD_MICROSECONDS,
    NO_FIGURES,
    ContainmentError,
    LeafUsage,
    has_run_into,
    memory_sentence,
    processes_sentence,
    quota,
    send,
    tree_ceiling,
)
from agent.containment.mounts import Hierarchy

LEVEL: Final = "cgroup1"
KILL_ROUNDS_MAX: Final = 8
PEAK_SHARE_MIN: Final = 0.95
"""Of its limit, in a tree that was killed for it. `memory.failcnt`, which should tell, stays 0 on Linux 6.18."""


class Groups1:
    """See `Groups`. Use `open_groups1`."""

    def __init__(self, parents: dict[str, str], directories: dict[str, str], ceiling: int) -> None:
        self._parents, self._directories = parents, directories
        self.ceiling = ceiling
        self.holder = "pids" if "pids" in directories else "freezer"
        self._homes = {
            controller: os.open(f"{parent}/tasks", os.O_WRONLY | os.O_CLOEXEC) for controller, parent in parents.items()
        }

    @property
    def level(self) -> str:
        return LEVEL

    @property
    def limits(self) -> tuple[str, ...]:
        names = {"memory": "memory", "cpu": "cpu", "processes": "pids"}
        return tuple(limit for limit, controller in names.items() if controller in self._directories)

    @property
    def directories(self) -> tuple[str, ...]:
        return (self._directories[self.holder],)

    def directory(self, controller: str) -> str | None:
        return self._directories.get(controller)

    def home(self, controller: str) -> int:
        """Where the keeper itself is: a descriptor, because a way back must not need one that is not to be had."""
        return self._homes[controller]

    def leaf_directory(self, name: str) -> str:
        return f"{self._directories[self.holder]}/{name}"

    def leaf(self, name: str, *, memory_bytes: int, cpu_cores: float, processes: int) -> Leaf1:
        return Leaf1(self, name, memory_bytes, cpu_cores, processes)

    def close(self) -> None:
        for fd in self._homes.values():
            os.close(fd)
        self._homes.clear()
        for directory in self._directories.values():
            files.remove_with_groups(directory)


class Leaf1:
    """See `Leaf`. Made by `Groups1.leaf`."""

    def __init__(self, groups: Groups1, name: str, memory_bytes: int, cpu_cores: float, processes: int) -> None:
        self._groups = groups
        self._memory_bytes = memory_bytes if groups.directory("memory") else 0
        self._cpu_cores = cpu_cores if groups.directory("cpu") else 0.0
        self._processes = processes if groups.directory("pids") else 0
        self._broken: tuple[str, str] | None = None
        self._is_killed = False
        self._paths: dict[str, str] = {}
        self._homes: dict[str, int] = {}
        self._doors: list[int] = []
        """Descriptors of `tasks`, for `enter`: between two starts everything is slow, so they are opened before."""
        try:
            for controller in self._controllers():
                self._make(controller, name)
            self._set_ceiling()
        except OSError:
            self.remove()
            raise
        self._holder = self._paths[groups.holder]

    @property
    def level(self) -> str:
        return LEVEL

    @property
    def directory(self) -> str:
        return self._holder

    @property
    def enforced(self) -> tuple[str, ...]:
        held = {"memory": self._memory_bytes, "cpu": self._cpu_cores, "processes": self._processes}
        return tuple(limit for limit, value in held.items() if value)

    @property
    def descriptor(self) -> int | None:
        return None

    def enter(self) -> None:
        try:
            for door in self._doors:
                os.write(door, b"0")
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        for home in self._homes.values():
            os.write(home, b"0")

    def confine(self) -> None:
        self._close_doors()
        if self._processes and "pids" in self._paths:
            files.write(f"{self._paths['pids']}/pids.max", str(self._processes))
        if self._cpu_cores:
            files.write(f"{self._paths['cpu']}/cpu.cfs_period_us", str(CPU_PERIOD_MICROSECONDS))
            files.write(f"{self._paths['cpu']}/cpu.cfs_quota_us", str(quota(self._cpu_cores)))
        if self._memory_bytes:
            self._confine_memory()

    def pids(self) -> list[int]:
        return files.pids(f"{self._holder}/cgroup.procs")

    def is_populated(self) -> bool:
        return files.is_populated(f"{self._holder}/cgroup.procs")

    def is_deserted(self) -> bool:
        return files.is_nought(f"{self._paths['pids']}/pids.current") if "pids" in self._paths else False

    def kill(self) -> None:
        self.broken()  # before we make its forks fail ourselves
        self._is_killed = True
        self._hold()
        try:
            for _ in range(KILL_ROUNDS_MAX):
                pids = self.pids()
                if not pids:
                    break
                send(pids, signal.SIGKILL)
        finally:
            self._release()

    def usage(self) -> LeafUsage:
        memory, accounting = self._paths.get("memory"), self._paths.get("cpuacct")
        if not memory and not accounting:
            return NO_FIGURES
        return LeafUsage(
            cpu_seconds=files.number(f"{accounting}/cpuacct.usage") / 1e9 if accounting else None,
            memory_bytes=files.number(f"{memory}/memory.usage_in_bytes") if memory else None,
            memory_peak_bytes=self._peak() if memory else None,
        )

    def broken(self) -> tuple[str, str] | None:
        if self._broken is None and not self._is_killed:
            self._broken = self._look()
        return self._broken

    def remove(self) -> bool:
        self._close_doors()
        for controller, path in list(self._paths.items()):
            if files.remove_group(path):
                del self._paths[controller]
        return not self._paths

    # --- inside ----------------------------------------------------------------------------------------------------

    def _controllers(self) -> list[str]:
        wanted = [self._groups.holder]
        if self._memory_bytes:
            wanted.append("memory")
        if self._cpu_cores:
            wanted += [name for name in ("cpu", "cpuacct") if self._groups.directory(name)]
        return wanted

    def _make(self, controller: str, name: str) -> None:
        self._homes[controller] = self._groups.home(controller)
        path = f"{self._groups.directory(controller)}/{name}"
        if path not in self._paths.values():  # cpu and cpuacct are often one hierarchy
            files.make_group(path)
            self._paths[controller] = path  # to be removed if it cannot be opened
            self._doors.append(os.open(f"{path}/tasks", os.O_WRONLY | os.O_CLOEXEC))
        self._paths[controller] = path

    def _close_doors(self) -> None:
        for door in self._doors:
            os.close(door)
        self._doors.clear()

    def _set_ceiling(self) -> None:
        most, path = self._most(), self._paths.get("pids")
        if most and path is not None:
            own = 1 if self._processes else 0  # the keeper's thread is inside too; a ceiling need not be that exact
            files.write(f"{path}/pids.max", str(most + own))

    def _most(self) -> int:
        return self._processes or tree_ceiling(self._groups.ceiling)

    def _confine_memory(self) -> None:
        path = self._paths["memory"]
        try:
            files.write(f"{path}/memory.limit_in_bytes", str(self._memory_bytes))
            with contextlib.suppress(FileNotFoundError):  # no accounting of swap here
                files.write(f"{path}/memory.memsw.limit_in_bytes", str(self._memory_bytes))
        except OSError:  # it has more already, and cannot give it back
            self._broken = ("memory", memory_sentence(self._memory_bytes, self._peak()))
            self.kill()

    def _peak(self) -> int:
        return files.number(f"{self._paths['memory']}/memory.max_usage_in_bytes") if "memory" in self._paths else 0

    def _look(self) -> tuple[str, str] | None:
        if self._memory_bytes and "memory" in self._paths:
            kills = files.keyed(f"{self._paths['memory']}/memory.oom_control").get("oom_kill", 0)
            peak = self._peak()
            if (
                kills and peak >= self._memory_bytes * PEAK_SHARE_MIN
            ):  # else the machine's memory was short, not the tree's
                return "memory", memory_sentence(self._memory_bytes, peak)
        if self._most() and "pids" in self._paths and has_run_into(self._paths["pids"], self._processes, self._most()):
            return "processes", processes_sentence(self._processes, self._most())
        return None

    def _hold(self) -> None:
        with contextlib.suppress(OSError):
            if "pids" in self._paths:
                files.write(f"{self._paths['pids']}/pids.max", "0")
            else:
                if os.getpid() in self.pids():  # the way back out had failed: who freezes itself never thaws
                    self.leave()
                files.write(f"{self._holder}/freezer.state", "FROZEN")

    def _release(self) -> None:
        """What is frozen does not even die."""
        if "pids" not in self._paths:
            with contextlib.suppress(OSError):
                files.write(f"{self._holder}/freezer.state", "THAWED")


def open_groups1(found: Sequence[Hierarchy], name: str, ceiling: int) -> Groups1:
    """A group of the keeper's in each hierarchy that has one of our controllers and may be written.

    Args:
      name: of the keeper's group, see `keeper_name`.
      ceiling: processes and threads of all programs together; 0 = as many as the machine allows.
    Raises:
      ContainmentError: neither pids nor freezer can be had, and they are what holds a tree together.
    """
    parents: dict[str, str] = {}
    directories: dict[str, str] = {}
    refused: list[str] = []
    for hierarchy in found:
        if hierarchy.version != 1:
            continue
        path = f"{hierarchy.directory}/{name}"
        try:
            _check_way_back(hierarchy.directory)
            with contextlib.suppress(FileExistsError):
                files.make_group(path)
        except OSError as exc:
            refused.append(f"{path}: {exc.strerror}")
            continue
        for controller in hierarchy.controllers:
            parents[controller], directories[controller] = hierarchy.directory, path
    groups = Groups1(parents, directories, ceiling if "pids" in directories else 0)
    if not {"pids", "freezer"} & directories.keys():
        groups.close()
        raise ContainmentError("; ".join(refused) or "no hierarchy of version 1 with pids or freezer is mounted")
    if groups.ceiling:
        with contextlib.suppress(OSError):
            files.write(f"{directories['pids']}/pids.max", str(ceiling))
    return groups


def _check_way_back(directory: str) -> None:
    """Raises `OSError` where the keeper could not return from a group below."""
    os.close(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))
