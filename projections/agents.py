"""`sched_agent`: one row per agent that is not removed; its statistics come from the tasks' events.

What a task does to the statistics is no change of the agent: `updated_at` and `version` are those of its own stream.
A run counts when its process has started, so running = total - success - failure. What an agent that was removed has
left running ends later, in the row of the same id that registered meanwhile: that registration says how much it is.
"""

from __future__ import annotations

from hetuflow.domain.enums import AgentStatus
from hetuflow.domain.events import (
    AgentConnected,
    AgentCreated,
    AgentDisconnected,
    AgentDrained,
    AgentLost,
    AgentRegistered,
    AgentRemoved,
    AgentUndrained,
    AgentUpdated,
    InstanceCancelled,
    InstanceFailed,
    InstanceStarted,
    InstanceSucceeded,
    TaskDispatched,
    TaskRequeued,
)
from projections.definition import (
    BIRTH,
    Add,
    Born,
    Column,
    Composite,
    Constant,
    Counter,
    Field,
    Kind,
    Mean,
    NotNull,
    ObjectOf,
    SecondsAsMillis,
    Streak,
    Table,
    TimeAsMillis,
    Touched,
    TouchedVersion,
    When,
    always,
    same,
)

STARTED = NotNull("started_at")
ONE_RUN_MORE = Add(1, STARTED)
ITS_DURATION = Add(SecondsAsMillis("duration_seconds"), STARTED)
ENDS = (InstanceSucceeded, InstanceFailed, InstanceCancelled)

CAPABILITIES = Composite(
    "capabilities",
    (
        Column(
            "max_concurrent_tasks",
            Kind.INT,
            same("max_concurrent_tasks", AgentCreated, AgentRegistered, AgentConnected, AgentUpdated, default=0),
        ),
        Column(
            "labels",
            Kind.JSON,
            {
                AgentCreated: Field("labels", {}),
                **same("effective_labels", AgentRegistered, AgentConnected, AgentUpdated, default={}),
            },
        ),
        Column(
            "metadata",
            Kind.JSON,
            {
                AgentCreated: Field("metadata", {}),
                **same("effective_metadata", AgentRegistered, AgentUpdated, default={}),
            },
        ),
    ),
)

STATISTICS = Composite(
    "statistics",
    (
        Counter("success_tasks", {InstanceSucceeded: ONE_RUN_MORE}),
        Counter("failure_tasks", {InstanceFailed: ONE_RUN_MORE, InstanceCancelled: ONE_RUN_MORE}),
        Counter("total_tasks", {InstanceStarted: Add(1), AgentRegistered: Add(Field("started_instances", 0))}),
        Counter("total_response_ms", dict.fromkeys(ENDS, ITS_DURATION)),
        Mean("avg_response_ms", "total_response_ms", ("success_tasks", "failure_tasks")),
        Column(
            "last_failure_ms",
            Kind.BIGINT,
            {
                InstanceFailed: When(STARTED, TimeAsMillis("completed_at")),
                InstanceCancelled: When(STARTED, TimeAsMillis("completed_at")),
            },
            initial=0,
        ),
        Streak(
            "consecutive_failures",
            grows={InstanceFailed: STARTED, InstanceCancelled: STARTED},
            resets={InstanceSucceeded: None},
        ),
    ),
)

AGENTS = Table(
    name="sched_agent",
    key="id",
    key_kind=Kind.TEXT,
    key_source=Field("agent_id"),
    creates={AgentCreated: None, AgentRegistered: None},
    removes={AgentRemoved: None},
    silent=(TaskDispatched, TaskRequeued, InstanceStarted, *ENDS),
    items=(
        Column("name", Kind.TEXT, same("name", AgentCreated, AgentRegistered, AgentUpdated)),
        Column("namespace_id", Kind.TEXT, same("namespace_id", AgentCreated, AgentUpdated), initial="default"),
        Column("description", Kind.TEXT, same("description", AgentCreated, AgentUpdated)),
        Column("address", Kind.TEXT, same("address", AgentCreated, AgentConnected, AgentUpdated), initial=""),
        Column(
            "status",
            Kind.INT,
            {
                AgentConnected: Constant(int(AgentStatus.ONLINE)),
                **always(int(AgentStatus.OFFLINE), AgentDisconnected, AgentLost),
            },
            initial=int(AgentStatus.OFFLINE),
        ),
        CAPABILITIES,
        Column("reported_labels", Kind.JSON, same("reported_labels", AgentRegistered, default={}), initial={}),
        Column("protected_labels", Kind.JSON, same("protected_labels", AgentRegistered, default=[]), initial=[]),
        Column("config", Kind.JSON, same("config", AgentCreated, AgentUpdated)),
        STATISTICS,
        Counter(
            "running_instances",
            {
                TaskDispatched: Add(1),
                **dict.fromkeys((TaskRequeued, *ENDS), Add(-1)),
                AgentRegistered: Add(Field("running_instances", 0)),
            },
            Kind.INT,
        ),
        Column("draining", Kind.BOOL, {AgentDrained: Constant(True), AgentUndrained: Constant(False)}, initial=False),
        Column(
            "drain",
            Kind.JSON,
            {
                AgentDrained: ObjectOf({"since": Field("drained_at"), "reason": Field("reason")}),
                AgentUndrained: Constant(None),
            },
        ),
        Column(
            "last_heartbeat_at",
            Kind.TIME,
            {AgentConnected: Field("connected_at"), AgentDisconnected: Field("disconnected_at")},
            initial=BIRTH,
        ),
        Born("created_at"),
        Touched("updated_at"),
        TouchedVersion("version"),
    ),
    indexes=("created_at, id",),
)
