"""T10: why a task is where it is. Everything is looked up here; what follows from it is `domain.explanation`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from eventstore.event import RecordedEvent
from eventstore.store import EventFilter
from hetuflow.actors.catalogue import event_codec
from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import AGENTS
from hetuflow.api.daemons import reading_at
from hetuflow.api.errors import gone, not_found
from hetuflow.api.moments import Moment, moment_of, page_at
from hetuflow.api.reads import where
from hetuflow.api.records import record
from hetuflow.api.rooms import Agents, Row
from hetuflow.domain.daemon import SEAT_VARIABLE
from hetuflow.domain.daemon_report import sequel
from hetuflow.domain.decider import Address
from hetuflow.domain.deciders import DECIDERS
from hetuflow.domain.eligibility import Worker
from hetuflow.domain.enums import AgentStatus, TaskTrigger
from hetuflow.domain.events import TaskCreated
from hetuflow.domain.explained_limits import Limit
from hetuflow.domain.explanation import Circumstances, Told
from hetuflow.domain.explanation import explain as explain_task
from hetuflow.domain.limits import rate_of
from hetuflow.domain.need import Need
from hetuflow.domain.placement_labels import overruled, placement_labels
from hetuflow.domain.starts import free_at
from hetuflow.domain.task_state import TaskState
from hetuflow.scheduler.recent_starts import recent_starts

AGENTS_READ_MAX = 5000
SKIPS_MAX = 20

CHAIN_POSITIONS = 2_000
"""What opens a task stands before it in the same append, which is no longer than this."""

BEHIND_MAX = 40
"""Events of a chain of jobs that are shown."""

_CODEC = event_codec()


async def explain(call: Call) -> Reply:
    past = await moment_of(call)
    moment = Moment(await call.log_head(), call.rooms.clock.now()) if past is None else past
    events = await call.rooms.store.read_stream(f"task-{call.id}", until_position=moment.position)
    if not events:
        raise not_found("task", call.id)
    if events[0].version > 1:
        raise gone(events[0].position)
    told = [_told(event) for event in events]
    state: TaskState = DECIDERS["task"].initial
    for each in told:
        state = DECIDERS["task"].evolve(state, each.event)
    found = explain_task(told, state, await _around(call, moment, state, is_now=past is None))
    spec = state.spec
    assert spec is not None and state.status is not None
    value = {
        "task_id": call.id,
        "status": int(state.status),
        "position": moment.position,
        "at": moment.at,
        "summary": " ".join(part for part in (found.summary, await _sequel(call, spec, past)) if part),
        "cause": await _cause(call, events[0]),
        "waiting_for": [attrs.asdict(each, recurse=False) for each in found.waiting_for],
        "agents": [attrs.asdict(each, recurse=False) for each in found.agents],
        "placed": None if found.placed is None else attrs.asdict(found.placed, recurse=False),
        "ended": None if found.ended is None else attrs.asdict(found.ended, recurse=False),
        "skipped": await _skips(call, spec.schedule_id, moment),
    }
    return Reply(value, moment.position)


async def _sequel(call: Call, spec: TaskCreated, past: Moment | None) -> str:
    """Of a task of a daemon: what has become of its seat."""
    if spec.trigger != TaskTrigger.DAEMON or spec.schedule_id is None:
        return ""
    schedule = (await reading_at(call, Address("schedule", spec.schedule_id), past)).state
    return sequel(schedule, (spec.environment or {}).get(SEAT_VARIABLE), spec.task_id)


def _told(event: RecordedEvent) -> Told:
    principal = json.loads(event.metadata).get("principal")
    return Told(_CODEC.decode(event), event.recorded_at, event.position, principal)


async def _around(call: Call, moment: Moment, state: TaskState, is_now: bool) -> Circumstances:
    request = where(AGENTS, limit=AGENTS_READ_MAX)
    free_at = await _rate_free_at(call, moment, state)
    if not is_now:
        page = await page_at(call, AGENTS, request, moment)
        return Circumstances(now=moment.at, workers=[_worker(row) for row in page.rows], rate_free_at=free_at)
    await call.visible(moment.position, projection=AGENTS.name)
    page = await call.rooms.rows.page(AGENTS.name, request)
    scheduler = call.rooms.scheduler
    agenda = scheduler.status().agenda
    return Circumstances(
        now=moment.at,
        workers=[_worker(row, call.rooms.agents) for row in page.rows],
        limit=Limit(tasks_max=agenda.tasks_max, instances=agenda.instances),
        full=() if state.spec is None else scheduler.full_limits(Need.of_task(state.spec), call.id),
        rate_free_at=free_at,
    )


async def _rate_free_at(call: Call, moment: Moment, state: TaskState) -> datetime | None:
    """When the rate of a waiting task allows its start; None: it has none."""
    if state.spec is None or state.is_terminal or state.live_instance is not None:
        return None
    rate = rate_of(state.spec.config)
    if rate is None:
        return None
    store, job_id = call.rooms.store, state.spec.job_id
    return free_at(rate, await recent_starts(store, job_id, before=moment.position + 1, most=rate.count))


def _worker(row: Row, agents: Agents | None = None) -> Worker:
    """`agents`: who knows how they are now; None = it is about the past."""
    agent_id = str(row["id"])
    heard_at = None if agents is None else agents.last_heard_at(agent_id)
    capabilities: Mapping[str, Any] = row["capabilities"]
    labels = capabilities["labels"] or {}, row["reported_labels"] or {}, row["protected_labels"] or ()
    return Worker(
        agent_id=agent_id,
        name=row["name"] or "",
        is_online=row["status"] == AgentStatus.ONLINE,
        is_draining=row["draining"],
        slots=capabilities["max_concurrent_tasks"],
        used=row["running_instances"],
        labels=placement_labels(*labels),
        overruled=overruled(*labels),
        heard_at=max(filter(None, (row["last_heartbeat_at"], heard_at)), default=None),
        refusal=None if agents is None else agents.refusal_of(agent_id),
    )


async def _cause(call: Call, created: RecordedEvent) -> dict[str, Any]:
    data, metadata = json.loads(created.data), json.loads(created.metadata)
    events = await _events_behind(call, created)
    chain = [*events, *await _before(call, created, metadata), created]
    position = None if not data.get("event") else data["event"]["position"]
    if position is None:
        position = next((event.position for event in chain if event.type == "ExternalEventReceived"), None)
    return {
        "trigger": data["trigger"],
        "schedule_id": data.get("schedule_id"),
        "nominal_at": data.get("nominal_at"),
        "event_position": position,
        "principal": metadata.get("principal"),
        "request_id": metadata.get("request_id"),
        "chain": [record(event) for event in chain],
    }


async def _events_behind(call: Call, created: RecordedEvent) -> Sequence[RecordedEvent]:
    """The events that triggered a task, the first of a chain of jobs first: where one is of another task, that task's
    creation and what triggered it stand before it."""
    behind: list[RecordedEvent] = []
    event = json.loads(created.data).get("event")
    while event is not None and len(behind) < BEHIND_MAX:
        found = await call.rooms.store.read_all(after=event["position"] - 1, limit=1)
        if not found:  # retention has taken it
            break
        [trigger] = found
        behind.append(trigger)
        event = None
        if trigger.category == "task" and trigger.version > 1:
            first, *_ = await call.rooms.store.read_stream(trigger.stream_id, until_position=trigger.position)
            behind.append(first)
            event = json.loads(first.data).get("event")
    return behind[::-1]


async def _before(call: Call, created: RecordedEvent, metadata: Mapping[str, Any]) -> Sequence[RecordedEvent]:
    """What led to the task's creation: what the same conversation recorded before it.

    A fire of many nominal times records them all; only the one that is this task's belongs to its chain.
    """
    same = EventFilter(correlation_id=metadata.get("correlation_id"))
    found = await call.rooms.store.read_all(
        after=max(0, created.position - CHAIN_POSITIONS),
        before=created.position,
        limit=CHAIN_POSITIONS,
        where=same,
    )
    task_id = created.stream_id.partition("-")[2]
    is_by_event = json.loads(created.data).get("event") is not None
    return [event for event in found if event.category != "task" and _led_to(event, task_id, is_by_event)]


def _led_to(event: RecordedEvent, task_id: str, is_by_event: bool) -> bool:
    """An event from outside that triggered it is known by itself."""
    return (event.category == "external" and not is_by_event) or json.loads(event.data).get("task_id") == task_id


async def _skips(call: Call, schedule_id: str | None, moment: Moment) -> Sequence[dict[str, Any]]:
    """The moments of its schedule that made no task, newest first."""
    if schedule_id is None:
        return []
    skips = EventFilter(stream_id=f"schedule-{schedule_id}", types=("ScheduleSkipped",))
    events = await call.rooms.store.read_all(before=moment.position + 1, limit=SKIPS_MAX, descending=True, where=skips)
    found = []
    for event in events:
        data, shown = json.loads(event.data), record(event)
        found.append(
            {
                "first_nominal_at": data["first_nominal_at"],
                "last_nominal_at": data["last_nominal_at"],
                "count": data["count"],
                "reason": data["reason"],
                "message": shown["summary"],
                "position": event.position,
                "at": event.recorded_at,
            }
        )
    return found
