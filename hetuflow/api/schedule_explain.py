"""C12: what a schedule did, or will do, at one moment. Looked up here; what follows from it is `domain.schedule_explanation`.

No question reads the whole history: a fire is found by the id of its task, which is derived from the nominal time; a skip
among the events recorded from then on; and the rule of times by the events that changed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import evolve

from eventstore.event import RecordedEvent
from eventstore.store import EventFilter
from hetuflow.actors import Reading
from hetuflow.actors.catalogue import event_codec
from hetuflow.api.call import Call, Reply
from hetuflow.api.errors import not_found
from hetuflow.api.excluding import exclusion_of
from hetuflow.api.records import record
from hetuflow.api.runs import snapshot
from hetuflow.api.summaries import skipped_because
from hetuflow.domain.backfill_window import nominal_within
from hetuflow.domain.daemon_report import report
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import JobStatus, TaskStatus
from hetuflow.domain.events import ScheduleFired, ScheduleSkipped
from hetuflow.domain.identity import task_id_of
from hetuflow.domain.preview import Upcoming
from hetuflow.domain.schedule_explanation import (
    LIFECYCLE,
    PRECISION,
    Asked,
    Backfilled,
    Decided,
    JobStanding,
    Lived,
    explain_moment,
    nominal_near,
)
from hetuflow.domain.schedule_state import ScheduleState

CLOCKS_APART = timedelta(minutes=1)
"""A decision can be recorded so long before its nominal time, where the server's clock is ahead of the database's."""

PAGE = 500
SEARCHED_MAX = 20
"""Pages that are searched for a skip."""

BEFORE_TASK = 300
"""A fire stands before its task in the same append, which is no longer than this."""

_CODEC = event_codec()
_FIRED, _SKIPPED = (ScheduleFired.__name__,), (ScheduleSkipped.__name__,)


async def explain_at(call: Call) -> Reply:
    now = call.rooms.clock.now()
    at: datetime = call.query.get("at") or now
    reading = await call.rooms.system.read(Address("schedule", call.id))
    if not reading.version:
        raise not_found("schedule", call.id)
    asked = Asked(
        at=at,
        asked_at=now,
        lives=await _lives(call),
        now=reading.state,
        job=await _job(call, reading.state.job_id),
        exclusion=await exclusion_of(call, reading.state.exclude_calendars),
    )
    found, decided = await _decision(call, asked) if at <= now + CLOCKS_APART else (None, None)
    if found is None and at <= now:
        before, after = await _neighbours(call, at)
        asked = evolve(asked, decided_before=before, decided_after=after)
    explained = explain_moment(evolve(asked, decided=decided))
    is_decided = explained.outcome in ("fired", "skipped")
    later = None if explained.outcome == "fired" or at > now else await _backfilled(call, asked)
    value = {
        "schedule_id": call.id,
        "at": at,
        "position": reading.position,
        "outcome": explained.outcome,
        "code": explained.code,
        "summary": explained.summary
        + await _standing(call, reading, now)
        + ("" if later is None else f" {later.sentence}"),
        "nominal": _shown(explained.nominal),
        "due_at": explained.due_at,
        "before": _shown(explained.before),
        "after": _shown(explained.after),
        "task": _task(decided) if later is None else _task_shown(later.task_id, later.task_status),
        "decision": None if found is None or not is_decided else record(found),
    }
    return Reply(value, reading.position)


async def _standing(call: Call, reading: Reading[ScheduleState], now: datetime) -> str:
    """Of a daemon, which has no moments to be asked about: how it stands."""
    state = reading.state
    if not state.is_daemon or state.is_deleted:
        return ""
    job = await call.rooms.system.read(Address("job", state.job_id))
    return f" Now: {report(state, snapshot(state.job_id, job), now).summary}"


def _shown(fire: Upcoming | None) -> dict[str, Any] | None:
    return None if fire is None else {"at": fire.at, "local": fire.local.isoformat(), "note": fire.note}


def _task(decided: Decided | None) -> dict[str, Any] | None:
    if decided is None or not isinstance(decided.event, ScheduleFired):
        return None
    return _task_shown(decided.event.task_id, decided.task_status)


def _task_shown(task_id: str, status: TaskStatus | None) -> dict[str, Any]:
    return {"id": task_id, "status": None if status is None else int(status)}


async def _backfilled(call: Call, asked: Asked) -> Backfilled | None:
    """The task that a backfill made for the moment: its id is the one that a fire would have given it. A window may lie
    before the schedule's beginning, where the rule of the time says nothing."""
    moments = (asked.at, nominal_near(asked), nominal_within(asked.now, asked.at, asked.at + PRECISION))
    addresses = [Address("task", task_id_of(call.id, at)) for at in dict.fromkeys(moments) if at is not None]
    for address, reading in (await call.rooms.system.read_many(addresses)).items():
        spec = reading.state.spec
        if spec is not None and spec.backfill_id is not None:
            status = None if reading.state.is_deleted else TaskStatus(reading.state.status)
            return Backfilled(backfill_id=spec.backfill_id, task_id=address.id, task_status=status)
    return None


