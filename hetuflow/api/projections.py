"""P1, P2: the tables that are computed from the log."""

from __future__ import annotations

from typing import Any

from hetuflow.api.call import Call, Reply
from hetuflow.api.errors import conflict, not_found
from hetuflow.api.reads import NewId
from hetuflow.api.routing import NO_BODY, Endpoint, PathId
from hetuflow.api.schemas.projection import PROJECTION_PAGE
from projections.errors import RebuildRunning
from projections.rebuilds import Underway
from projections.status import ProjectionStatus


async def page(call: Call) -> Reply:
    position = await call.visible()
    known = call.rooms.projections
    underway = known.underway
    found = [_shown(each, underway.get(each.name)) for each in known.status()]
    return Reply({"page": {"total": len(found), "has_more": False, "next": None}, "result": found}, position)


def _shown(status: ProjectionStatus, rebuild: Underway | None) -> dict[str, Any]:
    is_running = rebuild is not None and rebuild.error is None
    error = status.error or (rebuild.error if rebuild is not None else None)
    return {
        "name": status.name,
        "definition": status.definition,
        "status": "rebuilding" if is_running else "failed" if status.error else "live",
        "position": status.position,
        "head": status.head,
        "lag_events": status.lag_events,
        "lag_seconds": status.lag_seconds,
        "updated_at": status.updated_at,
        "error": error,
        "rebuild": None
        if rebuild is None or not is_running
        else {
            "id": rebuild.id,
            "started_at": rebuild.started_at,
            "position": rebuild.position,
            "target": rebuild.target,
            "events_per_second": round(rebuild.events_per_second, 1),
        },
    }


async def rebuild(call: Call) -> Reply:
    call.given(NO_BODY)
    try:
        return Reply({"id": call.rooms.projections.start(call.id)})
    except KeyError:
        raise not_found("projection", call.id) from None
    except RebuildRunning as exc:
        raise conflict("rebuild_running", str(exc)) from exc


ENDPOINTS = (
    Endpoint(
        number="P1",
        method="GET",
        path="/api/v1/projections",
        handler=page,
        reply=PROJECTION_PAGE,
        summary="How far the tables are, and what is being rebuilt",
        tag="projections",
    ),
    Endpoint(
        number="P2",
        method="POST",
        path="/api/v1/projections/{id}/rebuild",
        path_id=PathId.NAME,
        handler=rebuild,
        body=NO_BODY,
        reply=NewId(),
        summary="Compute a table anew from the log; reads see the old one until the swap",
        tag="projections",
        also=(404, 409),
    ),
)
