"""The exclusion calendar: named rules that schedules refer to. An edit holds from its own instant on, never before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import frozen

from hetuflow.domain.calendar_members import read_rules
from hetuflow.domain.calendar_rules import NO_RULES, RULES, CalendarRules, rules_of
from hetuflow.domain.commands import (
    CalendarSnapshot,
    CreateCalendar,
    DeleteCalendar,
    SealCalendar,
    UnsealCalendar,
    UpdateCalendar,
)
from hetuflow.domain.copies import copier
from hetuflow.domain.cron_zone import UnknownTimeZone, check_zone
from hetuflow.domain.decider import NOTHING, Decision
from hetuflow.domain.events import (
    CalendarCreated,
    CalendarDeleted,
    CalendarEvent,
    CalendarSealed,
    CalendarUnsealed,
    CalendarUpdated,
)
from hetuflow.domain.exclusion import Calendar, Edition
from hetuflow.domain.job import SEAL_SECONDS
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.table_decider import TableDecider
from hetuflow.domain.transition import IllegalTransition, changed_members

EDITABLE = ("description", "timezone", *RULES, "imported_until_at")

EDITIONS_MAX = 16
"""Editions that are remembered. A nominal time that was left undecided over more edits than that is judged by the oldest
one that is: a schedule is decided within a second of its time, or after an absence in which nobody edits much."""


@frozen(slots=True)
class CalendarState:
    """A calendar. `exists` False: there is none of that name, now."""

    calendar_id: str = ""
    description: str | None = None
    timezone: str = "UTC"
    dates: tuple[str, ...] = ()
    ranges: tuple[Mapping[str, Any], ...] = ()
    yearly: tuple[str, ...] = ()
    weekdays: tuple[Mapping[str, Any], ...] = ()
    times: tuple[Mapping[str, Any], ...] = ()
    periods: tuple[Mapping[str, Any], ...] = ()
    imported_until_at: datetime | None = None
    exists: bool = False
    sealed_at: datetime | None = None
    editions: tuple[Edition, ...] = ()

    @property
    def sealed_until_at(self) -> datetime | None:
        return None if self.sealed_at is None else self.sealed_at + timedelta(seconds=SEAL_SECONDS)


INITIAL = CalendarState()

_changed = copier(CalendarState)


def snapshot(calendar_id: str, state: CalendarState, version: int) -> CalendarSnapshot:
    """The calendar as of this version of its stream, for a schedule's decision; also when there is none."""
    editions = state.editions or (Edition(None, NO_RULES),)
    return CalendarSnapshot(
        calendar=Calendar(calendar_id, version, editions), exists=state.exists, sealed_until_at=state.sealed_until_at
    )


# --- decide --------------------------------------------------------------------------------------------------------


def _create(command: CreateCalendar, state: CalendarState, now: datetime) -> Decision:
    if state.exists:
        id_ = command.calendar_id
        raise Rejected("already_exists", f"calendar {id_} exists", {"kind": "calendar", "id": id_})
    members = _checked({name: getattr(command, name) for name in EDITABLE})
    return Decision([CalendarCreated(calendar_id=command.calendar_id, created_at=now, **members)])


def _update(command: UpdateCalendar, state: CalendarState, now: datetime) -> Decision:
    _existing(state)
    wanted = _checked({**{name: getattr(state, name) for name in EDITABLE}, **command.changes})
    names = changed_members(state, {name: wanted[name] for name in command.changes}, EDITABLE)
    if not names:
        return NOTHING
    newest = state.editions[-1].since_at
    updated_at = now if newest is None else max(now, newest)  # the clock of another server may have been ahead
    return Decision([CalendarUpdated(calendar_id=state.calendar_id, updated_at=updated_at, changed=names, **wanted)])


