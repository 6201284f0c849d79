"""`?as_of=`: the moment of the log that an answer shows, and the rows as they were then.

An entity is the fold of its stream; a page, and what is folded from many streams (an agent's statistics), is the tables'
own fold up to the position.
"""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from hetuflow.api.call import Call
from hetuflow.api.collections import AGENTS, TASK_INSTANCES
from hetuflow.api.deleted_tasks import task_of
from hetuflow.api.errors import gone, invalid, not_found
from hetuflow.api.filters import Collection, PageRequest
from hetuflow.api.problems import Problem
from hetuflow.api.rooms import Row, RowPage
from projections.fold import TableFold, decode
from projections.tables import LIVE_TABLES

STREAM_PREFIXES = {
    "jobs": "job",
    "schedules": "schedule",
    "tasks": "task",
    "servers": "server",
    "calendars": "calendar",
    "flows": "flow",
    "backfills": "backfill",
}
"""The collections whose rows are folded from their own stream alone."""


@frozen(slots=True)
class Moment:
    """Everything up to `position` has happened, nothing after it. `at`: when that was."""

    position: int
    at: datetime


async def moment_of(call: Call) -> Moment | None:
    """The moment that the request asks for, None for now.

    Raises:
      ApiError: 400, it lies in the future or beyond the log.
    """
    wanted = call.query.get("as_of")
    if wanted is None:
        return None
    head = await call.log_head()
    if isinstance(wanted, datetime):
        position = await call.rooms.store.position_at(wanted)
        if position is None:
            raise _beyond(f"must be a time that has passed, got {wanted.isoformat()}")
        return Moment(position, wanted)
    if wanted > head:
        raise _beyond(f"must be a position of the log, which ends at {head}, got {wanted}")
    found = await call.rooms.store.read_all(after=wanted - 1, limit=1) if wanted else []
    if wanted and (not found or found[0].position != wanted):
        raise gone(found[0].position if found else head + 1)
    return Moment(wanted, found[0].recorded_at if found else call.rooms.identity.started_at)


def _beyond(message: str) -> Exception:
    return invalid([Problem("query.as_of", message, status=400)])


async def page_at(call: Call, collection: Collection, request: PageRequest, moment: Moment) -> RowPage:
    """Raises `BadCursor`; `ApiError` 410."""
    await _require_all(call)
    return await call.rooms.rows.page_at(collection.name, request, moment.position)


async def row_at(call: Call, collection: Collection, kind: str, moment: Moment) -> Row:
    """The row that the path names.

    Raises:
      ApiError: 404, it did not exist then; 410.
    """
    row = await find_at(call, collection, call.id, moment)
    if row is None:
        raise not_found(kind, call.id)
    return row


async def find_at(call: Call, collection: Collection, key: str, moment: Moment) -> Row | None:
    """The row of that id as it was, None when it was not there. Raises `ApiError` 410."""
    if collection is AGENTS:
        await _require_all(call)
        return await call.rooms.rows.get_at(collection.name, key, moment.position)
    if collection is not TASK_INSTANCES:
        return await _folded(call, collection.name, f"{STREAM_PREFIXES[collection.name]}-{key}", key, moment)
    live = await call.rooms.rows.get(collection.name, key)
    task_id = str(live["task_id"]) if live is not None else await task_of(call, key)
    if task_id is not None:
        return await _folded(call, collection.name, f"task-{task_id}", key, moment)
    await _require_all(call)
    return await call.rooms.rows.get_at(collection.name, key, moment.position)


async def _folded(call: Call, collection: str, stream_id: str, key: str, moment: Moment) -> Row | None:
    events = await call.rooms.store.read_stream(stream_id, until_position=moment.position)
    if events and events[0].version > 1:
        raise gone(events[0].position)
    fold = TableFold(LIVE_TABLES[collection])
    for event in events:
        fold.apply(decode(event))
    return fold.row(key)


async def _require_all(call: Call) -> None:
    """Raises `ApiError` 410 when the beginning of the log was dropped: a fold of all of it is no longer possible."""
    first = await call.rooms.store.read_all(limit=1)
    if first and first[0].position > 1:
        raise gone(first[0].position)
