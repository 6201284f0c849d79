"""Limits that the agent enforces itself, as arithmetic: time of a run, and the lease under which it may run at all."""

from __future__ import annotations

from typing import Final

from attrs import frozen

KILL_GRACE_SECONDS: Final = 10.0
"""Between SIGTERM and SIGKILL."""

LEASE_GRACE_SHARE_MAX: Final = 1 / 3
"""Of a short lease, at most this much is given up for ending processes in peace."""


@frozen(slots=True)
class Lease:
    """The right to run, as we may believe in it: counted from the *sending* of the last heartbeat that was acknowledged.

    The server counts from its receipt and adds a margin, so ours always ends first.
    """

    renewed_deadline_base: float
    """Monotonic seconds at which the acknowledged heartbeat (or the hello) was sent."""
    seconds: float

    @property
    def grace_seconds(self) -> float:
        return lease_grace_seconds(self.seconds)

    @property
    def deadline(self) -> float:
        """When running work must begin to end, so that it is gone when the lease is."""
        return self.renewed_deadline_base + self.seconds - self.grace_seconds


def lease_grace_seconds(lease_seconds: float, kill_grace_seconds: float = KILL_GRACE_SECONDS) -> float:
    """How long before the end of a lease its work must begin to end."""
    return min(kill_grace_seconds, lease_seconds * LEASE_GRACE_SHARE_MAX)


def lease_message(lease_seconds: float) -> str:
    return f"the server could not be reached for the length of the lease ({lease_seconds:g} s)"


NO_LEASE: Final = Lease(float("inf"), 0.0)
"""Before the first welcome: nothing has been dispatched, nothing can outlive it."""


MESSAGE_CHARACTERS_MAX: Final = 8192
"""Of a report; the server keeps less. What no server would take, it would never be rid of."""


def cut(message: str | None) -> str | None:
    if message is None or len(message) <= MESSAGE_CHARACTERS_MAX:
        return message
    return message[: MESSAGE_CHARACTERS_MAX - 1] + "…"


def run_deadline(started: float, timeout_seconds: float) -> float:
    """When a run is over its time; `timeout_seconds` 0 = never."""
    return started + timeout_seconds if timeout_seconds > 0 else float("inf")


def timeout_message(timeout_seconds: float) -> str:
    return f"ended after its time limit of {timeout_seconds:g} s (timeout)"
