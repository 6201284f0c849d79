"""Control groups of version 2: one hierarchy, of which a part must be delegated to the keeper.

    base                    the group of the agent's service, delegated to it; without processes of its own
    ├── agent               whatever was in it: the agent
    └── hetuflow-<agent>.<pid>.<start>
        ├── keeper          this process: the kernel's rule is that a group with controllers has no processes
        └── <instance>.<epoch>

A tree is born in its group by clone3 (CLONE_INTO_CGROUP, Linux 5.7). To enter and leave as with version 1 is not an option:
here a move takes the lock of all forks, 10 to 20 ms when cold. So limits can be set before the tree is born.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final

from agent.containment import files
from agent.containment.leaf import (
    CPU_PERIOD_MICROSECONDS,
    GROUP_PREFIX,
    ContainmentError,
    LeafUsage,
    has_run_into,
    memory_sentence,
    processes_sentence,
    quota,
    send,
    tree_ceiling,
)

LEVEL: Final = "cgroup2"
AGENT_GROUP: Final = "agent"
"""Also what systemd makes of `DelegateSubgroup=agent`."""
KEEPER_GROUP: Final = "keeper"
CONTROLLERS: Final = ("memory", "pids", "cpu", "io")
_LIMITS: Final = {"memory": "memory", "cpu": "cpu", "processes": "pids"}
_UNITS: Final = (".service", ".scope", ".slice")
KILL_ROUNDS_MAX: Final = 8


class Groups2:
    """See `Groups`. Use `open_groups2`."""

    def __init__(self, base: str, directory: str, controllers: tuple[str, ...], ceiling: int, *, clones: bool) -> None:
        self._base, self._directory = base, directory
        self.controllers, self.ceiling, self.clones = controllers, ceiling, clones

    @property
    def level(self) -> str:
        return LEVEL

    @property
    def limits(self) -> tuple[str, ...]:
        return tuple(limit for limit, controller in _LIMITS.items() if controller in self.controllers)

    @property
    def directories(self) -> tuple[str, ...]:
        return (self._directory,)

    def leaf_directory(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def leaf(self, name: str, *, memory_bytes: int, cpu_cores: float, processes: int) -> Leaf2:
        return Leaf2(self, self.leaf_directory(name), memory_bytes, cpu_cores, processes)

    def leave(self) -> None:
        """Back to the keeper's own group."""
        files.write(f"{self._directory}/{KEEPER_GROUP}/cgroup.procs", "0")

    def close(self) -> None:
        """Back to where it came from; nothing of the keeper's is left when its programs have gone."""
        with contextlib.suppress(OSError):
            home = f"{self._base}/{AGENT_GROUP}"
            files.write(f"{home if os.path.isdir(home) else self._base}/cgroup.procs", "0")
        files.remove_with_groups(self._directory)


