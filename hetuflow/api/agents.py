"""A1-A9: agents."""

from __future__ import annotations

from typing import Any

from hetuflow.actors import Context
from hetuflow.api import rendering
from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import AGENTS
from hetuflow.api.errors import conflict
from hetuflow.api.idempotency import once
from hetuflow.api.jobs import CASCADE
from hetuflow.api.problems import Problems
from hetuflow.api.reads import (
    AllOf,
    NewId,
    Nothing,
    OneOf,
    PageOf,
    by,
    count_where,
    for_each,
    page_of,
    require_exists,
    row_of,
    rows_of,
    where,
)
from hetuflow.api.rooms import Row
from hetuflow.api.routing import AS_OF, NO_BODY, Endpoint, PathId
from hetuflow.api.runs import cancel_task
from hetuflow.api.schemas.agent import AGENT, REASON, check_agent_create, fold_agent
from hetuflow.domain.commands import CreateAgent, DrainAgent, RemoveAgent, UndrainAgent, UpdateAgent
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import InstanceStatus

AGENTS_MAX = 5000
OPEN_INSTANCES = [int(status) for status in InstanceStatus if not status.is_final]


def _render(call: Call) -> Any:
    agents = None if AS_OF.name in call.query else call.rooms.agents

    def render(row: Row) -> dict[str, Any]:
        return rendering.agent(row, agents)

    return render


async def page(call: Call) -> Reply:
    return await page_of(call, AGENTS, by(_render(call)))


async def everyone(call: Call) -> Reply:
    rows, position = await rows_of(call, AGENTS, where(AGENTS, limit=AGENTS_MAX))
    return Reply([_render(call)(row) for row in rows], position)


async def show(call: Call) -> Reply:
    row, position = await row_of(call, AGENTS, "agent")
    return Reply(_render(call)(row), position)


async def create(call: Call) -> Reply:
    problems = Problems()
    given = call.read(AGENT.create, problems)
    check_agent_create(given, problems)
    call.refuse(problems)
    members = given.members
    chosen = members.pop("id", None)

    async def perform(agent_id: str, context: Context) -> int:
        return (await call.ask("agent", agent_id, CreateAgent(agent_id=agent_id, **members), context)).position

    return await once(call, "agent", chosen, perform)


async def update(call: Call) -> Reply:
    state = (await call.rooms.system.read(Address("agent", call.id))).state
    require_exists(state.exists, "agent", call.id)
    names = ("name", "namespace_id", "description", "address", "config", "labels", "metadata", "max_concurrent_tasks")
    stored = {name: getattr(state, name) for name in names}
    problems = Problems()
    given = call.update(AGENT.update, {**stored, "id": call.id}, problems)
    fold_agent(given, problems, stored)
    call.refuse(problems)
    return call.written((await call.ask("agent", call.id, UpdateAgent(changes=given.members))).position)


async def delete(call: Call) -> Reply:
    state = (await call.rooms.system.read(Address("agent", call.id))).state
    require_exists(state.exists, "agent", call.id)
    open_here = {"agent_id": call.id, "status": OPEN_INSTANCES, "external": False}
    if "cascade" not in call.query:
        count = await count_where(call, "task_instances", **open_here)
        if count:
            message = f"the agent has {count} instances that have not ended; ?cascade=cancel cancels them"
            raise conflict("has_open_instances", message, count=count)

    async def cancel(row: Row) -> int:
        return await cancel_task(call, str(row["task_id"]))

    await for_each(call, "task_instances", cancel, **open_here)
    position = (await call.ask("agent", call.id, RemoveAgent())).position
    return call.written(position)


async def drain(call: Call) -> Reply:
    reason = call.given(REASON).members.get("reason")
    return call.written((await call.ask("agent", call.id, DrainAgent(reason=reason))).position)


async def undrain(call: Call) -> Reply:
    call.given(NO_BODY)
    return call.written((await call.ask("agent", call.id, UndrainAgent())).position)


_AGENT = "/api/v1/agents/{id}"

ENDPOINTS = (
    Endpoint(
        number="A1",
        method="POST",
        path="/api/v1/agents/query",
        aliases=(("POST", "/api/v1/agents/page"),),
        handler=page,
        body=AGENTS,
        reply=PageOf(AGENT),
        summary="Find agents",
        tag="agents",
        example={"filter": {"status": {"$eq": "Online"}}, "page": {"page": 1, "page_size": 20}},
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="A2",
        method="POST",
        path="/api/v1/agents/create",
        handler=create,
        body=AGENT.create,
        reply=NewId(),
        summary="Create an agent before it connects",
        tag="agents",
        also=(409,),
        is_keyed=True,
        example={"id": "agent-01", "labels": {"env": "production"}},
    ),
    Endpoint(
        number="A3",
        method="GET",
        path=_AGENT,
        path_id=PathId.NAME,
        handler=show,
        reply=OneOf(AGENT),
        summary="Show an agent",
        tag="agents",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="A4",
        method="POST",
        path=f"{_AGENT}/update",
        aliases=(("PUT", _AGENT),),
        path_id=PathId.NAME,
        handler=update,
        body=AGENT.update,
        reply=Nothing(),
        summary="Change an agent",
        tag="agents",
        example={"labels": {"env": "staging", "capacity": "high"}},
    ),
    Endpoint(
        number="A6",
        method="DELETE",
        path=_AGENT,
        path_id=PathId.NAME,
        handler=delete,
        parameters=(CASCADE,),
        reply=Nothing(),
        summary="Remove an agent",
        tag="agents",
        also=(409,),
    ),
    Endpoint(
        number="A7",
        method="GET",
        path="/api/v1/agents",
        handler=everyone,
        reply=AllOf(AGENT),
        summary="All agents, newest first",
        tag="agents",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="A8",
        method="POST",
        path=f"{_AGENT}/drain",
        path_id=PathId.NAME,
        handler=drain,
        body=REASON,
        reply=Nothing(),
        summary="Give an agent nothing new; what runs goes on",
        tag="agents",
        example={"reason": "new disk"},
    ),
    Endpoint(
        number="A9",
        method="POST",
        path=f"{_AGENT}/undrain",
        path_id=PathId.NAME,
        handler=undrain,
        body=NO_BODY,
        reply=Nothing(),
        summary="Give an agent work again",
        tag="agents",
    ),
)
