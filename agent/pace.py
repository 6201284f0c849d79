"""How often the agent beats, and how long it waits for the answer: as the shortest lease of what it runs asks for.

Pure. Times are monotonic seconds.
"""

from __future__ import annotations

from typing import Final

ACK_SECONDS_MIN: Final = 10.0
"""A heartbeat unanswered for this long, or for the heartbeat interval if that is longer, ends the connection; at a quarter of a
short lease already, so that there is time to dial again."""
INTERVAL_SECONDS_MIN: Final = 0.05
"""Whatever the server says."""
BEAT_SHARE_MAX: Final = 0.25
"""Of the shortest lease of what runs: the longest time between two heartbeats. Of the session's, the server says more
where very many agents are connected."""
OWN_LEASE_SECONDS: Final = 600.0
"""How long an instance with a lease of its own is remembered: its job may send more."""


class Pace:
    """Of one connection. `wanted_seconds`: between two heartbeats, as the agent is configured.

    `lease_seconds` is the session's, 0 before the welcome.
    """

    def __init__(self, wanted_seconds: float) -> None:
        self._beat_seconds = wanted_seconds
        self.lease_seconds = 0.0
        self._own_seconds = self._own_until = float("inf")

    def welcomed(self, beat_seconds: float, lease_seconds: float, *, is_final: bool = False) -> None:
        """What the server asks for, and gives. `is_final`: it has heard what this agent is configured for; an older one
        has not."""
        wanted = beat_seconds if is_final else min(self._beat_seconds, beat_seconds)
        self._beat_seconds = max(INTERVAL_SECONDS_MIN, wanted)
        self.lease_seconds = lease_seconds

    def told(self, beat_seconds: float) -> None:
        """The server asks for another interval: it knows how many agents there are."""
        self._beat_seconds = max(INTERVAL_SECONDS_MIN, beat_seconds)

    def ordered(self, beat_seconds: float) -> None:
        """By an operator."""
        self._beat_seconds = min(max(INTERVAL_SECONDS_MIN, beat_seconds), self.lease_seconds * BEAT_SHARE_MAX)

    def given(self, own_lease_seconds: float, now: float) -> None:
        """An instance with a lease of its own has come."""
        known = self._own_seconds if now < self._own_until else float("inf")
        self._own_seconds, self._own_until = min(own_lease_seconds, known), now + OWN_LEASE_SECONDS

    def interval(self, running_lease_seconds: float, now: float) -> float:
        """Between two heartbeats: as the server said, which knows how many agents there are; more often while something
        runs under a shorter lease than the session's, and for a while after. `running_lease_seconds`: the shortest of what
        runs."""
        own = self._own_seconds if now < self._own_until else float("inf")
        shortest = min(running_lease_seconds, own)
        longest = shortest * BEAT_SHARE_MAX if shortest < self.lease_seconds else self._beat_seconds
        return max(INTERVAL_SECONDS_MIN, min(self._beat_seconds, longest))

    def ack_seconds(self, running_lease_seconds: float) -> float:
        """How long an answer to a heartbeat is waited for."""
        shortest = min(self.lease_seconds, running_lease_seconds)
        return min(max(ACK_SECONDS_MIN, self._beat_seconds), shortest * BEAT_SHARE_MAX)
