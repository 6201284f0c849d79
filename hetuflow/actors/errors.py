"""Errors of the actor kernel. `Rejected` (the domain's no) and the store's errors pass through it unchanged."""

from __future__ import annotations

from hetuflow.domain.decider import Address


class ActorError(Exception):
    """An actor could not answer."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class Crashed(ActorError):
    """A defect: the actor failed on this command. Its state was dropped and is folded again from the log.

    `__cause__` is the exception. The other commands of its mailbox go on.
    """

    def __init__(self, address: Address, command: object) -> None:
        self.address, self.command = address, type(command).__name__
        super().__init__(f"{address.stream_id} failed on {self.command}")


class Quarantined(ActorError):
    """The actor crashed too often: commands are refused for `retry_after_seconds`."""

    def __init__(self, address: Address, retry_after_seconds: float) -> None:
        self.address, self.retry_after_seconds = address, retry_after_seconds
        super().__init__(f"{address.stream_id} crashed too often: try again in {retry_after_seconds:.0f} s")


class GuardLost(ActorError):
    """A stream that the decision relied on, not the actor's own, is at another version: nothing was written.

    The kernel has forgotten what it knew of that stream: read it again, then ask again with the newer picture.
    """

    def __init__(self, stream_id: str, expected: int, actual: int) -> None:
        self.stream_id, self.expected, self.actual = stream_id, expected, actual
        super().__init__(f"the decision relied on version {expected} of {stream_id}, which is at {actual}")


class MailboxFull(ActorError):
    """The actor has as many commands waiting as its mailbox holds: try later."""

    def __init__(self, address: Address, capacity: int) -> None:
        self.address, self.capacity = address, capacity
        super().__init__(f"{address.stream_id} has {capacity} commands waiting already")


class SystemStopped(ActorError):
    """The actor system is not running, or stopped before the command ended: its outcome is what the log says."""


class UnknownCategory(ActorError):
    """There is no decider for this category of actors."""

    def __init__(self, category: str) -> None:
        self.category = category
        super().__init__(f"there are no actors of category {category!r}")
