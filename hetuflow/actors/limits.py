"""The bounds of an actor system, as one value."""

from __future__ import annotations

from attrs import Factory, frozen

from hetuflow.actors.supervisor import RestartPolicy


@frozen(slots=True, kw_only=True)
class Limits:
    """Bounds and policies; the defaults are those of a server."""

    mailbox_commands: int = 64
    """Commands that wait for one actor, those under way excluded; askers beyond it wait outside (trio's channel size)."""
    warm_cells: int = 10_000
    """Idle actors kept in memory; beyond it the least recently used are forgotten."""
    attempts: int = 5
    """How often a command is decided anew because its stream changed meanwhile."""
    chunk_streams: int = 200
    """Streams per read when many are activated: about 3 000 events of tasks."""
    drain_seconds: float = 5.0
    """How long a stop waits for the commands under way and in mailboxes."""
    retry_seconds: float = 1.0
    """First pause before effects that failed, or appends whose outcome is unknown, are looked at again."""
    retry_seconds_max: float = 15.0
    snapshot_events: int = 200
    """A stream this much longer than its last snapshot gets a new one at passivation (tasks have 5-20 events)."""
    verify_unchanged: bool = True
    """Check a rejection or "no change" of a warm actor against the log before it is answered (one append of a guard).

    Needed where several servers share a log: the warm state may be behind it.
    """
    restart: RestartPolicy = Factory(RestartPolicy)
