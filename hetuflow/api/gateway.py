"""G1-G3: commands to agents, their connections; G2's plain request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from hetuflow.api.call import Call, Reply
from hetuflow.api.coded import Code, Word, title
from hetuflow.api.errors import ApiError, not_found
from hetuflow.api.kinds import Integer, NameId, ScalarOrObject, Text, Uuid
from hetuflow.api.objects import FreeObject
from hetuflow.api.problems import Problems
from hetuflow.api.reads import AnyDocument, NewId
from hetuflow.api.routing import Endpoint, Parameter
from hetuflow.api.schemas.system import GATEWAY_STATUS
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.commands import CancelTask
from hetuflow.domain.enums import AgentStatus, CommandKind
from hetuflow.domain.rejection import Rejected


async def agent_counts(call: Call) -> dict[str, int]:
    by_status = await call.rooms.rows.tally("agents", "status")
    total, online = sum(by_status.values()), by_status.get(int(AgentStatus.ONLINE), 0)
    return {"total": total, "online": online, "offline": total - online}


async def gateway_status(call: Call) -> dict[str, Any]:
    counts = await agent_counts(call)
    state = call.rooms.agents.status()
    return {
        "total_connections": state.total_connections,
        "active_connections": state.active_connections,
        "total_messages_sent": state.total_messages_sent,
        "total_messages_received": state.total_messages_received,
        "total_agents": counts["total"],
        "online_agents": counts["online"],
        "offline_agents": counts["offline"],
        "timestamp": state.timestamp,
        "connections": [
            {
                "agent_id": each.agent_id,
                "address": each.address,
                "connected_at": each.connected_at,
                "last_message_at": each.last_message_at,
            }
            for each in state.connections
        ],
    }


async def status(call: Call) -> Reply:
    position = await call.visible()
    return Reply(await gateway_status(call), position)


async def upgrade(call: Call) -> Reply:
    """A request that is no WebSocket handshake."""
    if not call.query.get("agent_id"):
        raise ApiError(400, "agent_id is required: /api/v1/gateway/ws?agent_id=…")
    raise ApiError(
        426,
        f"this address speaks WebSocket; agents connect on port {call.rooms.identity.websocket_port}",
        headers=[(b"upgrade", b"websocket"), (b"connection", b"upgrade")],
    )


# --- G1 ---------------------------------------------------------------------------------------------------------------


class Reach(StrEnum):
    SINGLE = "single"
    BROADCAST = "broadcast"


KIND = Code(CommandKind)
SERVERS_OWN = (CommandKind.AGENT_REGISTERED, CommandKind.TASK_ACQUIRED, CommandKind.FETCH_LOG)
"""The last one is `GET /agents/{id}/log`, which gives the answer too."""

HEAD = Shape(
    title="CommandHead",
    members=[
        Member(name="id", kind=Uuid(), write="C", doc="default: a new UUID v7"),
        Member(name="timestamp", kind=Integer(), write="C", doc="epoch ms; default: now"),
        Member(name="kind", kind=KIND, write="C!"),
    ],
)

FRAME = Shape(
    title="CommandFrame",
    members=[
        Member(name="head", kind=HEAD, write="C!"),
        Member(name="payload", kind=FreeObject(), write="C", default={}),
    ],
)


COMMAND = Shape(
    title="GatewayCommand",
    members=[
        Member(name="agent_id", kind=NameId(), write="C", doc="required unless `type` is broadcast"),
        Member(name="command", kind=ScalarOrObject(KIND, FRAME), write="C!"),
        Member(name="args", kind=FreeObject(), write="C", doc="of a `command` that is a kind"),
        Member(name="type", kind=Word(Reach), write="C", doc="of a `command` that is a frame: required there"),
    ],
)


async def command(call: Call) -> Reply:
    """Hand a command to one connected agent, or to all of them."""
    problems = Problems()
    given = call.read(COMMAND, problems).members
    wanted, reach = given.get("command"), given.get("type")
    is_frame = isinstance(wanted, dict)
    if is_frame and reach is None and "type" not in _paths(problems):
        problems.add("type", "is required with a command frame: single or broadcast")
    if wanted is not None and not is_frame:
        _refuse_given(given, ("type",), "belongs to a command that is a frame", problems)
    if is_frame:
        _refuse_given(given, ("args",), "belongs to a command that is a kind; a frame has its payload", problems)
    if reach == Reach.BROADCAST:
        _refuse_given(given, ("agent_id",), "goes with single only", problems)
    elif "agent_id" not in given and not {"agent_id", "type"} & _paths(problems):
        problems.add("agent_id", "is required")
    head = wanted["head"] if isinstance(wanted, dict) else {"kind": wanted}
    if wanted is not None and head["kind"] in SERVERS_OWN:
        where = "command.head.kind" if is_frame else "command"
        problems.add(where, f"{title(CommandKind(head['kind']))} is the server's own: it cannot be sent")
    call.refuse(problems)
    payload = wanted.get("payload", {}) if isinstance(wanted, dict) else given.get("args", {})
    return await _hand_over(call, head, payload, None if reach == Reach.BROADCAST else given["agent_id"], is_frame)


def _paths(problems: Problems) -> set[str]:
    return {problem.path for problem in problems}


def _refuse_given(given: Mapping[str, Any], names: Sequence[str], why: str, problems: Problems) -> None:
    for name in names:
        if name in given:
            problems.add(name, why)


async def _hand_over(
    call: Call, head: Mapping[str, Any], payload: Mapping[str, Any], agent_id: str | None, is_frame: bool
) -> Reply:
    agents = call.rooms.agents
    reached = agents.connected() if agent_id is None else [agent_id] if agent_id in agents.connected() else []
    if agent_id is not None and not reached:
        raise ApiError(
            404,
            f"agent {agent_id} is not connected to this server",
            {"kind": "agent", "id": agent_id, "path": "agent_id"},
        )
    position = None
    if head["kind"] == CommandKind.CANCEL_TASK:
        position = await _cancel(call, payload, "command.payload" if is_frame else "args")
    command_id = head.get("id") or str(call.rooms.ids.uuid7())
    timestamp = head.get("timestamp") or int(call.rooms.clock.now().timestamp() * 1000)
    told = [
        agents.command(each, command_id=command_id, kind=int(head["kind"]), timestamp=timestamp, payload=payload)
        for each in reached
    ]
    if agent_id is not None and not any(told):
        raise ApiError(404, f"agent {agent_id} has just disconnected", {"kind": "agent", "id": agent_id})
    value = {"id": command_id}
    return Reply(value) if position is None else call.written(position, value)


async def _cancel(call: Call, payload: Mapping[str, Any], path: str) -> int:
    """`cancel_task` is T8, by the task or by one of its instances."""
    found = {name: payload[name] for name in ("task_id", "instance_id") if payload.get(name) is not None}
    problems = Problems()
    if len(found) != 1:
        problems.add(path, "cancel_task takes task_id or instance_id")
    ids = {name: Uuid().parse(value, f"{path}.{name}", problems) for name, value in found.items()}
    call.refuse(problems)
    task_id = ids.get("task_id")
    if task_id is None:
        await call.visible(projection="task_instances")
        row = await call.rooms.rows.get("task_instances", ids["instance_id"])
        if row is None:
            raise not_found("task_instance", ids["instance_id"], f"{path}.instance_id")
        task_id = str(row["task_id"])
    try:
        return (await call.ask("task", task_id, CancelTask())).position
    except Rejected as refused:
        if refused.code == "not_found":
            raise not_found("task", task_id, f"{path}.task_id") from refused
        raise


ENDPOINTS = (
    Endpoint(
        number="G1",
        method="POST",
        path="/api/v1/gateway/command",
        handler=command,
        body=COMMAND,
        reply=NewId(),
        summary="Tell a connected agent, or all of them, something",
        tag="gateway",
        also=(404, 409),
        example={"agent_id": "agent-01", "command": "fetch_metrics"},
    ),
    Endpoint(
        number="G2",
        is_positioned=False,
        method="GET",
        path="/api/v1/gateway/ws",
        handler=upgrade,
        parameters=(Parameter(name="agent_id", kind=Text(64, 1)),),
        reply=AnyDocument(),
        summary="WebSocket of the agent protocol",
        tag="gateway",
        also=(426,),
    ),
    Endpoint(
        number="G3",
        method="GET",
        path="/api/v1/gateway/status",
        aliases=(("GET", "/api/v1/gateway/stats"),),
        handler=status,
        reply=GATEWAY_STATUS,
        summary="The agents' connections",
        tag="gateway",
    ),
)
