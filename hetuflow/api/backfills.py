"""B1-B4: backfills, the past windows of schedules."""

from __future__ import annotations

from hetuflow.actors import Context
from hetuflow.api import rendering
from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import BACKFILLS
from hetuflow.api.errors import not_found
from hetuflow.api.idempotency import once
from hetuflow.api.reads import NewId, Nothing, OneOf, PageOf, by, page_of, require_exists, row_of
from hetuflow.api.routing import AS_OF, Endpoint, PathId
from hetuflow.api.schemas.backfill import BACKFILL, BACKFILL_REQUEST
from hetuflow.api.schemas.switch import SWITCH
from hetuflow.domain.backfill_window import start_of
from hetuflow.domain.commands import CancelBackfill, StartBackfill
from hetuflow.domain.decider import Address


async def page(call: Call) -> Reply:
    return await page_of(call, BACKFILLS, by(rendering.backfill))


async def show(call: Call) -> Reply:
    row, position = await row_of(call, BACKFILLS, "backfill")
    return Reply(rendering.backfill(row), position)


async def start(call: Call) -> Reply:
    given = call.given(BACKFILL_REQUEST).members
    chosen = given.pop("id", None)

    async def perform(backfill_id: str, context: Context) -> int:
        state = (await call.rooms.system.read(Address("schedule", call.id))).state
        require_exists(state.exists, "schedule", call.id)
        started = start_of(
            backfill_id,
            state,
            given["from"],
            given["to"],
            call.rooms.clock.now(),
            max_concurrent=given.get("max_concurrent", 1),
            note=given.get("note"),
        )
        return (await call.ask("backfill", backfill_id, StartBackfill(start=started), context)).position

    return await once(call, "backfill", chosen, perform)


async def cancel(call: Call) -> Reply:
    note = call.given(SWITCH).members.get("note")
    if not (await call.rooms.system.read(Address("backfill", call.id))).state.exists:
        raise not_found("backfill", call.id)
    return call.written((await call.ask("backfill", call.id, CancelBackfill(note=note))).position)


_ITEM = "/api/v1/backfills/item/{id}"

ENDPOINTS = (
    Endpoint(
        number="B1",
        method="POST",
        path="/api/v1/backfills/page",
        aliases=(("POST", "/api/v1/backfills/query"),),
        handler=page,
        body=BACKFILLS,
        reply=PageOf(BACKFILL),
        summary="Find backfills",
        tag="schedules",
        example={"filter": {"status": {"$eq": "running"}}},
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="B2",
        method="POST",
        path="/api/v1/schedules/item/{id}/backfill",
        path_id=PathId.UUID,
        handler=start,
        body=BACKFILL_REQUEST,
        reply=NewId(),
        summary="Run a past window of a schedule",
        tag="schedules",
        also=(409,),
        is_keyed=True,
        example={"from": "2026-11-01T00:00:00Z", "to": "2026-11-07T00:00:00Z", "max_concurrent": 2},
    ),
    Endpoint(
        number="B3",
        method="GET",
        path=_ITEM,
        path_id=PathId.UUID,
        handler=show,
        reply=OneOf(BACKFILL),
        summary="Show a backfill",
        tag="schedules",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="B4",
        method="POST",
        path=f"{_ITEM}/cancel",
        path_id=PathId.UUID,
        handler=cancel,
        body=SWITCH,
        reply=Nothing(),
        summary="Cancel a backfill and its tasks that wait",
        tag="schedules",
    ),
)
