"""Statuses, kinds and reasons, with the codes that clients and tables see.

Source of the codes: the REST contract, "Enums". A code never changes its meaning.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class JobStatus(IntEnum):
    CREATED = 1
    EXPIRED = 98
    DISABLED = 99
    ENABLED = 100


class ScheduleStatus(IntEnum):
    CREATED = 1
    EXPIRED = 98
    DISABLED = 99
    ENABLED = 100


class ScheduleKind(IntEnum):
    CRON = 1
    INTERVAL = 2
    DAEMON = 3
    EVENT = 4
    FLOW = 5


class TaskStatus(IntEnum):
    PENDING = 1
    LOCKED = 2
    DISPATCHED = 5
    RUNNING = 10
    WAITING_RETRY = 15
    FAILED = 90
    CANCELLED = 99
    SUCCEEDED = 100

    @property
    def is_terminal(self) -> bool:
        return self >= TaskStatus.FAILED


class FlowStatus(IntEnum):
    RUNNING = 10
    FAILED = 90
    CANCELLED = 99
    SUCCEEDED = 100

    @property
    def is_terminal(self) -> bool:
        return self >= FlowStatus.FAILED


class InstanceStatus(IntEnum):
    PENDING = 1
    DISPATCHED = 5
    RUNNING = 10
    TIMEOUT = 20
    PAUSED = 30
    SKIPPED = 40
    FAILED = 90
    CANCELLED = 99
    SUCCEEDED = 100

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset(
    {
        InstanceStatus.TIMEOUT,
        InstanceStatus.SKIPPED,
        InstanceStatus.FAILED,
        InstanceStatus.CANCELLED,
        InstanceStatus.SUCCEEDED,
    }
)


class AgentStatus(IntEnum):
    IDLE = 10
    BUSY = 20
    CONNECTING = 30
    DISCONNECTING = 31
    OFFLINE = 90
    ERROR = 99
    ONLINE = 100


class ServerStatus(IntEnum):
    INACTIVE = 99
    ACTIVE = 100


class CommandKind(IntEnum):
    """What a connected agent can be told."""

    SHUTDOWN = 1
    UPDATE_CONFIG = 2
    CLEAR_CACHE = 3
    FETCH_METRICS = 4
    AGENT_REGISTERED = 5
    TASK_ACQUIRED = 6
    CANCEL_TASK = 7
    FETCH_LOG = 8


class InstanceReason(StrEnum):
    """Why an instance ended otherwise than in success."""

    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CPU = "cpu"
    PROCESSES = "processes"
    OUTPUT = "output"
    ARTIFACT = "artifact"
    LOST = "lost"
    REJECTED = "rejected"
    START_ERROR = "start_error"
    CANCELLED = "cancelled"


class OnDisconnect(StrEnum):
    """What an agent does with an instance whose lease it cannot renew."""

    STOP = "stop"
    CONTINUE = "continue"


class ParameterType(StrEnum):
    """What a declared parameter may be."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    ARRAY = "array"
    OBJECT = "object"


class RetryReason(StrEnum):
    """The reasons after which a task may be retried: one of the others means that nothing ran, one that nobody wants it."""

    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CPU = "cpu"
    PROCESSES = "processes"
    OUTPUT = "output"
    ARTIFACT = "artifact"
    LOST = "lost"
    START_ERROR = "start_error"


class RetryStrategy(StrEnum):
    """How the delays before the retries of a task grow."""

    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


class MisfirePolicy(StrEnum):
    SKIP = "skip"
    FIRE_ONCE = "fire_once"
    FIRE_ALL = "fire_all"


class IntervalMode(StrEnum):
    FIXED_RATE = "fixed_rate"
    FIXED_DELAY = "fixed_delay"


class OverlapPolicy(StrEnum):
    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"
    CANCEL_PREVIOUS = "cancel_previous"


class TaskTrigger(StrEnum):
    """What made a task."""

    SCHEDULE = "schedule"
    EXECUTE = "execute"
    RUN = "run"
    API = "api"
    EVENT = "event"
    DAEMON = "daemon"
    BACKFILL = "backfill"
    FLOW = "flow"


class BackfillStatus(StrEnum):
    RUNNING = "running"
    CANCELLED = "cancelled"
    FINISHED = "finished"
