"""What instances use, and how agents do."""

from __future__ import annotations

from hetuflow.api.kinds import Array, Boolean, Integer, Number, Text, Time
from hetuflow.api.objects import FreeObject, StringTable
from hetuflow.api.shapes import Member, Shape

_SINCE_START = "since the start"

USAGE = Shape(
    title="InstanceUsage",
    members=[
        Member(name="at", kind=Time()),
        Member(name="elapsed", kind=Number(), doc="seconds since the start"),
        Member(name="cpu", kind=Number(), nullable=True, doc="cores, mean since the figures before"),
        Member(name="cpu_time", kind=Number(), doc=f"seconds {_SINCE_START}"),
        Member(name="memory", kind=Integer(), doc="bytes now"),
        Member(name="memory_peak", kind=Integer(), doc=f"bytes {_SINCE_START}"),
        Member(name="disk_read", kind=Integer(), doc=f"bytes {_SINCE_START}"),
        Member(name="disk_write", kind=Integer(), doc=f"bytes {_SINCE_START}"),
        Member(name="processes", kind=Integer(), doc="of its tree now"),
        Member(name="cpu_pressure", kind=Number(), doc=f"seconds in which it waited for CPU, {_SINCE_START}"),
        Member(name="memory_pressure", kind=Number(), doc=f"seconds in which it waited for memory, {_SINCE_START}"),
    ],
)

INSTANCE_METRICS = Shape(
    title="InstanceMetrics",
    members=[
        Member(name="latest", kind=USAGE, nullable=True, doc="while it runs on an agent of this server"),
        Member(name="result", kind=Array(USAGE), doc="evenly spread over its run, at most 240; kept for a week"),
    ],
)

RUNNING_USAGE = Shape(
    title="RunningUsage",
    members=[
        Member(name="instance_id", kind=Text()),
        Member(name="agent_id", kind=Text()),
        Member(name="epoch", kind=Integer()),
        Member(name="usage", kind=USAGE),
    ],
)

RUNNING_USAGES = Shape(
    title="ListOfRunningUsage",
    members=[
        Member(name="result", kind=Array(RUNNING_USAGE), doc="by CPU, the most first; what agents of this server run")
    ],
)

AGENT_POINT = Shape(
    title="AgentPoint",
    members=[
        Member(name="at", kind=Time()),
        *(Member(name=name, kind=Number(), doc="percent") for name in ("cpu_usage", "memory_usage", "disk_usage")),
        Member(name="load", kind=Number(), doc="mean of a minute"),
        Member(name="active_tasks", kind=Integer()),
        Member(name="slots", kind=Integer()),
    ],
)

AGENT_POINTS = Shape(
    title="AgentHistory",
    members=[
        Member(name="result", kind=Array(AGENT_POINT), doc="of the last day, about a point a minute, the oldest first")
    ],
)

HEARTBEAT = Shape(
    title="Heartbeat",
    members=[Member(name="at", kind=Time()), Member(name="metrics", kind=FreeObject(), doc="numbers by name")],
)

AGENT_STATE = Shape(
    title="AgentState",
    members=[
        Member(name="connected", kind=Boolean(), doc="to this server; what follows `labels` is told only then"),
        Member(name="server_id", kind=Text(), nullable=True, doc="of its last session"),
        Member(name="session", kind=Text(), nullable=True),
        Member(name="incarnation", kind=Integer(), doc="grows at every start of the agent; 0 = it was never connected"),
        Member(name="lease", kind=Number(), doc="seconds for which a heartbeat is good"),
        Member(name="version", kind=Text()),
        Member(name="host", kind=Text()),
        Member(name="labels", kind=StringTable(), doc="those that placement goes by"),
        Member(name="connected_at", kind=Time(), nullable=True),
        Member(
            name="facts",
            kind=FreeObject(),
            doc="what the agent says of itself: isolation, limits and how they are held, policy, features, python, …",
        ),
        Member(name="heartbeats", kind=Array(HEARTBEAT), doc="the last ten, the oldest first"),
        Member(name="running", kind=Array(RUNNING_USAGE), doc="latest figures of what it runs"),
    ],
)

AGENT_LOG = Shape(
    title="AgentLog",
    members=[
        Member(name="first", kind=Integer(), doc="number of the first line"),
        Member(name="lines", kind=Array(Text()), doc="the oldest first"),
        Member(name="next", kind=Integer(), doc="`after` that gives what comes after these"),
    ],
)
