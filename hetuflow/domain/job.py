"""The job: what to run and how. Tasks copy it, so editing one never touches a task that exists."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import evolve as changed
from attrs import frozen

from hetuflow.domain.commands import (
    CreateJob,
    DeleteJob,
    DisableJob,
    EnableJob,
    JobSnapshot,
    SealJob,
    UnsealJob,
    UpdateJob,
)
from hetuflow.domain.config import checked, effective
from hetuflow.domain.decider import NOTHING, Address, Decision
from hetuflow.domain.enums import JobStatus
from hetuflow.domain.events import (
    Event,
    JobCreated,
    JobDeleted,
    JobDisabled,
    JobEnabled,
    JobEvent,
    JobSealed,
    JobUnsealed,
    JobUpdated,
)
from hetuflow.domain.flow_graph import upstream_ids
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.rendering import checked_templates
from hetuflow.domain.schedule import opening as schedule_opening
from hetuflow.domain.switch_notes import checked_note
from hetuflow.domain.table_decider import TableDecider
from hetuflow.domain.transition import IllegalTransition, changed_members

JSON = Mapping[str, Any]

SEAL_SECONDS = 10
"""How long a seal holds at most: five times what the wait for the tables may take (`BEHIND_SECONDS_MAX`)."""

EDITABLE = ("namespace_id", "name", "description", "environment", "config", "agent_id", "upstream")


@frozen(slots=True)
class JobState:
    """A job. `status` None: there is no such job. `enabled_at`: nominal times at or before it do not fire."""

    job_id: str = ""
    namespace_id: str = ""
    name: str = ""
    description: str | None = None
    environment: JSON | None = None
    config: JSON | None = None
    agent_id: str | None = None
    status: JobStatus | None = None
    enabled_at: datetime | None = None
    is_deleted: bool = False
    status_note: str | None = None
    sealed_at: datetime | None = None
    upstream: JSON | None = None

    @property
    def sealed_until_at(self) -> datetime | None:
        """No task is made of it before."""
        return None if self.sealed_at is None else self.sealed_at + timedelta(seconds=SEAL_SECONDS)

    @property
    def exists(self) -> bool:
        return self.status is not None and not self.is_deleted


def snapshot(state: JobState, version: int) -> JobSnapshot:
    """Return the job as of this version of its stream, to be copied into tasks.

    Raises:
      Rejected: `not_found`, there was never such a job. A deleted one is returned, saying so.
    """
    if state.status is None or state.config is None:
        raise Rejected("not_found", "there is no such job", {"kind": "job"})
    return JobSnapshot(
        job_id=state.job_id,
        version=version,
        namespace_id=state.namespace_id,
        name=state.name,
        environment=state.environment,
        config=state.config,
        agent_id=state.agent_id,
        status=int(state.status),
        enabled_at=state.enabled_at,
        deleted=state.is_deleted,
        sealed_until_at=state.sealed_until_at,
        upstream=state.upstream,
    )


# --- decide --------------------------------------------------------------------------------------------------------


def _create(command: CreateJob, state: JobState, now: datetime) -> Decision:
    if state.status is not None:
        raise Rejected("already_exists", f"job {command.job_id} exists", {"kind": "job", "id": command.job_id})
    created = JobCreated(
        job_id=command.job_id,
        namespace_id=command.namespace_id,
        name=command.name,
        description=command.description,
        environment=command.environment,
        config=checked_templates(effective(checked(command.config))),
        agent_id=command.agent_id or None,
        status=_status(command.status),
        created_at=now,
        upstream=command.upstream,
    )
    _refuse_itself(command.job_id, command.upstream)
    opened: dict[Address, list[Event]] = {}
    if command.schedule is not None:
        if command.schedule.job_id != command.job_id:
            raise Rejected("invalid", "the schedule names another job", {"path": "cron_expr"})
        opened[Address("schedule", command.schedule.schedule_id)] = [*schedule_opening(command.schedule, now)]
    return Decision([created], opened, tuple(command.guards))


def _update(command: UpdateJob, state: JobState, now: datetime) -> Decision:
    _existing(state)
    wanted = dict(command.changes)
    status = wanted.pop("status", None)
    if (command_name := wanted.pop("command", None)) is not None:
        wanted["config"] = {**(state.config or {}), "cmd": command_name}
    if wanted.get("config") is not None:
        wanted["config"] = checked_templates(effective(checked(wanted["config"])))
    if wanted.get("agent_id") == "":
        wanted["agent_id"] = None
    _refuse_itself(state.job_id, wanted.get("upstream"))
    events: list[JobEvent] = []
    names = changed_members(state, wanted, EDITABLE)
    if names:
        members = {name: wanted[name] if name in names else getattr(state, name) for name in EDITABLE}
        events.append(JobUpdated(job_id=state.job_id, changed=names, **members))
    if status is not None:
        events += _switched(state, _status(status), now)
    return Decision(events, guards=tuple(command.guards)) if events else NOTHING


def _refuse_itself(job_id: str, upstream: JSON | None) -> None:
    """The shortest circle. Longer ones are found by who looks at the other jobs, and kept out by the guards."""
    if job_id in upstream_ids(upstream):
        raise Rejected("invalid", "a job cannot follow itself", {"path": "upstream"})


def _enable(command: EnableJob, state: JobState, now: datetime) -> Decision:
    return _switch(state, JobStatus.ENABLED, now, command.note)


def _disable(command: DisableJob, state: JobState, now: datetime) -> Decision:
    return _switch(state, JobStatus.DISABLED, now, command.note)


def _delete(command: DeleteJob, state: JobState, now: datetime) -> Decision:
    """That it has no open tasks is the caller's to see to: only the tables know them. A seal that it was found under
    must still hold.

    Raises:
      Rejected: `version_conflict`, the seal has lapsed or was broken.
    """
    _existing(state)
    until = state.sealed_until_at
    if command.sealed_at is not None and (command.sealed_at != state.sealed_at or until is None or now >= until):
        raise Rejected("version_conflict", "it took too long to look for open tasks; try again", {"id": state.job_id})
    return Decision([JobDeleted(job_id=state.job_id)])


def _seal(command: SealJob, state: JobState, now: datetime) -> Decision:
    _existing(state)
    return Decision([JobSealed(job_id=state.job_id, sealed_at=now)])


def _unseal(command: UnsealJob, state: JobState, now: datetime) -> Decision:
    _existing(state)
    return NOTHING if state.sealed_at is None else Decision([JobUnsealed(job_id=state.job_id)])


def _switch(state: JobState, status: JobStatus, now: datetime, note: str | None) -> Decision:
    _existing(state)
    events = _switched(state, status, now, note)
    return Decision(events) if events else NOTHING


def _switched(state: JobState, status: JobStatus, now: datetime, note: str | None = None) -> list[JobEvent]:
    """Said again it changes nothing, except for another note of what is switched off."""
    note = checked_note(note)
    if status is state.status and (note in (None, state.status_note) or status is JobStatus.ENABLED):
        return []
    if status is JobStatus.ENABLED:
        return [JobEnabled(job_id=state.job_id, enabled_at=now, note=note)]
    return [JobDisabled(job_id=state.job_id, status=status, note=note)]


def _status(code: int) -> JobStatus:
    try:
        return JobStatus(code)
    except ValueError:
        raise Rejected("invalid", f"{code} is not a job status", {"path": "status"}) from None


def _existing(state: JobState) -> None:
    if not state.exists:
        raise Rejected("not_found", "there is no such job", {"kind": "job", "id": state.job_id or None})


# --- evolve --------------------------------------------------------------------------------------------------------


def _created(state: JobState, event: JobCreated) -> JobState:
    if state.status is not None:
        raise IllegalTransition("job", state.status, JobCreated)
    status = JobStatus(event.status)
    return JobState(
        job_id=event.job_id,
        namespace_id=event.namespace_id,
        name=event.name,
        description=event.description,
        environment=event.environment,
        config=event.config,
        agent_id=event.agent_id,
        upstream=event.upstream,
        status=status,
        enabled_at=event.created_at if status is JobStatus.ENABLED else None,
    )


def _updated(state: JobState, event: JobUpdated) -> JobState:
    _check(state, event)
    return changed(state, **{name: getattr(event, name) for name in EDITABLE})


def _enabled(state: JobState, event: JobEnabled) -> JobState:
    _check(state, event)
    return changed(state, status=JobStatus.ENABLED, enabled_at=event.enabled_at, status_note=event.note)


def _disabled(state: JobState, event: JobDisabled) -> JobState:
    _check(state, event)
    return changed(state, status=JobStatus(event.status), status_note=event.note)


def _deleted(state: JobState, event: JobDeleted) -> JobState:
    _check(state, event)
    return changed(state, is_deleted=True)


def _sealed(state: JobState, event: JobSealed) -> JobState:
    _check(state, event)
    return changed(state, sealed_at=event.sealed_at)


def _unsealed(state: JobState, event: JobUnsealed) -> JobState:
    _check(state, event)
    return changed(state, sealed_at=None)


def _check(state: JobState, event: JobEvent) -> None:
    if not state.exists:
        raise IllegalTransition("job", "DELETED" if state.is_deleted else None, type(event))


INITIAL = JobState()

JOB: TableDecider[JobState] = TableDecider(
    "job",
    INITIAL,
    {
        CreateJob: _create,
        UpdateJob: _update,
        EnableJob: _enable,
        DisableJob: _disable,
        SealJob: _seal,
        UnsealJob: _unseal,
        DeleteJob: _delete,
    },
    {
        JobCreated: _created,
        JobUpdated: _updated,
        JobEnabled: _enabled,
        JobDisabled: _disabled,
        JobSealed: _sealed,
        JobUnsealed: _unsealed,
        JobDeleted: _deleted,
    },
)
