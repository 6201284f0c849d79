"""How a daemon is kept running, and how it stands."""

from __future__ import annotations

from hetuflow.api.kinds import Array, Boolean, Integer, Kind, NameId, Number, Text, Time, Uuid
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.daemon_rules import DEFAULTS, NULLABLE, bounds_of

_DOCS = {
    "instances": "how many to keep running, each in a seat, 0 to instances - 1",
    "backoff_initial_seconds": "from the end of an instance to its next start; null: the job's `retry_interval`",
    "backoff_factor": "the delay grows by it with each further failure in a row",
    "backoff_max_seconds": "the delay grows no further than this",
    "healthy_after_seconds": "a run that lived so long starts over with the first delay, however it ended",
    "restart_limit": "more ends of their own than this within the window disable the schedule; null = no limit",
    "restart_window_seconds": "of `restart_limit`",
    "ready_after_seconds": "a new instance counts as available when its process has run so long",
    "max_unavailable": "of a change of the job or of the parameters: so many may be missing while instances are replaced",
    "timeout_seconds": "of each run, in place of the job's `timeout`; 0 = no limit",
    "spread": "an instance that starts is put where no other one runs, if an agent can take it",
}


def _kind(name: str) -> Kind:
    if isinstance(DEFAULTS[name], bool):
        return Boolean()
    least, most = bounds_of(name)
    return Number(low=least, high=most) if isinstance(DEFAULTS[name], float) else Integer(int(least), int(most))


DAEMON = Shape(
    title="DaemonRules",
    members=[
        Member(name=name, kind=_kind(name), default=default, nullable=name in NULLABLE, doc=_DOCS[name])
        for name, default in DEFAULTS.items()
    ],
)

SEAT = Shape(
    title="DaemonSeat",
    members=[
        Member(name="seat", kind=Integer()),
        Member(
            name="state",
            kind=Text(),
            doc="`starting`, `running`, `ready`, `stopping`; `waiting` for its next start; `stopped`: none follows",
        ),
        Member(name="incarnation", kind=Integer(1), doc="how many tasks it has had"),
        Member(name="task_id", kind=Uuid(), doc="the newest of them"),
        Member(name="agent_id", kind=NameId(), nullable=True, doc="where its process runs, or ran"),
        Member(name="since", kind=Time(), doc="when it came into this state"),
        Member(name="next_start_at", kind=Time(), nullable=True),
        Member(name="failures", kind=Integer(), doc="in a row, which the back-off grows with"),
        Member(name="ended", kind=Text(), nullable=True, doc="how the last task ended"),
        Member(name="outdated", kind=Boolean(), doc="made of an older version of job or parameters"),
        Member(name="message", kind=Text(), doc="the same as a sentence"),
    ],
)

DAEMON_STATUS = Shape(
    title="DaemonStatus",
    members=[
        Member(name="schedule_id", kind=Uuid()),
        Member(name="position", kind=Integer(), doc="of the log"),
        Member(name="summary", kind=Text(), doc="how it stands, as a sentence"),
        Member(name="wanted", kind=Integer(), doc="instances that should run now"),
        Member(name="running", kind=Integer()),
        Member(name="available", kind=Integer()),
        Member(name="outdated", kind=Integer()),
        Member(name="gave_up", kind=Text(), nullable=True, doc="why it disabled itself"),
        Member(name="result", kind=Array(SEAT)),
    ],
)
