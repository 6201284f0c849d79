"""What agent and keeper say to each other. The keeper may be older or newer than the agent that finds it.

Compatibility is that of `hetuflow.protocol.messages`: a new field has a default, a number is never reused, what is not
known is ignored. Seconds are durations; *instants* of the lease are seconds of the clock that goes on while the machine
sleeps (CLOCK_BOOTTIME), which both processes read alike; times of day are RFC 3339 text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import Factory, frozen

from hetuflow.protocol.tagged import Tagged

KEEPER_PROTOCOL: Final = 1


class KeeperMessage:
    """Base of all messages, for typing only."""

    __slots__ = ()


@frozen(slots=True, kw_only=True)
class Limits:
    """What a process tree may use at most; 0 = as much as it likes."""

    memory_bytes: int = 0
    cpu_cores: float = 0.0
    """Share of one core: 0.8 is 80 % of one, 2.0 is two."""
    processes: int = 0


@frozen(slots=True, kw_only=True)
class Manners:
    """As whom and how politely a program runs."""

    run_as: str = ""
    """A user's name; "" = as the keeper."""
    umask: int = 0o077
    nice: int = 0
    """Added to the keeper's own."""
    ionice: str = ""
    """"" = as the keeper; idle, best-effort, or best-effort:0 to best-effort:7."""
    no_new_privs: bool = True


# --- agent -> keeper -----------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class Attach(KeeperMessage):
    """The first message of a connection. A later attach of an equal or higher incarnation replaces the earlier one."""

    agent_id: str
    incarnation: int
    version: str
    protocol: int = KEEPER_PROTOCOL


@frozen(slots=True, kw_only=True)
class Launch(KeeperMessage):
    """Start a program, once: a second launch of the same instance and epoch is ignored, and refused when it was settled.

    `directory`: where it starts; it exists. `spool_path`: where its output goes when it gets long (`agent.spool`).
    `timeout_seconds` 0 = no limit. `lease_seconds`: how long it may go on after `Lease.renewed_at`, 0 = without bound.
    """

    task_id: str
    instance_id: str
    epoch: int
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    spool_path: str
    capture_output: bool = True
    output_bytes_max: int = 10 * 1024 * 1024
    timeout_seconds: float = 0.0
    lease_seconds: float = 0.0
    kill_grace_seconds: float = 10.0
    stdin: bytes = b""
    limits: Limits = Limits()
    manners: Manners = Manners()


@frozen(slots=True, kw_only=True)
class End(KeeperMessage):
    """End the instance's process tree: SIGTERM, `grace_seconds`, SIGKILL. `reason` and `message` are those of `Finished`."""

    instance_id: str
    epoch: int
    reason: str
    message: str
    grace_seconds: float = 10.0


@frozen(slots=True, kw_only=True)
class Lease(KeeperMessage):
    """The server has renewed the lease: each instance may run until `renewed_at` plus its own `lease_seconds`.

    `renewed_at`: when the acknowledged heartbeat was sent. The end is begun a grace earlier (`agent.limits`).
    """

    renewed_at: float


@frozen(slots=True, kw_only=True)
class Leased(KeeperMessage):
    """The instance's lease is so long from now on: the session that it depends on is another one. Seconds, 0 = without bound."""

    instance_id: str
    epoch: int
    lease_seconds: float


@frozen(slots=True, kw_only=True)
class Settled(KeeperMessage):
    """The agent has journaled how these ended, with their output: (instance, epoch)."""

    ended: tuple[tuple[str, int], ...]


@frozen(slots=True, kw_only=True)
class Leave(KeeperMessage):
    """The agent stops for good: end when nothing is held any more."""


@frozen(slots=True, kw_only=True)
class Probe(KeeperMessage):
    """Are you there?"""

    token: int


# --- keeper -> agent -----------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class Held(KeeperMessage):
    """One instance as the keeper has it now. `finished` None: it runs."""

    launched: Launched
    small: bytes = b""
    """Its spool, while that has no file."""
    spool_bytes: int = 0
    finished: Finished | None = None


@frozen(slots=True, kw_only=True)
class Holding(KeeperMessage):
    """The answer to `Attach`: complete but for what `more` says follows in further ones."""

    pid: int
    version: str
    instances: tuple[Held, ...] = ()
    more: bool = False
    isolation: str = "session"
    """What it can do for a tree that asks for no limit: cgroup2, cgroup1, session."""
    limits: tuple[str, ...] = ()
    """Which limits it enforces, and how: "memory:cgroup1", "cpu:cgroup1", "processes:cgroup1", or ":sampled"."""
    protocol: int = KEEPER_PROTOCOL


@frozen(slots=True, kw_only=True)
class Launched(KeeperMessage):
    """`identity` tells the process apart from a later one with the same pid: its start time."""

    task_id: str
    instance_id: str
    epoch: int
    pid: int
    identity: str
    started_at: str
    isolation: str


@frozen(slots=True, kw_only=True)
class Grew(KeeperMessage):
    """The spool is `spool_bytes` long now. `data`: its new bytes while it is small; "" when they are in the file."""

    instance_id: str
    epoch: int
    spool_bytes: int
    data: bytes = b""


@frozen(slots=True, kw_only=True)
class Finished(KeeperMessage):
    """The tree is gone, and this is on disk. `reason` None = exit code 0; else as in `hetuflow.protocol.messages.Ended`,
    with memory, cpu and processes for limits. `start_error`: nothing ran, and there was no `Launched`.

    `metrics` and `output` as in `Ended`.
    """

    instance_id: str
    epoch: int
    completed_at: str
    duration_seconds: float = 0.0
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    metrics: Mapping[str, float] = Factory(dict)
    output: Mapping[str, Any] | None = None


@frozen(slots=True, kw_only=True)
class Sample(KeeperMessage):
    """What a running tree uses now: cpu_seconds, memory_bytes, memory_peak (0 = not known), disk_read, disk_write, processes;
    cpu_pressure and memory_pressure (seconds) where known."""

    instance_id: str
    epoch: int
    values: Mapping[str, float]


@frozen(slots=True, kw_only=True)
class Probed(KeeperMessage):
    token: int


KEEPER_MESSAGES: Tagged[KeeperMessage] = Tagged(
    {
        1: Attach,
        2: Launch,
        3: End,
        4: Lease,
        5: Settled,
        6: Leave,
        7: Probe,
        8: Leased,
        20: Holding,
        21: Launched,
        22: Grew,
        23: Finished,
        24: Sample,
        25: Probed,
    }
)
"""Number on the socket -> message. A frame is u32 length (big-endian), then one `[number, body]`."""
