"""What a decider is: four pure values, and the values they exchange with the kernel.

`decide(command, state, now)` says what happens, `evolve(state, event)` what is then true, `intents(state)` what should be
so in the outside world because of it. No clock, no randomness, no I/O, no await: time, ids and other entities' states
come in with the command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from attrs import Factory, field, frozen

from hetuflow.domain.events import Event
from hetuflow.domain.execution import KILL_GRACE_SECONDS, PLAIN, Execution

S = TypeVar("S")


@frozen(slots=True, cache_hash=True)
class Address:
    """Who: a category (`job`, `schedule`, `task`, `agent`, `server`, `lease`) and an id."""

    category: str
    id: str

    @property
    def stream_id(self) -> str:
        return f"{self.category}-{self.id}"

    @classmethod
    def of_stream(cls, stream_id: str) -> Address:
        category, _, entity = stream_id.partition("-")
        return cls(category, entity)


@frozen(slots=True)
class Guard:
    """A check-only precondition: the append is refused unless that stream still has that version."""

    stream_id: str
    version: int


@frozen(slots=True)
class Decision:
    """Events for the actor's own stream, events that open *new* streams, and guards: appended all or nothing."""

    events: Sequence[Event] = ()
    opened: Mapping[Address, Sequence[Event]] = Factory(dict)
    guards: Sequence[Guard] = ()

    def __bool__(self) -> bool:
        return bool(self.events or self.opened)


NOTHING = Decision()


class Intent:
    """Something that should be so outside. Frozen and hashable; equal intents are the same wish."""

    __slots__ = ()


@frozen(slots=True)
class Due(Intent):
    """The schedule wants to be asked to fire at this wall-clock instant."""

    at: datetime


@frozen(slots=True, cache_hash=True)
class Bound:
    """At most `most` instances at once of all tasks that name the limit (`kind`, `name`)."""

    kind: str
    name: str
    most: int


@frozen(slots=True, cache_hash=True)
class Rate:
    """At most `count` starts of the job in any `per_seconds`."""

    count: int
    per_seconds: int


@frozen(slots=True)
class Offer(Intent):
    """The task's open instance wants a slot on an agent, not before `not_before_at`.

    `labels` are sorted (name, value) pairs that the agent must have; `agent_id` is a pin; `bounds` and `rate` are the
    task's own limits. `made_at`: when the task was created; it does not wait before that. Order of service: see
    `hetuflow.domain.waiting.rank`.
    """

    task_id: str
    job_id: str
    priority: int
    not_before_at: datetime
    labels: tuple[tuple[str, str], ...]
    agent_id: str | None
    instance_id: str
    avoid: tuple[str, ...] = ()
    """Agents that are given it only when no other that fits has a free slot."""
    namespace_id: str = "default"
    bounds: tuple[Bound, ...] = ()
    rate: Rate | None = None
    made_at: datetime | None = None
    epoch: int = 0
    """Of its last dispatch: one that came back unstarted is another offer."""


@frozen(slots=True)
class Await(Intent):
    """The task waits for these tasks to end: it wants to be told of each that has. `cancels`: they are to be ended."""

    task_id: str
    job_id: str
    task_ids: frozenset[str]
    cancels: bool = False


@frozen(slots=True)
class Follow(Intent):
    """The schedule or backfill wants to be told how these tasks, which it made, end."""

    follower: Address
    job_id: str
    task_ids: frozenset[str]


@frozen(slots=True)
class Backfill(Intent):
    """The backfill may make more tasks; or, cancelled, those of `waiting` that no agent has are to be cancelled.

    `cursor_at`, `open_count`: how far it is; after each step the wish is another one.
    """

    backfill_id: str
    job_id: str
    cursor_at: datetime
    open_count: int
    waiting: frozenset[str] = frozenset()


@frozen(slots=True)
class Tend(Intent):
    """The flow run is open: it wants to be told when all its tasks have ended.

    `job_id` is that of its root. `task_ids`: each after all that it follows. `cancel_reason`: what is open is to be
    cancelled first. `reopens`: tasks that are to run again first, unless they have since that attempt.
    """

    flow_run_id: str
    job_id: str
    task_ids: tuple[str, ...]
    is_cancelled: bool = False
    cancel_reason: str | None = None
    reopens: tuple[Reopening, ...] = ()


@frozen(slots=True)
class Reopening:
    """A task of a flow run that is to run again. `attempt` had ended; `is_whole`: it waits again for all it follows."""

    task_id: str
    attempt: int
    is_whole: bool


