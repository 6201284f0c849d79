"""The keeper, as the agent sees it: a port. In real it is a process of its own (`agent.keeper.client`), which outlives
the agent; where there is none it lives inside the agent (`agent.inside`) and ends with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from agent.keeper.messages import Attach, Holding, KeeperMessage


class KeeperLost(Exception):
    """There is no connection with a keeper any more, or none can be had; the message says why."""


class Keeping(Protocol):
    """One connection with a keeper."""

    @property
    def holding(self) -> Holding:
        """What the keeper held when the connection began: complete, whatever number of messages it took."""
        ...

    def send(self, *messages: KeeperMessage) -> None:
        """In this order, as soon as the keeper takes them; never waits. Without effect on a connection that is lost."""
        ...

    async def receive(self) -> Sequence[KeeperMessage]:
        """At least one, in order. Raises `KeeperLost`."""
        ...


class Keepers(Protocol):
    """Where keepers come from: one per state directory."""

    why_gone: str
    """What became of an instance that was launched and that no keeper holds, as a sentence of its report."""

    def now(self) -> float:
        """Seconds of the lease clock (`agent.keeper.messages`)."""
        ...

    def attached(self, attach: Attach) -> AbstractAsyncContextManager[Keeping]:
        """Find the keeper, or start one, and be connected with it for the length of the block.

        Entering raises `KeeperLost` when neither is possible; the block is never cancelled because the connection is
        lost (`receive` tells). At its end the keeper goes on, unless it lives inside the agent.
        """
        ...
