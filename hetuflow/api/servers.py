"""S1, S2: servers."""

from __future__ import annotations

from hetuflow.api import rendering
from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import SERVERS
from hetuflow.api.reads import OneOf, PageOf, by, page_of, row_of
from hetuflow.api.routing import AS_OF, Endpoint, PathId
from hetuflow.api.schemas.server import SERVER


async def page(call: Call) -> Reply:
    return await page_of(call, SERVERS, by(rendering.server))


async def show(call: Call) -> Reply:
    row, position = await row_of(call, SERVERS, "server")
    return Reply(rendering.server(row), position)


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
)
