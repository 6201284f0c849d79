"""A10-A12: how an agent does now, how it did in the last day, and its own log."""

from __future__ import annotations

from datetime import timedelta

from hetuflow.api import usage
from hetuflow.api.call import Call, Reply
from hetuflow.api.errors import ApiError, conflict
from hetuflow.api.kinds import Integer
from hetuflow.api.reads import require_exists
from hetuflow.api.routing import Endpoint, Parameter, PathId, integer_text
from hetuflow.api.schemas.usage import AGENT_LOG, AGENT_POINTS, AGENT_STATE
from hetuflow.domain.decider import Address
from hetuflow.gateway.questions import NoAnswer

LOG_LINES_DEFAULT, LOG_LINES_MAX = 200, 1000
ANSWER_SECONDS_MAX = 5.0
HISTORY = timedelta(days=1)


async def state(call: Call) -> Reply:
    reading = await call.rooms.system.read(Address("agent", call.id))
    known = reading.state
    require_exists(known.exists, "agent", call.id)
    now = call.rooms.agents.condition(call.id)
    value = {
        "connected": now is not None,
        "server_id": known.server_id,
        "session": known.session if now is None else now.session,
        "incarnation": known.incarnation,
        "lease": known.lease_seconds,
        "version": known.version,
        "host": known.host,
        "labels": dict(known.labels_for_placement),
        "connected_at": None if now is None else now.connected_at,
        "facts": {} if now is None else now.facts,
        "heartbeats": [] if now is None else [{"at": each.at, "metrics": dict(each.metrics)} for each in now.beats],
        "running": [] if now is None else [usage.running(call.id, each) for each in now.usage],
    }
    return Reply(value)


async def history(call: Call) -> Reply:
    require_exists((await call.rooms.system.read(Address("agent", call.id))).state.exists, "agent", call.id)
    points = await call.rooms.usage.of_agent(call.id, call.rooms.clock.now() - HISTORY)
    names = ("at", "cpu_usage", "memory_usage", "disk_usage", "load", "active_tasks", "slots")
    return Reply({"result": [{name: getattr(point, name) for name in names} for point in points]})


async def log(call: Call) -> Reply:
    """Asked of the agent now: the log is its own, and nothing of it is stored here."""
    require_exists((await call.rooms.system.read(Address("agent", call.id))).state.exists, "agent", call.id)
    after = call.query.get("after", 0)
    lines = call.query.get("lines", LOG_LINES_DEFAULT)
    try:
        found = await call.rooms.agents.log_of(call.id, lines=lines, after=after, seconds=ANSWER_SECONDS_MAX)
    except NoAnswer as no:
        raise ApiError(504, f"agent {call.id}: {no} (one of an older version has no answer)") from None
    if found is None:
        raise conflict("not_connected", f"agent {call.id} is not connected to this server", id=call.id)
    if found.problem:
        raise conflict("refused_by_agent", f"agent {call.id}: {found.problem}", id=call.id)
    following = found.first + len(found.lines) - 1 if found.lines else after
    return Reply({"first": found.first, "lines": list(found.lines), "next": following})


_AGENT = "/api/v1/agents/{id}"

ENDPOINTS = (
    Endpoint(
        number="A10",
        method="GET",
        path=f"{_AGENT}/state",
        path_id=PathId.NAME,
        handler=state,
        reply=AGENT_STATE,
        summary="How an agent does now: its session, what it says of itself, what it runs",
        tag="agents",
        is_positioned=False,
    ),
    Endpoint(
        number="A11",
        method="GET",
        path=f"{_AGENT}/metrics",
        path_id=PathId.NAME,
        handler=history,
        reply=AGENT_POINTS,
        summary="How an agent did in the last day",
        tag="agents",
        is_positioned=False,
    ),
    Endpoint(
        number="A12",
        method="GET",
        path=f"{_AGENT}/log",
        path_id=PathId.NAME,
        handler=log,
        reply=AGENT_LOG,
        summary="The last lines of an agent's own log",
        tag="agents",
        is_positioned=False,
        parameters=(
            Parameter(
                name="lines",
                kind=Integer(1, LOG_LINES_MAX),
                doc=f"at most so many; default: {LOG_LINES_DEFAULT}",
                from_text=integer_text,
            ),
            Parameter(name="after", kind=Integer(0), doc="only lines with a greater number", from_text=integer_text),
        ),
        also=(409,),
    ),
)
