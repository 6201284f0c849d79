"""K1-K5: exclusion calendars."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hetuflow.actors import Context
from hetuflow.api import rendering
from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import CALENDARS, SCHEDULES
from hetuflow.api.errors import ApiError, conflict
from hetuflow.api.filters import Comparison, PageRequest
from hetuflow.api.idempotency import once
from hetuflow.api.problems import Problems
from hetuflow.api.reads import NewId, Nothing, OneOf, PageOf, by, page_of, require_exists, row_of
from hetuflow.api.routing import AS_OF, Endpoint, PathId
from hetuflow.api.schemas.calendar import CALENDAR, IMPORTED, check_calendar
from hetuflow.api.shapes import Given
from hetuflow.domain.commands import CreateCalendar, DeleteCalendar, SealCalendar, UnsealCalendar, UpdateCalendar
from hetuflow.domain.decider import Address
from hetuflow.ports.real import aside
from hetuflow.rfc5545 import read_ical

USERS_TOLD_MAX = 20
"""Schedules that a refusal to delete a calendar names."""


async def page(call: Call) -> Reply:
    return await page_of(call, CALENDARS, by(rendering.calendar))


async def show(call: Call) -> Reply:
    row, position = await row_of(call, CALENDARS, "calendar")
    return Reply(rendering.calendar(row), position)


async def create(call: Call) -> Reply:
    problems = Problems()
    given = call.read(CALENDAR.create, problems)
    given.members.setdefault("timezone", call.rooms.identity.timezone)
    await _import(call, given, given.members["timezone"], problems)
    call.refuse(problems)
    chosen = given.members.pop("id")

    async def perform(calendar_id: str, context: Context) -> int:
        command = CreateCalendar(calendar_id=calendar_id, **given.members)
        return (await call.ask("calendar", calendar_id, command, context)).position

    return await once(call, "calendar", chosen, perform)


async def update(call: Call) -> Reply:
    state = (await call.rooms.system.read(Address("calendar", call.id))).state
    require_exists(state.exists, "calendar", call.id)
    stored = {member.name: getattr(state, member.name, None) for member in CALENDAR.update.members}
    stored = {name: list(value) if isinstance(value, tuple) else value for name, value in stored.items()}
    problems = Problems()
    given = call.update(CALENDAR.update, {**stored, "id": call.id}, problems)
    await _import(call, given, given.members.get("timezone", state.timezone), problems)
    call.refuse(problems)
    if given.members.keys() & set(IMPORTED):
        given.members.setdefault("imported_until_at", None)
    changes = {name: tuple(value) if isinstance(value, list) else value for name, value in given.members.items()}
    return call.written((await call.ask("calendar", call.id, UpdateCalendar(changes=changes))).position)


async def _import(call: Call, given: Given, timezone: str, problems: Problems) -> None:
    """Put what the member `ical` says in its place."""
    check_calendar(given, problems)
    text = given.members.pop("ical", None)
    if text is None or problems:
        return
    found = await aside(read_ical, text, timezone, call.rooms.clock.now())
    for fault in found.faults:
        problems.add("ical", str(fault))
    if not found.faults:
        given.members.update(found.rules, imported_until_at=found.until_at)


async def delete(call: Call) -> Reply:
    """The calendar is sealed while it is looked for schedules that refer to it: none can be made to between the look and
    the delete."""
    state = (await call.rooms.system.read(Address("calendar", call.id))).state
    require_exists(state.exists, "calendar", call.id)
    await _refuse_users(call)  # the usual refusal leaves no trace in the log
    sealed = (await call.ask("calendar", call.id, SealCalendar())).state
    try:
        await _refuse_users(call)
    except ApiError:
        await call.ask("calendar", call.id, UnsealCalendar())
        raise
    sealed_at: datetime = sealed.sealed_at
    return call.written((await call.ask("calendar", call.id, DeleteCalendar(sealed_at=sealed_at))).position)


async def _refuse_users(call: Call) -> None:
    await call.visible(await call.rooms.store.head(), projection=SCHEDULES.name)
    refers = Comparison(SCHEDULES.names["exclude_calendars"], "contains", call.id)
    request = PageRequest(alternatives=[[refers]], orders=(), limit=USERS_TOLD_MAX)
    found = await call.rooms.rows.page(SCHEDULES.name, request)
    if not found.rows:
        return
    names = [row["name"] or str(row["id"]) for row in found.rows]
    count = found.total or len(names)
    more = f" and {count - len(names)} more" if count > len(names) else ""
    raise conflict(
        "calendar_in_use",
        f"{count} schedule{'' if count == 1 else 's'} refer{'s' if count == 1 else ''} to the calendar:"
        f" {', '.join(names)}{more}; take it out of their exclude_calendars first",
        count=count,
        schedules=[_told(row) for row in found.rows],
    )


def _told(row: Any) -> dict[str, Any]:
    return {"id": str(row["id"]), "name": row["name"], "job_id": str(row["job_id"])}


_ITEM = "/api/v1/calendars/item/{id}"
_EXAMPLE = {
    "id": "holidays-de",
    "timezone": "Europe/Berlin",
    "yearly": ["01-01", "05-01", "10-03", "12-25", "12-26"],
    "dates": ["2027-03-26", "2027-03-29"],
    "weekdays": [{"days": ["sat", "sun"]}],
}

ENDPOINTS = (
    Endpoint(
        number="K1",
        method="POST",
        path="/api/v1/calendars/page",
        aliases=(("POST", "/api/v1/calendars/query"),),
        handler=page,
        body=CALENDARS,
        reply=PageOf(CALENDAR),
        summary="Find calendars",
        tag="calendars",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="K2",
        method="POST",
        path="/api/v1/calendars/item",
        handler=create,
        body=CALENDAR.create,
        reply=NewId(),
        summary="Create a calendar",
        tag="calendars",
        also=(409,),
        is_keyed=True,
        example=_EXAMPLE,
    ),
    Endpoint(
        number="K3",
        method="GET",
        path=_ITEM,
        path_id=PathId.NAME,
        handler=show,
        reply=OneOf(CALENDAR),
        summary="Show a calendar",
        tag="calendars",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="K4",
        method="PUT",
        path=_ITEM,
        path_id=PathId.NAME,
        handler=update,
        body=CALENDAR.update,
        reply=Nothing(),
        summary="Change a calendar, for what comes after this moment",
        tag="calendars",
        also=(409,),
        example={"dates": ["2027-03-26", "2027-03-29", "2027-05-06"]},
    ),
    Endpoint(
        number="K5",
        method="DELETE",
        path=_ITEM,
        path_id=PathId.NAME,
        handler=delete,
        reply=Nothing(),
        summary="Delete a calendar that no schedule refers to",
        tag="calendars",
        also=(409,),
    ),
)
