"""Child processes of the agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import frozen


class StartError(Exception):
    """The program could not be started: missing, not executable, working directory unusable. The message says which."""


@frozen(slots=True, kw_only=True)
class ProcessSpec:
    """`argv[0]` is looked up on the PATH of `environment`, then of the agent. `work_dir` exists."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    work_dir: str
    capture_output: bool = True


@frozen(slots=True, kw_only=True)
class Exit:
    """How a process tree's root ended. CPU seconds and peak memory (bytes) cover what the tree's root has reaped."""

    exit_code: int | None
    signal: int | None
    cpu_seconds: float
    memory_peak_bytes: int
    disk_read_bytes: int = 0
    disk_write_bytes: int = 0


class RunningProcess(Protocol):
    @property
    def pid(self) -> int: ...

    async def receive_output(self) -> tuple[int, bytes] | None:
        """The next piece of output: (1 = stdout | 2 = stderr, bytes); None when both have ended."""
        ...

    async def wait(self) -> Exit:
        """Wait until the root process has ended."""
        ...

    def terminate_tree(self) -> None:
        """SIGTERM to the whole process tree (session, and descendants that left it)."""
        ...

    def kill_tree(self) -> None:
        """SIGKILL to the whole process tree."""
        ...

    def tree_is_alive(self) -> bool:
        """Whether any process of the tree is left."""
        ...


class ProcessRunner(Protocol):
    async def start(self, spec: ProcessSpec) -> RunningProcess:
        """Start a program in a session of its own. Raises `StartError`."""
        ...
