"""Agents: the machines' daemons."""

from __future__ import annotations

from typing import Any

from hetuflow.api.coded import CodeOut
from hetuflow.api.kinds import INT32_MAX, Array, Boolean, Integer, NameId, Number, Text, Time
from hetuflow.api.objects import FreeObject, StringTable
from hetuflow.api.problems import Problems
from hetuflow.api.schemas.job import CREATED_UPDATED, DESCRIPTION, NAME, NAMESPACE
from hetuflow.api.shapes import Alias, Entity, Given, Member, Shape
from hetuflow.domain.enums import AgentStatus

SLOTS = Integer(0, INT32_MAX)

CAPABILITIES = Shape(
    title="Capabilities",
    members=[
        Member(name="max_concurrent_tasks", kind=SLOTS, default=0),
        Member(name="labels", kind=StringTable(), default={}),
        Member(name="metadata", kind=FreeObject(), default={}),
    ],
)

STATISTICS = Shape(
    title="AgentStatistics",
    members=[
        Member(name="success_tasks", kind=Integer()),
        Member(name="failure_tasks", kind=Integer(), doc="started and ended otherwise than Succeeded"),
        Member(name="total_tasks", kind=Integer(), doc="counts at start"),
        Member(name="avg_response_ms", kind=Number(), doc="mean run time"),
        Member(name="last_failure_ms", kind=Integer(), doc="epoch milliseconds, 0 = never"),
        Member(name="consecutive_failures", kind=Integer()),
    ],
)

AGENT_METRICS = Shape(
    title="AgentMetrics",
    members=[
        *(Member(name=name, kind=Number(), doc="percent") for name in ("cpu_usage", "memory_usage", "disk_usage")),
        Member(name="active_tasks", kind=Integer()),
        Member(name="total_executed", kind=Integer()),
        Member(name="success_rate", kind=Number(), doc="0.0-1.0"),
        Member(name="avg_execution_time", kind=Number(), doc="seconds"),
        Member(name="uptime", kind=Number(), doc="seconds"),
        Member(name="load", kind=Number(), doc="mean of a minute"),
        Member(name="slots", kind=Integer(), doc="tasks at once"),
        Member(name="unacked_reports", kind=Integer(), doc="that no server has acknowledged yet"),
        Member(name="journal_bytes", kind=Integer(), doc="of its journal on disk"),
        Member(name="output_waiting_bytes", kind=Integer(), doc="of output that no server has stored yet"),
    ],
)

DRAIN = Shape(
    title="Drain",
    members=[Member(name="since", kind=Time()), Member(name="reason", kind=Text(), nullable=True)],
)

REASON = Shape(title="DrainRequest", members=[Member(name="reason", kind=Text(1000), nullable=True)])

AGENT = Entity(
    title="SchedAgent",
    ignored_on_create=frozenset({"status", "last_heartbeat_at"}),
    ignored_on_update=frozenset({"status", "last_heartbeat_at"}),
    one_of_on_create=(("id", "name"),),
    members=[
        Member(name="id", kind=NameId(), write="C", doc="`id` or `name` is required; default: a new UUID v7"),
        Member(name="name", kind=NAME, write="CU", doc="default: the id"),
        Member(name="namespace_id", kind=NAMESPACE, write="CU", default="default"),
        Member(name="description", kind=DESCRIPTION, write="CU", nullable=True, default=None),
        Member(
            name="address",
            kind=Text(255),
            write="CU",
            default="",
            aliases=[Alias("endpoint")],
            doc="`ip:port` of its socket; set by every connection",
        ),
        Member(name="host", kind=Text(255, 1), write="CUW", doc="with `port`: another way to say `address`"),
        Member(name="port", kind=Integer(1, 65535), write="CUW"),
        Member(name="status", kind=CodeOut(AgentStatus), doc="Online while its session lives, else Offline"),
        Member(name="capabilities", kind=CAPABILITIES, write="CU"),
        Member(name="labels", kind=StringTable(), write="CUW", nullable=True, doc="replaces `capabilities.labels`"),
        Member(name="metadata", kind=FreeObject(), write="CUW", nullable=True, doc="replaces `capabilities.metadata`"),
        Member(name="max_concurrent_tasks", kind=SLOTS, write="CUW", doc="replaces its part of `capabilities`"),
        Member(name="reported_labels", kind=StringTable(), doc="what the agent itself declared"),
        Member(
            name="protected_labels",
            kind=Array(Text()),
            doc="names or patterns of labels of which placement goes by what the agent declares, whatever is set here; as of"
            " all that begin with `sys.`",
        ),
        Member(name="config", kind=FreeObject(), write="CU", nullable=True, default=None),
        Member(name="statistics", kind=STATISTICS),
        Member(name="metrics", kind=AGENT_METRICS, nullable=True, doc="of the last heartbeat"),
        Member(name="running_instances", kind=Integer()),
        Member(name="draining", kind=Boolean(), doc="takes nothing new"),
        Member(name="drain", kind=DRAIN, nullable=True),
        Member(name="last_heartbeat_at", kind=Time()),
        *CREATED_UPDATED,
    ],
)

PARTS = ("max_concurrent_tasks", "labels", "metadata")


def fold_agent(given: Given, problems: Problems, stored: dict[str, Any] | None) -> None:
    """Replace what has two spellings by one: `host` and `port` by `address`, `capabilities` by its parts."""
    members = given.members
    host, port = members.pop("host", None), members.pop("port", None)
    if (host is None) != (port is None):
        missing = "port" if port is None else "host"
        if missing not in given.sent_as:  # given, and said to be wrong already
            problems.add(missing, "is required: host and port together stand for address")
    elif host is not None:
        _give(members, "address", f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "host", problems, stored)
    for part, value in (members.pop("capabilities", None) or {}).items():
        if stored is not None and value == stored.get(part):
            continue
        _give(members, part, value, f"capabilities.{part}", problems, stored)


def _give(
    members: dict[str, Any], name: str, value: Any, path: str, problems: Problems, stored: dict[str, Any] | None
) -> None:
    if name not in members or members[name] == value:
        members[name] = value
    elif stored is not None and value == stored.get(name):
        pass
    elif stored is not None and members[name] == stored.get(name):
        members[name] = value
    else:
        problems.add(path, f'is another name of "{name}" and has another value')


def check_agent_create(given: Given, problems: Problems) -> None:
    named = {"id", "name"} & given.members.keys()
    if not named and not any(problem.path in ("id", "name") for problem in problems):
        problems.add("id", "id or name is required")
    fold_agent(given, problems, None)
