"""The exclusion calendars that a request of a schedule names."""

from __future__ import annotations

from collections.abc import Sequence

from hetuflow.api.call import Call
from hetuflow.api.collections import CALENDARS
from hetuflow.api.problems import Problems
from hetuflow.api.reads import where
from hetuflow.api.shapes import Given
from hetuflow.domain.decider import Address
from hetuflow.domain.exclusion import Exclusion
from hetuflow.scheduler.calendars import snapshots

MEMBER = "exclude_calendars"
NAMES_READ_MAX = 1000
"""Calendars among which the nearest name is looked for."""


async def check_calendars(call: Call, given: Given, problems: Problems) -> None:
    """Each must exist; a name that is given twice counts once."""
    names = given.members.get(MEMBER)
    if names is None:
        return
    given.members[MEMBER] = tuple(dict.fromkeys(names))
    found = await call.rooms.system.read_many([Address("calendar", name) for name in given.members[MEMBER]])
    known: Sequence[str] | None = None
    for index, name in enumerate(names):
        reading = found.get(Address("calendar", name))
        if reading is None or not reading.state.exists:
            if known is None:
                await call.visible(await call.rooms.store.head(), projection=CALENDARS.name)
                page = await call.rooms.rows.page(CALENDARS.name, where(CALENDARS, limit=NAMES_READ_MAX))
                known = [str(row["id"]) for row in page.rows]
            problems.unknown(f"{MEMBER}[{index}]", name, known, f"calendar {name}")


async def exclusion_of(call: Call, calendar_ids: Sequence[str]) -> Exclusion | None:
    """What they exclude, as they are now."""
    if not calendar_ids:
        return None
    return Exclusion(tuple(each.calendar for each in await snapshots(call.rooms.system, calendar_ids)))
