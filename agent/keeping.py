"""The keeper, as the agent sees it: a port. In real it is a process of its own (`agent.keeper.client`), which outlives
the agent; where there is none it lives inside the agent (`agent.inside`) and ends with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

from attrs import frozen

from agent.keeper.messages import Attach, Held, KeeperMessage


class KeeperError(Exception):
    """There is no keeper, and none can be had. The message says why."""


@frozen(slots=True, kw_only=True)
class Attached:
    """There is a keeper (again), and this is all it holds. `why`: what became of the one before, "" = there was none."""

    instances: tuple[Held, ...] = ()
    pid: int = 0
    isolation: str = "session"
    limits: tuple[str, ...] = ()
    restarted: bool = False
    """Another process than the last one we were attached to."""
    why: str = ""


KeeperEvent = KeeperMessage | Attached


class Keeping(Protocol):
    """The conversation with whatever keeper there is."""

    @property
    def problem(self) -> str | None:
        """Why there is no keeper, when none can be had for the time being."""
        ...

    def send(self, message: KeeperMessage) -> None:
        """At once, in order; never waits. Dropped while no keeper is attached: the next `Attached` says what is missing."""
        ...

    def gathered(self) -> AbstractContextManager[None]:
        """What is sent within the block may leave at its end, together."""
        ...

    async def receive(self) -> Sequence[KeeperEvent]:
        """What has happened, at least one event; the very first is `Attached`. Raises `trio.EndOfChannel` when the keeper is
        gone because it was told to `Leave`."""
        ...

    async def flush(self) -> None:
        """Everything sent so far has left the agent, or the keeper is lost."""
        ...


class Keepers(Protocol):
    """Where keepers come from: one per state directory."""

    @property
    def why_gone(self) -> str:
        """What became of an instance that has run and that no keeper holds, as a sentence of its report."""
        ...

    @property
    def remembers(self) -> bool:
        """Whether a keeper holds, or has held, all that was ever launched: what it does not know has not run."""
        ...

    def now(self) -> float:
        """Seconds of the lease clock (`agent.keeper.messages`)."""
        ...

    def opened(self, attach: Attach) -> AbstractAsyncContextManager[Keeping]:
        """Find the keeper, or start one, and have one for the length of the block. It goes on afterwards, unless it lives
        inside the agent. Raises `KeeperError` at the beginning.
        """
        ...
