"""Appending a made-up history to a real store, and reading the tables back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from eventstore.event import Claim, NewEvent, RecordedEvent
from eventstore.postgres import PostgresStore
from eventstore.postgres.database import Database
from hetuflow.domain import events as e
from projections.definition import Table
from projections.fold import Row, Tables
from projections.tables import ALL_TABLES
from tests.projections.builders import Log, an_event, an_id, at
from tests.projections.sql import shown


def a_task(log: Log, number: int, *, agent: str = "agent-01", fails: bool = False, deleted: bool = False) -> None:
    """The life of one task, ended."""
    ids: dict[str, Any] = {"task_id": an_id(1000 + number)}
    run = {**ids, "instance_id": an_id(2000 + number)}
    log.add(an_event(e.TaskCreated, **run, name=f"task {number}", scheduled_at=at(number)))
    log.add(an_event(e.TaskLocked, **ids))
    log.add(an_event(e.TaskDispatched, **run, agent_id=agent))
    log.add(an_event(e.InstanceStarted, **run, agent_id=agent))
    if fails:
        log.add(an_event(e.InstanceFailed, **run, agent_id=agent, status=90))
        log.add(an_event(e.TaskFailed, **ids))
    else:
        log.add(an_event(e.InstanceSucceeded, **run, agent_id=agent))
        log.add(an_event(e.TaskSucceeded, **ids))
    if deleted:
        log.add(an_event(e.TaskDeleted, **ids))


def a_history(tasks: int) -> Log:
    """A job, a schedule, an agent, a server, and so many tasks, some failed, some deleted, one still open."""
    log = Log()
    log.add(an_event(e.ServerStarted))
    log.add(an_event(e.JobCreated))
    log.add(an_event(e.ScheduleCreated))
    log.add(an_event(e.AgentRegistered))
    log.add(an_event(e.AgentConnected))
    for number in range(tasks):
        a_task(log, number, fails=number % 5 == 4, deleted=number % 7 == 6)
    log.add(an_event(e.TaskCreated, task_id=an_id(999), instance_id=an_id(1999)))
    return log


async def append(store: PostgresStore, events: Sequence[RecordedEvent]) -> int:
    """Append recorded events in their order; return the position of the last."""
    position = 0
    for stream, group in groupby(events, key=lambda event: event.stream_id):
        run = list(group)
        new = [NewEvent(event_id=r.event_id, type=r.type, data=r.data, metadata=r.metadata) for r in run]
        position = (await store.append([Claim(stream, run[0].version - 1, new)])).position
    return position


async def rows(database: Database, table: Table) -> Mapping[Any, Row]:
    records = await database.fetch(f"SELECT * FROM {table.name}")
    return {row[table.key]: row for row in (shown(table, record) for record in records)}


async def assert_tables_are_the_fold_of_the_log(store: PostgresStore, names: Sequence[str] = tuple(ALL_TABLES)) -> None:
    expected = Tables(ALL_TABLES)
    expected.apply(await store.read_all(limit=100_000))
    for name in names:
        assert await rows(store.database, ALL_TABLES[name]) == expected.folds[name].rows(), name
