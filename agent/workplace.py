"""Values that executor and runs share: where work is done, why it is to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from attrs import field, frozen

from agent.directories import Directories
from agent.limits import KILL_GRACE_SECONDS
from agent.policy import OPEN, Facts, PlainFacts, Policy
from agent.preparation import Preparations
from hetuflow.ports.clock import Clock
from hetuflow.ports.disk import Disk


def instant(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Leftovers(Protocol):
    """How processes of an earlier life are told apart and ended."""

    def identity(self, pid: int) -> str | None:
        """What tells this process apart from a later one with the same pid."""
        ...

    def of(self, instance_id: str, pid: int | None, identity: str | None) -> list[int]:
        """Live processes of the instance."""
        ...

    def kill(self, pids: list[int], *, forcefully: bool) -> None:
        """SIGTERM, or SIGKILL."""
        ...


class NoLeftovers:
    """For process runners without a past: nothing outlives the agent."""

    def identity(self, pid: int) -> str | None:
        return None

    def of(self, instance_id: str, pid: int | None, identity: str | None) -> list[int]:
        return []

    def kill(self, pids: list[int], *, forcefully: bool) -> None:
        pass


@frozen(slots=True, kw_only=True)
class Workplace:
    """Where and with what instances run."""

    work_dir: str
    slots: int
    base_environment: Mapping[str, str]
    disk: Disk
    clock: Clock
    directories: Directories
    preparations: Preparations = field(factory=Preparations)
    leftovers: Leftovers = field(factory=NoLeftovers)
    policy: Policy = OPEN
    facts: Facts = field(factory=PlainFacts)
    refusal: Callable[[], str | None] = lambda: None
    """Why the machine can take nothing more now, such as a full disk."""


@frozen(slots=True)
class StopOrder:
    """Why a run is to end, and how the report says so. `silent`: no report is wanted."""

    reason: str
    message: str
    grace_seconds: float = KILL_GRACE_SECONDS
    silent: bool = False