@frozen(slots=True)
class WatchFor(Intent):
    """The schedule waits for changes of files whose paths fit one of these globs: agents that may run its job watch them.

    `types` of file.created, file.modified, file.deleted.
    """

    schedule_id: str
    job_id: str
    globs: tuple[str, ...]
    types: tuple[str, ...]


@frozen(slots=True)
class Expire(Intent):
    """The task is to be ended at this moment unless it has been given to an agent by then."""

    task_id: str
    job_id: str
    at: datetime


@frozen(slots=True)
class Keep(Intent):
    """The daemon wants to be told what becomes of these tasks, its open ones, and to be looked at at `at`.

    `cancels`: those that are to be ended. `revision` grows when it wants to be looked at because of itself.
    """

    schedule_id: str
    job_id: str
    task_ids: frozenset[str]
    cancels: frozenset[str]
    at: datetime | None
    revision: int


@frozen(slots=True)
class Occupy(Intent):
    """The instance holds a slot of the agent: wanted from dispatch until the event that ends or requeues it.

    It counts for `bounds` and for the limit of `namespace_id`; both are fixed by its dispatch, and so is its lease:
    `lease_seconds`, 0 = that of its agent's session. `is_kept`: it is its agent's also when the lease is over.
    """

    agent_id: str
    instance_id: str
    epoch: int
    task_id: str
    job_id: str
    namespace_id: str = field(default="default", eq=False)
    bounds: tuple[Bound, ...] = field(default=(), eq=False)
    lease_seconds: int = field(default=0, eq=False)
    is_kept: bool = field(default=False, eq=False)


@frozen(slots=True)
class Send(Intent):
    """The agent should get this dispatch, on exactly this session. Wanted until it is accepted (started) or ended."""

    agent_id: str
    session: str
    instance_id: str
    epoch: int
    order: DispatchOrder = field(eq=False)


@frozen(slots=True)
class Stop(Intent):
    """The agent should end the process tree of this instance. Wanted until the instance has ended."""

    agent_id: str
    instance_id: str
    epoch: int
    task_id: str
    reason: str
    grace_seconds: int = field(default=KILL_GRACE_SECONDS, eq=False)


@frozen(slots=True)
class Available(Intent):
    """The agent is connected on this session of this server and takes work (0 slots when draining).

    `version` is that of the agent's stream: a dispatch guards it, so that none is committed for an agent that has been
    drained, removed or labelled otherwise meanwhile. 0 = not known, not guarded.
    """

    agent_id: str
    server_id: str
    session: str
    slots: int
    labels: tuple[tuple[str, str], ...]
    draining: bool
    drain_reason: str | None = None
    version: int = 0

    @property
    def guard(self) -> tuple[Guard, ...]:
        return (Guard(f"agent-{self.agent_id}", self.version),) if self.version else ()


@frozen(slots=True)
class Watch(Intent):
    """The agent's last session has not been declared lost: its lease is to be watched (also after a restart)."""

    agent_id: str
    session: str
    server_id: str
    connected: bool
    lease_seconds: float


@frozen(slots=True, kw_only=True)
class DispatchOrder:
    """All that an agent needs to run one instance. `environment` is final (job < task < parameters < HETUFLOW_*).

    `execution`: what its config asks for beyond a plain program.
    """

    task_id: str
    job_id: str
    instance_id: str
    epoch: int
    attempt: int
    cmd: str
    args: tuple[str, ...]
    environment: Mapping[str, str]
    timeout_seconds: int
    capture_output: bool
    output_bytes_max: int
    scheduled_at: datetime
    execution: Execution = PLAIN


@frozen(slots=True)
class Choice:
    """`fitting` agents could be given the task; the chosen one had `used` of its `slots` in use, the smallest share."""

    fitting: int
    used: int
    slots: int
    avoided: tuple[str, ...] = ()
    """Agents that were to be given it only for want of others."""


@frozen(slots=True, kw_only=True)
class Placement:
    """A slot that the dispatcher holds for the task. `guards`: the lease the decision was taken under.

    `choice`: why this agent, None when nobody says.
    """

    agent_id: str
    session: str
    server_id: str
    guards: tuple[Guard, ...] = ()
    choice: Choice | None = None


class Decider(Protocol, Generic[S]):
    """One kind of actor. `initial` is the state of a stream without events."""

    category: str
    initial: S

    def decide(self, command: Any, state: S, now: datetime) -> Decision:
        """The events that follow, `NOTHING` when all is already so; raises `Rejected`."""
        ...

    def evolve(self, state: S, event: Any) -> S:
        """The state after the event. Raises on an event that cannot follow: the log must always fold."""
        ...

    def intents(self, state: S) -> frozenset[Intent]:
        """What should be so outside because of this state."""
        ...
