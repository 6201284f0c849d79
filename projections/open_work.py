"""`open_work`: one row per stream whose actor has something to do, so that a start never reads the history.

A table of the server's own: it has its own checkpoint and transaction, so that rebuilding the tables for people never
delays a start. An agent stays in it while its last session was not declared lost: a connection that merely ended may
still hold running instances. A daemon that was switched off stays in it until the last of its tasks has ended.
"""

from __future__ import annotations

from hetuflow.domain.enums import ScheduleStatus
from hetuflow.domain.events import (
    AgentConnected,
    AgentLost,
    AgentRemoved,
    BackfillFinished,
    BackfillStarted,
    DaemonGaveUp,
    DaemonStopped,
    FlowFinished,
    FlowRetried,
    FlowStarted,
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleExpired,
    ScheduleSuspended,
    SeatsStopping,
    ServerLost,
    ServerRemoved,
    ServerStarted,
    ServerStopped,
    TaskCancelled,
    TaskCreated,
    TaskDeleted,
    TaskFailed,
    TaskReopened,
    TaskSucceeded,
)
from projections.definition import Born, Category, Column, Equals, Kind, StreamId, Table

OPENS = (
    TaskCreated,
    TaskReopened,
    ScheduleCreated,
    ScheduleEnabled,
    SeatsStopping,
    BackfillStarted,
    AgentConnected,
    ServerStarted,
    FlowStarted,
    FlowRetried,
)

OPEN_WORK = Table(
    name="open_work",
    key="stream_id",
    key_kind=Kind.TEXT,
    key_source=StreamId(),
    creates={**dict.fromkeys(OPENS), ScheduleCreated: Equals("status", int(ScheduleStatus.ENABLED))},
    removes=dict.fromkeys(
        (
            TaskSucceeded,
            TaskFailed,
            TaskCancelled,
            TaskDeleted,
            ScheduleDisabled,
            ScheduleExpired,
            ScheduleSuspended,
            ScheduleDeleted,
            DaemonGaveUp,
            DaemonStopped,
            BackfillFinished,
            AgentLost,
            AgentRemoved,
            ServerStopped,
            ServerLost,
            ServerRemoved,
            FlowFinished,
        )
    ),
    items=(
        Column("category", Kind.TEXT, dict.fromkeys(OPENS, Category())),
        Born("opened_at"),
    ),
    indexes=("category, opened_at, stream_id",),
)
