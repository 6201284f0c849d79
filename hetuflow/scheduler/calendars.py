"""Exclusion calendars for the decisions of schedules: read when a schedule asks for them, and again when one changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve

from hetuflow.actors import SYSTEM, ActorSystem, Answer, Context, GuardLost
from hetuflow.domain.calendar import snapshot
from hetuflow.domain.commands import CalendarSnapshot
from hetuflow.domain.decider import Address
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_calendars import CALENDARS_UNKNOWN

CATEGORY = "calendar"
ATTEMPTS = 5
"""How often calendars are read anew within one question."""


async def snapshots(system: ActorSystem, calendar_ids: Sequence[str]) -> tuple[CalendarSnapshot, ...]:
    """The calendars as they are now, also those that do not exist; one that cannot be folded is absent."""
    found = await system.read_many([Address(CATEGORY, calendar_id) for calendar_id in calendar_ids])
    return tuple(snapshot(each.id, reading.state, reading.version) for each, reading in found.items())


async def ask_schedule(system: ActorSystem, schedule_id: str, command: Any, context: Context = SYSTEM) -> Answer:
    """As `ActorSystem.ask`, telling the schedule of its calendars once it asks for them.

    Most refer to none: for them it is the plain question.
    """
    for _ in range(ATTEMPTS):
        try:
            return await system.ask(Address("schedule", schedule_id), command, context)
        except Rejected as no:
            if no.code != CALENDARS_UNKNOWN:
                raise
            calendar_ids: Sequence[str] = no.detail["calendar_ids"]
        except GuardLost as lost:
            if Address.of_stream(lost.stream_id).category != CATEGORY:
                raise
            calendar_ids = [each.calendar.calendar_id for each in command.calendars]
        command = evolve(command, calendars=await snapshots(system, calendar_ids))
    return await system.ask(Address("schedule", schedule_id), command, context)