class Leaf2:
    """See `Leaf`. Made by `Groups2.leaf`."""

    def __init__(self, groups: Groups2, path: str, memory_bytes: int, cpu_cores: float, processes: int) -> None:
        self._groups, self._path = groups, path
        self._memory_bytes = memory_bytes if "memory" in groups.controllers else 0
        self._cpu_cores = cpu_cores if "cpu" in groups.controllers else 0.0
        self._processes = processes if "pids" in groups.controllers else 0
        self._broken: tuple[str, str] | None = None
        self._is_killed = False
        self._descriptor: int | None = None
        files.make_group(path)
        try:
            if groups.clones:
                self._confine()
                self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self.remove()
            raise

    @property
    def level(self) -> str:
        return LEVEL

    @property
    def directory(self) -> str:
        return self._path

    @property
    def enforced(self) -> tuple[str, ...]:
        held = {"memory": self._memory_bytes, "cpu": self._cpu_cores, "processes": self._processes}
        return tuple(limit for limit, value in held.items() if value)

    @property
    def descriptor(self) -> int | None:
        return self._descriptor

    def enter(self) -> None:
        """Only before Linux 5.7."""
        files.write(f"{self._path}/cgroup.procs", "0")

    def leave(self) -> None:
        self._groups.leave()

    def confine(self) -> None:
        if self._descriptor is None:
            self._confine()
        else:
            os.close(self._descriptor)  # it was for the clone
            self._descriptor = None

    def pids(self) -> list[int]:
        return files.pids(f"{self._path}/cgroup.procs")

    def is_populated(self) -> bool:
        return files.is_populated(f"{self._path}/cgroup.events", b"populated 1")

    def is_deserted(self) -> bool:
        return "pids" in self._groups.controllers and files.is_nought(f"{self._path}/pids.current")

    def kill(self) -> None:
        self.broken()
        self._is_killed = True
        try:
            files.write(f"{self._path}/cgroup.kill", "1")
        except OSError:  # before Linux 5.14
            self._freeze_and_kill()

    def usage(self) -> LeafUsage:
        has_memory, has_io = "memory" in self._groups.controllers, "io" in self._groups.controllers
        read, written = self._disk() if has_io else (None, None)
        return LeafUsage(
            cpu_seconds=files.keyed(f"{self._path}/cpu.stat").get("usage_usec", 0) / 1e6,
            memory_bytes=files.number(f"{self._path}/memory.current") if has_memory else None,
            memory_peak_bytes=self._peak() if has_memory else None,
            disk_read_bytes=read,
            disk_write_bytes=written,
            cpu_pressure_seconds=self._pressure("cpu"),
            memory_pressure_seconds=self._pressure("memory"),
        )

    def broken(self) -> tuple[str, str] | None:
        if self._broken is None and not self._is_killed:
            self._broken = self._look()
        return self._broken

    def remove(self) -> bool:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        return files.remove_group(self._path)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _confine(self) -> None:
        controllers = self._groups.controllers
        if self._most() and "pids" in controllers:
            files.write(f"{self._path}/pids.max", str(self._most()))
        if self._cpu_cores:
            files.write(f"{self._path}/cpu.max", f"{quota(self._cpu_cores)} {CPU_PERIOD_MICROSECONDS}")
        if self._memory_bytes:
            with contextlib.suppress(FileNotFoundError):  # no accounting of swap here
                files.write(f"{self._path}/memory.swap.max", "0")
            with contextlib.suppress(FileNotFoundError):  # Linux 4.19: all of a tree are killed, not its largest
                files.write(f"{self._path}/memory.oom.group", "1")
            files.write(f"{self._path}/memory.max", str(self._memory_bytes))

    def _most(self) -> int:
        return self._processes or tree_ceiling(self._groups.ceiling)

    def _look(self) -> tuple[str, str] | None:
        if self._memory_bytes:
            events = files.keyed(f"{self._path}/memory.events")
            if events.get("oom_kill", 0) and events.get("oom", 0):
                return "memory", memory_sentence(self._memory_bytes, self._peak())
        if self._most() and has_run_into(self._path, self._processes, self._most()):
            return "processes", processes_sentence(self._processes, self._most())
        return None

    def _peak(self) -> int:
        """`memory.peak` came with Linux 5.19."""
        return files.number(f"{self._path}/memory.peak") or files.number(f"{self._path}/memory.current")

    def _disk(self) -> tuple[int, int]:
        """(read, written) bytes of all devices."""
        totals = {"rbytes": 0, "wbytes": 0}
        with contextlib.suppress(OSError):
            for word in files.read(f"{self._path}/io.stat").decode().split():
                name, _, value = word.partition("=")
                if name in totals:
                    totals[name] += int(value)
        return totals["rbytes"], totals["wbytes"]

    def _pressure(self, what: str) -> float | None:
        """Seconds in which some process of the tree had to wait; None without PSI."""
        try:
            first = files.read(f"{self._path}/{what}.pressure").decode().partition("\n")[0]
        except OSError:
            return None
        _, _, total = first.rpartition("total=")
        return int(total) / 1e6 if total.isdigit() else None

    def _freeze_and_kill(self) -> None:
        with contextlib.suppress(OSError):  # Linux 5.2; a frozen process dies of SIGKILL in this version
            files.write(f"{self._path}/cgroup.freeze", "1")
        for _ in range(KILL_ROUNDS_MAX):
            pids = self.pids()
            if not pids:
                break
            send(pids, signal.SIGKILL)