def _delete(command: DeleteCalendar, state: CalendarState, now: datetime) -> Decision:
    """That no schedule refers to it is the caller's to see to: only the tables know them. The seal that it was found
    under must still hold.

    Raises:
      Rejected: `version_conflict`, the seal has lapsed or was broken.
    """
    _existing(state)
    until = state.sealed_until_at
    if command.sealed_at != state.sealed_at or until is None or now >= until:
        message = "it took too long to look for schedules that refer to it; try again"
        raise Rejected("version_conflict", message, {"id": state.calendar_id})
    return Decision([CalendarDeleted(calendar_id=state.calendar_id, deleted_at=now)])


def _seal(command: SealCalendar, state: CalendarState, now: datetime) -> Decision:
    _existing(state)
    return Decision([CalendarSealed(calendar_id=state.calendar_id, sealed_at=now)])


def _unseal(command: UnsealCalendar, state: CalendarState, now: datetime) -> Decision:
    _existing(state)
    return NOTHING if state.sealed_at is None else Decision([CalendarUnsealed(calendar_id=state.calendar_id)])


def _existing(state: CalendarState) -> None:
    if not state.exists:
        raise Rejected("not_found", "there is no such calendar", {"kind": "calendar", "id": state.calendar_id or None})


def _checked(members: dict[str, Any]) -> dict[str, Any]:
    """The members as they are stored.

    Raises:
      Rejected: `invalid`, naming the first member that is wrong.
    """

    def refuse(path: str, message: str) -> None:
        raise Rejected("invalid", f"{path}: {message}", {"path": path})

    try:
        check_zone(members["timezone"])
    except UnknownTimeZone as wrong:
        refuse("timezone", str(wrong))
    return {**members, **{name: tuple(rule) for name, rule in read_rules(members, refuse).items()}}


# --- evolve --------------------------------------------------------------------------------------------------------


def _created(state: CalendarState, event: CalendarCreated) -> CalendarState:
    if state.exists:
        raise IllegalTransition("calendar", "PRESENT", CalendarCreated)
    since_at = event.created_at if state.editions else None
    return CalendarState(
        calendar_id=event.calendar_id,
        exists=True,
        editions=_with_edition(state, since_at, _rules(event)),
        **{name: getattr(event, name) for name in EDITABLE},
    )


def _updated(state: CalendarState, event: CalendarUpdated) -> CalendarState:
    _check(state, event)
    editions = state.editions
    if event.changed != ("description",):
        editions = _with_edition(state, event.updated_at, _rules(event))
    return _changed(state, editions=editions, **{name: getattr(event, name) for name in EDITABLE})


def _deleted(state: CalendarState, event: CalendarDeleted) -> CalendarState:
    _check(state, event)
    return _changed(state, exists=False, sealed_at=None, editions=_with_edition(state, event.deleted_at, NO_RULES))


def _sealed(state: CalendarState, event: CalendarSealed) -> CalendarState:
    _check(state, event)
    return _changed(state, sealed_at=event.sealed_at)


def _unsealed(state: CalendarState, event: CalendarUnsealed) -> CalendarState:
    _check(state, event)
    return _changed(state, sealed_at=None)


def _check(state: CalendarState, event: CalendarEvent) -> None:
    if not state.exists:
        raise IllegalTransition("calendar", "ABSENT", type(event))


def _rules(event: CalendarCreated | CalendarUpdated) -> CalendarRules:
    return rules_of(event.timezone, {name: getattr(event, name) for name in RULES})


def _with_edition(state: CalendarState, since_at: datetime | None, rules: CalendarRules) -> tuple[Edition, ...]:
    newest = state.editions[-1].since_at if state.editions else None
    if since_at is not None and newest is not None:
        since_at = max(since_at, newest)
    return (*state.editions, Edition(since_at, rules))[-EDITIONS_MAX:]


CALENDAR: TableDecider[CalendarState] = TableDecider(
    "calendar",
    INITIAL,
    {
        CreateCalendar: _create,
        UpdateCalendar: _update,
        SealCalendar: _seal,
        UnsealCalendar: _unseal,
        DeleteCalendar: _delete,
    },
    {
        CalendarCreated: _created,
        CalendarUpdated: _updated,
        CalendarDeleted: _deleted,
        CalendarSealed: _sealed,
        CalendarUnsealed: _unsealed,
    },
)
