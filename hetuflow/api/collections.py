"""The fields of the collections (REST contract §6.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from hetuflow.api.filters import Collection, Field
from hetuflow.api.operators import FieldType
from hetuflow.domain.enums import (
    AgentStatus,
    FlowStatus,
    InstanceStatus,
    JobStatus,
    ScheduleKind,
    ScheduleStatus,
    ServerStatus,
    TaskStatus,
)


def _fields(kind: FieldType, names: str) -> Iterable[Field]:
    return (Field(name=name, type=kind) for name in names.split())


def _strings(names: str) -> Iterable[Field]:
    return _fields(FieldType.STRING, names)


def _integers(names: str) -> Iterable[Field]:
    return _fields(FieldType.INTEGER, names)


def _times(names: str) -> Iterable[Field]:
    return _fields(FieldType.TIME, names)


def _uuids(names: str) -> Iterable[Field]:
    return _fields(FieldType.UUID, names)


JOBS: Final = Collection(
    "jobs",
    [
        *_strings("name namespace_id description agent_id"),
        Field(name="status", type=FieldType.INTEGER, enum=JobStatus),
        *_times("created_at"),
        Field(name="updated_at", type=FieldType.TIME, aliases=("last_heartbeat_at",)),
        *_uuids("id"),
        Field(name="config", type=FieldType.JSON),
        Field(name="upstream", type=FieldType.JSON),
    ],
)

SCHEDULES: Final = Collection(
    "schedules",
    [
        *_strings("name cron_expression timezone event_type"),
        Field(
            name="schedule_kind",
            type=FieldType.INTEGER,
            enum=ScheduleKind,
            aliases=("kind",),
        ),
        Field(name="status", type=FieldType.INTEGER, enum=ScheduleStatus),
        *_integers("priority interval_secs max_count"),
        *_times("start_time end_time next_run_at last_run_at created_at updated_at"),
        *_uuids("id job_id"),
        Field(name="enabled", type=FieldType.BOOLEAN),
        Field(name="exclude_calendars", type=FieldType.ARRAY),
    ],
)

TASKS: Final = Collection(
    "tasks",
    [
        *_strings("name namespace_id trigger"),
        Field(
            name="status",
            type=FieldType.INTEGER,
            enum=TaskStatus,
            also={"doing": int(TaskStatus.RUNNING)},
        ),
        Field(name="schedule_kind", type=FieldType.INTEGER, enum=ScheduleKind),
        *_integers("priority retry_count attempt"),
        *_times("scheduled_at completed_at locked_at next_retry_at created_at updated_at"),
        *_uuids("id job_id schedule_id flow_run_id backfill_id"),
        Field(name="task_config", type=FieldType.JSON, aliases=("config",)),
        Field(name="parameters", type=FieldType.JSON),
    ],
)

TASK_INSTANCES: Final = Collection(
    "task_instances",
    [
        *_strings("agent_id error_message reason"),
        Field(name="status", type=FieldType.INTEGER, enum=InstanceStatus),
        *_integers("exit_code attempt"),
        *_times("started_at completed_at created_at updated_at"),
        *_uuids("id task_id job_id"),
        Field(name="external", type=FieldType.BOOLEAN),
    ],
)

AGENTS: Final = Collection(
    "agents",
    [
        *_strings("id name address namespace_id description"),
        Field(name="status", type=FieldType.INTEGER, enum=AgentStatus),
        *_times("last_heartbeat_at created_at updated_at"),
        Field(name="draining", type=FieldType.BOOLEAN),
        Field(name="labels", type=FieldType.JSON),
    ],
)

SERVERS: Final = Collection(
    "servers",
    [
        *_strings("id name address description"),
        Field(name="status", type=FieldType.INTEGER, enum=ServerStatus),
        *_times("last_heartbeat_at created_at updated_at"),
        Field(name="bind_namespaces", type=FieldType.ARRAY),
    ],
)

CALENDARS: Final = Collection(
    "calendars",
    [
        *_strings("id description timezone"),
        *_times("imported_until_at created_at updated_at"),
    ],
)

FLOWS: Final = Collection(
    "flows",
    [
        *_strings("name namespace_id trigger"),
        Field(name="status", type=FieldType.INTEGER, enum=FlowStatus),
        *_integers("task_count"),
        *_times("nominal_at completed_at retried_at created_at updated_at"),
        *_uuids("id job_id schedule_id"),
        Field(name="parameters", type=FieldType.JSON),
    ],
)

BACKFILLS: Final = Collection(
    "backfills",
    [
        *_strings("status"),
        *_integers("total made left_out succeeded failed cancelled"),
        *_times("from_at until_at created_at updated_at finished_at"),
        *_uuids("id schedule_id job_id"),
    ],
)

COLLECTIONS: Final[Mapping[str, Collection]] = {
    collection.name: collection
    for collection in (JOBS, SCHEDULES, TASKS, TASK_INSTANCES, AGENTS, SERVERS, CALENDARS, FLOWS, BACKFILLS)
}