def open_groups2(own: str, name: str, ceiling: int, *, clones: bool) -> Groups2:
    """Take possession of what is delegated.

    Args:
      own: the directory of this process's group.
      name: of the keeper's group, see `keeper_name`.
      ceiling: processes and threads of all programs together; 0 = as many as the machine allows.
      clones: whether the kernel clones into a group.
    Raises:
      ContainmentError: nothing is, or it is not ours to divide.
    """
    base = base_of(own)
    directory = f"{base}/{name}"
    try:
        _check_delegated(base)
        with contextlib.suppress(FileExistsError):
            files.make_group(directory)
        files.make_group(f"{directory}/{KEEPER_GROUP}")
        files.write(f"{directory}/{KEEPER_GROUP}/cgroup.procs", "0")
        controllers = _hand_down(base, directory)
    except OSError as exc:
        files.remove_with_groups(directory)
        raise ContainmentError(f"{base}: {exc.strerror}") from exc
    if "pids" in controllers and ceiling:
        with contextlib.suppress(OSError):
            files.write(f"{directory}/pids.max", str(ceiling))
    return Groups2(base, directory, controllers, ceiling if "pids" in controllers else 0, clones=clones)


def base_of(own: str) -> str:
    """The group that is divided: above `agent`, or above an earlier keeper's."""
    if os.path.basename(own) == KEEPER_GROUP and os.path.basename(os.path.dirname(own)).startswith(GROUP_PREFIX):
        return os.path.dirname(os.path.dirname(own))
    return os.path.dirname(own) if os.path.basename(own) == AGENT_GROUP else own


def controllers_of(base: str) -> list[str]:
    """Those of use that a group has to give."""
    available = files.words(f"{base}/cgroup.controllers")
    return [name for name in CONTROLLERS if name in available]


def _check_delegated(base: str) -> None:
    """Of what systemd manages, only a unit with `Delegate=yes` is ours to divide; root could write the others too."""
    if not os.access(f"{base}/cgroup.procs", os.W_OK) or not os.access(f"{base}/cgroup.subtree_control", os.W_OK):
        raise ContainmentError(f"{base} is not writable: it is not delegated")
    if not base.endswith(_UNITS) or os.geteuid() != 0:  # systemd gives its user what it delegates
        return
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(base, name) == b"1":
                return
    raise ContainmentError(f"{base} belongs to systemd: give the unit Delegate=yes")


def _hand_down(base: str, directory: str) -> tuple[str, ...]:
    """Enable in `directory` what `base` has, and return it. For that, `base` must be without processes."""
    wanted = controllers_of(base)
    enabled = files.words(f"{base}/cgroup.subtree_control")
    if any(name not in enabled for name in wanted) and os.path.exists(f"{base}/cgroup.type"):  # only the root has none
        _move_away(base)
    for place in (base, directory):
        for name in wanted:
            with contextlib.suppress(
                OSError
            ):  # one that is refused (cpu, beside realtime tasks) is no reason against others
                files.write(f"{place}/cgroup.subtree_control", f"+{name}")
    handed = files.words(f"{directory}/cgroup.subtree_control")
    return tuple(name for name in wanted if name in handed)


def _move_away(base: str) -> None:
    """Into `agent`: the agent, and whatever else its service consists of."""
    home = f"{base}/{AGENT_GROUP}"
    with contextlib.suppress(FileExistsError):
        files.make_group(home)
    for pid in files.pids(f"{base}/cgroup.procs"):
        with contextlib.suppress(ProcessLookupError):
            files.write(f"{home}/cgroup.procs", str(pid))
