"""The gateway's bounds and deadlines, as one value."""

from __future__ import annotations

import math

from attrs import frozen

from hetuflow.protocol.messages import LEASE_SECONDS

HEARTBEATS_PER_SECOND_MAX = 50
"""Of all agents together: about 1 % of a core. Beyond it the interval grows with the number of agents, as far as their
leases allow: a lease of 120 s holds the bound up to 3 000 agents, from then on there are two heartbeats to a lease."""

HEARTBEATS_PER_LEASE = 4
"""Three may be lost without an agent being declared lost."""

HEARTBEATS_PER_LEASE_MIN = 2
"""Also when so many are connected that the interval grows."""

INTERVAL_CHANGE_MIN = 0.2
"""An agent is told of another interval when it differs from the last by this share: not at each that comes or goes."""


@frozen(slots=True, kw_only=True)
class GatewaySettings:
    """`*_seconds` are monotonic seconds; 0 connections = no limit."""

    server_id: str
    store_id: str = ""
    lease_seconds_min: float = 5.0
    """Shorter ones would end work for one slow commit."""
    lease_seconds_max: float = 3600.0
    heartbeat_seconds: float = 30.0
    check_seconds: float = 10.0
    connections_max: int = 1000
    admissions_max: int = 32
    """Greetings under way at once: a storm of reconnections is served a batch at a time, not all at the same time."""
    hello_seconds: float = 10.0
    ping_seconds: float = 2.0
    send_seconds: float = 10.0
    close_seconds: float = 2.0
    """For what a closing connection still has to say to the log."""
    outbox_messages_max: int = 10_000
    reports_max: int = 10_000
    """Reports of one connection waiting for their commit; its socket is not read beyond it."""
    output_bytes_max: int = 8 * 1024 * 1024
    """Output of one connection waiting to be stored; its socket is not read beyond it."""

    def lease_seconds(self, wanted: float) -> float:
        """The lease of a session whose agent asks for so many seconds."""
        asked = LEASE_SECONDS if math.isnan(wanted) else wanted
        return min(max(asked, self.lease_seconds_min), self.lease_seconds_max)

    def heartbeat_interval(self, connections: int, lease_seconds: float, wished_seconds: float = 0.0) -> float:
        """Seconds between the heartbeats of an agent with this lease when so many are connected.

        `wished_seconds`: the agent's own setting; it gets no longer one for it. 0 = none.
        """
        wished = wished_seconds if 0 < wished_seconds < self.heartbeat_seconds else self.heartbeat_seconds
        wanted = min(wished, lease_seconds / HEARTBEATS_PER_LEASE)
        return min(max(wanted, connections / HEARTBEATS_PER_SECOND_MAX), lease_seconds / HEARTBEATS_PER_LEASE_MIN)
