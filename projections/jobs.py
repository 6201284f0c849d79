"""`sched_job`: one row per job that is not deleted."""

from __future__ import annotations

from hetuflow.domain.enums import JobStatus
from hetuflow.domain.events import JobCreated, JobDeleted, JobDisabled, JobEnabled, JobUpdated
from projections.definition import (
    Born,
    Column,
    Constant,
    Field,
    Kind,
    Table,
    Touched,
    TouchedVersion,
    same,
)

JOBS = Table(
    name="sched_job",
    key="id",
    key_kind=Kind.UUID,
    key_source=Field("job_id"),
    creates={JobCreated: None},
    removes={JobDeleted: None},
    items=(
        Column("namespace_id", Kind.TEXT, same("namespace_id", JobCreated, JobUpdated)),
        Column("name", Kind.TEXT, same("name", JobCreated, JobUpdated)),
        Column("description", Kind.TEXT, same("description", JobCreated, JobUpdated)),
        Column("environment", Kind.JSON, same("environment", JobCreated, JobUpdated)),
        Column("config", Kind.JSON, same("config", JobCreated, JobUpdated)),
        Column(
            "status",
            Kind.INT,
            {
                JobCreated: Field("status"),
                JobEnabled: Constant(int(JobStatus.ENABLED)),
                JobDisabled: Field("status"),
            },
        ),
        Column("status_note", Kind.TEXT, same("note", JobEnabled, JobDisabled)),
        Column("agent_id", Kind.TEXT, same("agent_id", JobCreated, JobUpdated)),
        Column("upstream", Kind.JSON, same("upstream", JobCreated, JobUpdated)),
        Column("created_by", Kind.INT, same("created_by", JobCreated, default=1)),
        Column("updated_by", Kind.INT, same("updated_by", JobUpdated, JobEnabled, JobDisabled, default=1)),
        Born("created_at"),
        Touched("updated_at"),
        TouchedVersion("version"),
    ),
    indexes=("created_at, id", "name, id", "USING gin (upstream jsonb_path_ops)"),
)
