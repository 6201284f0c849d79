"""What the keeper asks of the operating system: the port behind which its real form and the simulation's lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from attrs import frozen

from agent.keeper.messages import Launch, Launched
from hetuflow.ports.processes import Exit


@frozen(slots=True, kw_only=True)
class Usage:
    """Of a whole process tree since its start; 0 = not measured."""

    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    disk_read_bytes: int = 0
    disk_write_bytes: int = 0
    processes: int = 0
    cpu_pressure_seconds: float = 0.0
    memory_pressure_seconds: float = 0.0


class Loop(Protocol):
    """What the real system asks of the keeper's loop, besides a call of its `tick` when that is due."""

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call whenever `fd` is readable, until `unwatch`. A callback may unwatch any `fd`, also one that is ready now."""
        ...

    def unwatch(self, fd: int) -> None:
        """Before `fd` is closed. No error when it is not watched."""
        ...


class Listener(Protocol):
    """Who is told of a tree. Called from the keeper's loop, never from within `spawn_all`."""

    def wrote(self, stream: int, data: bytes) -> None:
        """Output arrived: 1 = stdout, 2 = stderr."""
        ...

    def closed(self) -> None:
        """Both streams have ended; without captured output: just before `exited`."""
        ...

    def exited(self, exit_: Exit) -> None:
        """The root has ended and is reaped; others of its tree may live."""
        ...


@frozen(slots=True)
class Wanted:
    """A program to be started."""

    launch: Launch
    environment: Mapping[str, str]
    """That of the launch, with the keeper's mark."""
    listener: Listener


class Tree(Protocol):
    """A process tree that the keeper has started."""

    @property
    def pid(self) -> int: ...

    @property
    def identity(self) -> str:
        """The root's start time."""
        ...

    @property
    def began(self) -> float:
        """When the root was started, in seconds of `System.now`."""
        ...

    @property
    def isolation(self) -> str:
        """How the tree is kept apart and its limits are held: "cgroup2", "cgroup1", "session", with "+sampled" limits."""
        ...

    def terminate(self) -> None:
        """SIGTERM to every process of the tree (and SIGCONT: a stopped one cannot obey)."""
        ...

    def kill(self) -> None:
        """SIGKILL to every process of the tree; again until `is_alive` is false."""
        ...

    def is_alive(self) -> bool:
        """Whether any process of the tree is left."""
        ...

    def usage(self) -> Usage: ...

    def exceeded(self) -> tuple[str, str] | None:
        """A limit that the tree has broken, with a sentence that has the figure: ("memory", "...") ; None = none.

        A kernel that has killed for it says so here too; the keeper ends what is left of the tree.
        """
        ...

    def close(self) -> None:
        """The tree is gone, and its output no longer wanted: give everything back."""
        ...


class System(Protocol):
    def now(self) -> float:
        """Seconds of the lease clock; see `messages`."""
        ...

    def wall(self) -> datetime: ...

    def spawn_all(self, wanted: Sequence[Wanted]) -> Sequence[Tree | Exception]:
        """Start these programs, in this order. For each its tree, or why there is none: `StartError`, or a bug."""
        ...

    def orphan(self, launched: Launched) -> Tree:
        """What an earlier keeper, which was killed, has left of this instance: the root when pid and start time are the
        same, what is in its session, what carries the instance's mark, what is in its group. Perhaps nothing is alive.
        `pid` 0: whether it was started is not known.

        Its listener hears nothing; it is only asked whether it lives, killed, and closed.
        """
        ...

    def isolation(self) -> str: ...

    def limits(self) -> Mapping[str, str]:
        """Limit -> how it is enforced: memory, cpu, processes -> cgroup2, cgroup1, sampled."""
        ...
