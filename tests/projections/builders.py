"""Recorded events for projection tests, without a store: the same ids and times in every run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import attrs

from eventstore.codec import EventCodec
from eventstore.event import RecordedEvent
from hetuflow.domain import events as catalogue
from hetuflow.domain.events import EVENT_TYPES, Event

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
CODEC = EventCodec({cls.__name__: cls for cls in EVENT_TYPES})

JOB, SCHEDULE, TASK, INSTANCE = (f"00000000-0000-7000-8000-0000000000{n:02x}" for n in (1, 2, 3, 4))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def an_id(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012x}"


class Log:
    """Events in the order they are added; each stream counts its versions."""

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []
        self._versions: Counter[str] = Counter()

    def add(
        self,
        event: Event,
        *,
        recorded_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        without: Sequence[str] = (),
    ) -> RecordedEvent:
        """Record an event in its stream; members named in `without` are left out of its data, as in an older event."""
        stream = stream_of(event)
        encoded = CODEC.encode(event, UUID(int=len(self.events) + 1), metadata or {})
        data = encoded.data
        if without:
            data = json.dumps({name: value for name, value in json.loads(data).items() if name not in without})
        return self.add_raw(stream, encoded.type, data, encoded.metadata, recorded_at)

    def add_raw(
        self, stream: str, type_: str, data: str, metadata: str = "{}", recorded_at: datetime | None = None
    ) -> RecordedEvent:
        position = len(self.events) + 1
        self._versions[stream] += 1
        recorded = RecordedEvent(
            position=position,
            recorded_at=recorded_at or at(position),
            version=self._versions[stream],
            schema=1,
            event_id=UUID(int=position),
            stream_id=stream,
            type=type_,
            data=data,
            metadata=metadata,
        )
        self.events.append(recorded)
        return recorded


CATEGORIES = (
    (catalogue.JobEvent, "job", "job_id"),
    (catalogue.ScheduleEvent, "schedule", "schedule_id"),
    (catalogue.TaskEvent, "task", "task_id"),
    (catalogue.AgentEvent, "agent", "agent_id"),
    (catalogue.ServerEvent, "server", "server_id"),
    (catalogue.LeaseEvent, "lease", "slot"),
    (catalogue.ExternalEvent, "external", "source"),
    (catalogue.CalendarEvent, "calendar", "calendar_id"),
    (catalogue.FlowEvent, "flow", "flow_run_id"),
    (catalogue.BackfillEvent, "backfill", "backfill_id"),
)


def stream_of(event: Event) -> str:
    for base, category, member in CATEGORIES:
        if isinstance(event, base):
            return f"{category}-{getattr(event, member)}"
    raise AssertionError(event)


def an_event(cls: type[Event], **members: Any) -> Event:
    """An event with plausible members wherever none is given."""
    given = {
        field.name: members.get(field.name, _PLAUSIBLE.get(field.name))
        for field in attrs.fields(cls)  # type: ignore[arg-type]
        if field.name in members or field.default is attrs.NOTHING
    }
    unknown = members.keys() - given.keys()
    assert not unknown, f"{cls.__name__} has no {sorted(unknown)}"
    return cls(**given)


CONFIG = {"timeout": 3600, "max_retries": 3, "retry_interval": 60, "cmd": "bash", "args": ["-c", "true"]}

_PLAUSIBLE: dict[str, Any] = {
    "job_id": JOB,
    "schedule_id": SCHEDULE,
    "task_id": TASK,
    "instance_id": INSTANCE,
    "agent_id": "agent-01",
    "server_id": "server-01",
    "calendar_id": "holidays",
    "backfill_id": an_id(51),
    "flow_run_id": an_id(61),
    "task_ids": (),
    "exclude_calendars": (),
    **dict.fromkeys(("made", "left_out", "succeeded", "failed", "cancelled"), 0),
    **dict.fromkeys(("from_at", "until_at", "cursor_at", "finished_at"), START),
    "total": 3,
    "max_concurrent": 1,
    "is_last": False,
    "outcome": "finished",
    **dict.fromkeys(("dates", "ranges", "yearly", "weekdays", "times", "periods"), ()),
    "calendars": {},
    "deleted_at": START,
    "namespace_id": "default",
    "name": "hello",
    "config": CONFIG,
    "status": 100,
    "changed": ("name",),
    "schedule_kind": 2,
    "interval_secs": 60,
    "timezone": "UTC",
    "misfire_policy": "fire_once",
    "misfire_grace_seconds": 60,
    "overlap_policy": "allow",
    "jitter_seconds": 0,
    "ended_as": 100,
    "ended_at": START,
    "consecutive_failures": 0,
    "parameters": {},
    "priority": 0,
    "anchor_at": START,
    "created_at": START,
    "updated_at": START,
    "enabled_at": START,
    "nominal_at": START,
    "fired_at": START,
    "first_nominal_at": START,
    "last_nominal_at": START,
    "scheduled_at": START,
    "locked_at": START,
    "dispatched_at": START,
    "retry_at": at(60),
    "requested_at": START,
    "cancelled_at": START,
    "completed_at": START,
    "registered_at": START,
    "connected_at": START,
    "disconnected_at": START,
    "lost_at": START,
    "drained_at": START,
    "started_at": START,
    "stopped_at": START,
    "taken_at": START,
    "paused_at": START,
    "resumed_at": START,
    "settled_at": START,
    "sealed_at": START,
    "fire_count": 1,
    "id": "e-1",
    "source": "default",
    "type": "file.created",
    "data": {},
    "time": START,
    "digest": "abc",
    "dependency_id": TASK,
    "open_count": 0,
    "output_truncated": False,
    "count": 1,
    "reason": "exit_code",
    "cause": "user",
    "by": "user:1",
    "error": "boom",
    "job_version": 1,
    "retry_count": 0,
    "trigger": "api",
    "attempt": 1,
    "epoch": 1,
    "session": "0123456789abcdef",
    "duration_seconds": 1.5,
    "error_message": "exit status 1",
    "why": "old epoch",
    "address": "127.0.0.1:5000",
    "reported_labels": {},
    "reported_metadata": {},
    "effective_labels": {},
    "effective_metadata": {},
    "max_concurrent_tasks": 5,
    "version": "0.1.0",
    "host": "host",
    "incarnation": 1,
    "lease_seconds": 120.0,
    "bind_namespaces": (),
    "slot": 0,
}