async def _lives(call: Call) -> Sequence[Lived]:
    types = tuple(kind.__name__ for kind in LIFECYCLE)
    found: list[Lived] = []
    after = 0
    while True:
        events = await _events(call, types, after=after)
        found += [Lived(_CODEC.decode(event), event.recorded_at) for event in events]
        if len(events) < PAGE:
            return found
        after = events[-1].position


async def _events(call: Call, types: Sequence[str], **where: Any) -> Sequence[RecordedEvent]:
    wanted = EventFilter(stream_id=f"schedule-{call.id}", types=types)
    return await call.rooms.store.read_all(**{"limit": PAGE, **where}, where=wanted)


async def _job(call: Call, job_id: str) -> JobStanding | None:
    state = (await call.rooms.system.read(Address("job", job_id))).state
    if state.status is None:
        return None
    return JobStanding(status=JobStatus(state.status), note=state.status_note, is_deleted=state.is_deleted)


# --- the decision -----------------------------------------------------------------------------------------------------


async def _decision(call: Call, asked: Asked) -> tuple[RecordedEvent, Decided] | tuple[None, None]:
    """The event that decided about the moment."""
    nominal_at = nominal_near(asked)
    found = None if nominal_at is None else await _fire_of(call, task_id_of(call.id, nominal_at))
    start = await call.rooms.store.position_at(asked.at - CLOCKS_APART) or 0
    if found is None:
        found = await _skip_at(call, asked.at, start)
    if found is None:
        found = await _fire_at(call, asked.at, start)
    if found is None:
        return None, None
    event = _CODEC.decode(found)
    if isinstance(event, ScheduleSkipped):
        return found, Decided(
            event=event, recorded_at=found.recorded_at, why=skipped_because(event.reason, event.calendars)
        )
    task = (await call.rooms.system.read(Address("task", event.task_id))).state
    status = None if task.status is None or task.is_deleted else TaskStatus(task.status)
    return found, Decided(event=event, recorded_at=found.recorded_at, task_status=status)


async def _fire_of(call: Call, task_id: str) -> RecordedEvent | None:
    """The fire that made this task."""
    task = await call.rooms.store.read_all(limit=1, where=EventFilter(stream_id=f"task-{task_id}"))
    if not task:
        return None
    before = task[0].position
    fires = await _events(call, _FIRED, before=before, after=max(0, before - BEFORE_TASK), descending=True)
    return next((event for event in fires if _CODEC.decode(event).task_id == task_id), None)


async def _skip_at(call: Call, at: datetime, after: int) -> RecordedEvent | None:
    for _ in range(SEARCHED_MAX):
        events = await _events(call, _SKIPPED, after=after)
        for event in events:
            skip = _CODEC.decode(event)
            if skip.first_nominal_at >= at + PRECISION:
                return None
            if skip.last_nominal_at >= at:
                return event
        if len(events) < PAGE:
            break
        after = events[-1].position
    return None


async def _fire_at(call: Call, at: datetime, after: int) -> RecordedEvent | None:
    """A fire whose nominal time the rule does not tell: of a fixed delay, an event, or other time zone rules."""
    for event in await _events(call, _FIRED, after=after):
        nominal_at = _CODEC.decode(event).nominal_at
        if nominal_at >= at + PRECISION:
            return None
        if nominal_at >= at:
            return event
    return None


async def _neighbours(call: Call, at: datetime) -> tuple[datetime | None, datetime | None]:
    """The nominal times that were decided just before and after the moment, as they were recorded."""
    position = await call.rooms.store.position_at(at) or 0
    earlier = await _events(call, (*_FIRED, *_SKIPPED), before=position + 1, descending=True, limit=1)
    later = await _events(call, (*_FIRED, *_SKIPPED), after=position, limit=1)
    return _nominal(earlier), _nominal(later)


def _nominal(events: Sequence[RecordedEvent]) -> datetime | None:
    if not events:
        return None
    event = _CODEC.decode(events[0])
    return event.nominal_at if isinstance(event, ScheduleFired) else event.last_nominal_at
