"""One activation of an actor, and what askers get to see of it."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from attrs import frozen

from hetuflow.actors.context import Conversation
from hetuflow.actors.mailbox import Mailbox
from hetuflow.domain.decider import Address, Decider, Decision

S = TypeVar("S")


@frozen(slots=True)
class Answer:
    """What a command led to.

    `position` is the global position of the append's last event; when nothing changed, that of the last event the
    answer was read from (0: the stream is empty). A table that has reached it shows this answer.
    """

    position: int
    version: int
    decision: Decision
    state: Any


@frozen(slots=True)
class Reading(Generic[S]):
    """A folded state; `version` 0 means that the entity does not exist, `position` is that of its last event."""

    state: S
    version: int
    position: int


class Cell:
    """An actor in memory. Cold while `version` is None; busy while it has a mailbox.

    Only the holder of a busy cell folds its stream: two folds at once could finish in the wrong order. `floor` is the
    highest version this process has heard of; a fold below it is stale and is repeated. `openings` counts the appends
    under way that open it: until each is answered the cell stays, so that a late answer finds what happened since.
    """

    __slots__ = (
        "address",
        "conversation",
        "decider",
        "floor",
        "mailbox",
        "openings",
        "position",
        "snapshot_version",
        "state",
        "version",
    )

    def __init__(self, address: Address, decider: Decider[Any]) -> None:
        self.address = address
        self.decider = decider
        self.mailbox: Mailbox[Any] | None = None
        self.version: int | None = None
        self.conversation: Conversation | None = None
        self.state: Any = None
        self.position = 0
        self.floor = 0
        self.openings = 0
        self.snapshot_version = 0

    def __repr__(self) -> str:
        kind = "cold" if self.version is None else f"version {self.version}"
        return f"<Cell {self.address.stream_id} {kind}{', busy' if self.is_busy else ''}>"

    @property
    def is_busy(self) -> bool:
        return self.mailbox is not None

    @property
    def may_leave(self) -> bool:
        """Whether nobody would miss it: it can be had again from the log."""
        return self.mailbox is None and not self.openings

    @property
    def is_warm(self) -> bool:
        return self.version is not None

    @property
    def is_stale(self) -> bool:
        return self.version is not None and self.version < self.floor

    def forget(self) -> None:
        """Drop the state; the log remembers it."""
        self.version = self.state = None

    def heard_of(self, version: int) -> None:
        """The stream is known to reach at least this version."""
        if version > self.floor:
            self.floor = version

    def take(self, version: int, state: Any, position: int, conversation: Conversation | None = None) -> bool:
        """Become the state at `version`; False when something newer is known."""
        if version < self.floor or (self.version is not None and version < self.version):
            if self.is_stale:
                self.forget()
            return False
        self.version, self.state, self.position, self.floor = version, state, position, version
        self.conversation = conversation
        return True

    def reading(self) -> Reading[Any]:
        assert self.version is not None
        return Reading(self.state, self.version, self.position)
