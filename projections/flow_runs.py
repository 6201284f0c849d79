"""`sched_flow_run`: one row per run of a flow."""

from __future__ import annotations

from hetuflow.domain.enums import FlowStatus
from hetuflow.domain.events import FlowCancelRequested, FlowFinished, FlowRetried, FlowStarted
from projections.definition import (
    Born,
    Column,
    Constant,
    Field,
    Kind,
    Table,
    Touched,
    TouchedVersion,
    always,
    same,
)

FLOW_RUNS = Table(
    name="sched_flow_run",
    key="id",
    key_kind=Kind.UUID,
    key_source=Field("flow_run_id"),
    creates={FlowStarted: None},
    removes={},
    items=(
        Column("job_id", Kind.UUID, same("job_id", FlowStarted)),
        Column("name", Kind.TEXT, same("name", FlowStarted)),
        Column("namespace_id", Kind.TEXT, same("namespace_id", FlowStarted)),
        Column(
            "status",
            Kind.INT,
            {
                FlowStarted: Constant(int(FlowStatus.RUNNING)),
                FlowRetried: Constant(int(FlowStatus.RUNNING)),
                FlowFinished: Field("status"),
            },
        ),
        Column("trigger", Kind.TEXT, same("trigger", FlowStarted)),
        Column("schedule_id", Kind.UUID, same("schedule_id", FlowStarted)),
        Column("nominal_at", Kind.TIME, same("nominal_at", FlowStarted)),
        Column("parameters", Kind.JSON, same("parameters", FlowStarted)),
        Column("task_count", Kind.INT, same("task_count", FlowStarted)),
        Column("outcome", Kind.JSON, {FlowFinished: Field("outcome"), **always(None, FlowRetried)}),
        Column(
            "completed_at", Kind.TIME, {FlowFinished: Field("finished_at"), **always(None, FlowStarted, FlowRetried)}
        ),
        Column(
            "cancel_requested_at",
            Kind.TIME,
            {FlowCancelRequested: Field("requested_at"), **always(None, FlowRetried, FlowFinished)},
        ),
        Column("retried_at", Kind.TIME, same("retried_at", FlowRetried)),
        Column("graph", Kind.JSON, same("graph", FlowStarted)),
        Column("created_by", Kind.INT, same("created_by", FlowStarted, default=1)),
        Column("updated_by", Kind.INT, same("updated_by", FlowCancelRequested, FlowRetried, default=1)),
        Born("created_at"),
        Touched("updated_at"),
        TouchedVersion("version"),
    ),
    indexes=(
        "created_at, id",
        "job_id, created_at, id",
        "schedule_id, created_at, id",
        "status, created_at, id",
    ),
)
