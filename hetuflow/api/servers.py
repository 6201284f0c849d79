"""S1-S4: servers."""

from __future__ import annotations

from hetuflow.api import rendering
from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import SERVERS
from hetuflow.api.problems import Problems
from hetuflow.api.reads import Nothing, OneOf, PageOf, by, page_of, require_exists, row_of
from hetuflow.api.routing import AS_OF, Endpoint, PathId
from hetuflow.api.schemas.server import SERVER, SERVER_UPDATE
from hetuflow.domain.commands import RemoveServer, UpdateServer
from hetuflow.domain.decider import Address


async def page(call: Call) -> Reply:
    return await page_of(call, SERVERS, by(rendering.server))


async def show(call: Call) -> Reply:
    row, position = await row_of(call, SERVERS, "server")
    return Reply(rendering.server(row), position)


async def update(call: Call) -> Reply:
    state = (await call.rooms.system.read(Address("server", call.id))).state
    require_exists(state.exists, "server", call.id)
    stored = {
        "id": call.id,
        "name": state.name,
        "address": state.address,
        "description": state.description,
        "bind_namespaces": list(state.bind_namespaces),
    }
    problems = Problems()
    given = call.update(SERVER_UPDATE, stored, problems)
    call.refuse(problems)
    return call.written((await call.ask("server", call.id, UpdateServer(changes=given.members))).position)


async def delete(call: Call) -> Reply:
    return call.written((await call.ask("server", call.id, RemoveServer())).position)


_SERVER = "/api/v1/servers/{id}"

ENDPOINTS = (
    Endpoint(
        number="S1",
        method="POST",
        path="/api/v1/servers/query",
        aliases=(("POST", "/api/v1/servers/page"),),
        handler=page,
        body=SERVERS,
        reply=PageOf(SERVER),
        summary="Find servers",
        tag="servers",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="S2",
        method="GET",
        path="/api/v1/servers/{id}",
        path_id=PathId.NAME,
        handler=show,
        reply=OneOf(SERVER),
        summary="Show a server",
        tag="servers",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="S3",
        method="POST",
        path=f"{_SERVER}/update",
        aliases=(("PUT", _SERVER),),
        path_id=PathId.NAME,
        handler=update,
        body=SERVER_UPDATE,
        reply=Nothing(),
        summary="Change a server",
        tag="servers",
        example={"description": "in the cellar", "bind_namespaces": ["default"]},
    ),
    Endpoint(
        number="S4",
        method="DELETE",
        path=_SERVER,
        path_id=PathId.NAME,
        handler=delete,
        reply=Nothing(),
        summary="Remove a server that does not run any more",
        tag="servers",
        also=(409,),
    ),
)
