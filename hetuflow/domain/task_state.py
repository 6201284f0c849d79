"""What is known of a task: its definition, its newest instance, and what is needed to recognise a repeated report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from hetuflow.domain.enums import InstanceStatus, TaskStatus
from hetuflow.domain.events import InstanceReported, TaskCreated

JSON = Mapping[str, Any]

REMEMBERED_MAX = 16
"""Ended instances and refused reports kept, to tell a repeat from news. An agent resends what was not acknowledged
within one session, so a handful is enough; what is forgotten is refused once more, never obeyed."""


REQUEUE_PAUSE_SECONDS_MAX = 60
"""Longest pause before a run that was taken back again and again is offered once more."""


@frozen(slots=True)
class Instance:
    """One try of the task. `epoch` and `agent_id` are those of its last dispatch: 0 and None before the first.

    `requeues` counts dispatches that came to nothing; `paused_until_at` is when it may be dispatched again because of
    them. `namespace_id` is what its last dispatch counts for, whatever the task is moved to meanwhile.
    """

    instance_id: str
    attempt: int
    status: InstanceStatus = InstanceStatus.PENDING
    agent_id: str | None = None
    session: str | None = None
    epoch: int = 0
    started_at: datetime | None = None
    completed_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    dispatched_at: datetime | None = None
    requeues: int = 0
    paused_until_at: datetime | None = None
    is_external: bool = False
    namespace_id: str | None = None
    reported: InstanceReported | None = None
    """What was said of it over the API, when it is driven from there."""

    @property
    def is_live(self) -> bool:
        """An agent holds it: it occupies a slot."""
        is_running = self.status is InstanceStatus.DISPATCHED or self.status is InstanceStatus.RUNNING
        return is_running and not self.is_external

    @property
    def is_final(self) -> bool:
        return self.status.is_final


@frozen(slots=True)
class CancelRequest:
    """A cancel of a live instance is under way. `then_delete`: the task is deleted when it has ended."""

    requested_at: datetime
    cause: str
    reason: str | None
    by: str
    then_delete: bool


@frozen(slots=True)
class Aside:
    """A record of an execution outside, beside the task's own instance and without effect on it."""

    status: InstanceStatus
    started_at: datetime | None
    agent_id: str | None
    reported: InstanceReported | None = None
    is_deleted: bool = False


NO_ASIDES: Mapping[str, Aside] = {}
NO_ENDS: Mapping[str, int] = {}


@frozen(slots=True)
class TaskState:
    """A task and its instances. `status` None: there is no such task.

    `spec` is the task as created, later edits applied. `version` counts the events of the stream; `lock_version` is the
    version of the last one that changed the task, as clients see it. `waits_for` are the dependencies that have not
    ended, `settled` how those ended that it was told of since it began to wait. `ended_by`: the cause of the cancel that
    ended it. `was_started`: since it was made or reopened, an agent has started it, or may have. `past` are ended instances before the newest, `refused` the digests of refused reports, the last
    `REMEMBERED_MAX` of each. `asides` are the records made over the API, by id.
    """

    spec: TaskCreated | None = None
    status: TaskStatus | None = None
    instance: Instance | None = None
    epoch: int = 0
    retry_count: int = 0
    retry_at: datetime | None = None
    cancel: CancelRequest | None = None
    completed_at: datetime | None = None
    is_deleted: bool = False
    past: tuple[Instance, ...] = ()
    refused: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    settled: Mapping[str, int] = NO_ENDS
    ended_by: str | None = None
    was_started: bool = False
    asides: Mapping[str, Aside] = NO_ASIDES
    version: int = 0
    lock_version: int = 0

    @property
    def exists(self) -> bool:
        return self.status is not None and not self.is_deleted

    @property
    def is_terminal(self) -> bool:
        return self.status is not None and self.status.is_terminal

    @property
    def open_instance(self) -> Instance | None:
        """The one instance that is not final; None when the task is terminal or absent."""
        return self.instance if self.instance is not None and not self.instance.is_final else None

    @property
    def live_instance(self) -> Instance | None:
        """The instance that an agent holds, None when there is none."""
        return self.instance if self.instance is not None and self.instance.is_live else None

    def reported(self, instance_id: str) -> InstanceReported | None:
        """What was last said over the API of an instance that is driven from there."""
        if (aside := self.asides.get(instance_id)) is not None:
            return aside.reported
        own = (*self.past, *([] if self.instance is None else [self.instance]))
        return next((each.reported for each in own if each.instance_id == instance_id), None)

    @property
    def not_before_at(self) -> datetime:
        """The open instance is not started before this."""
        assert self.spec is not None
        at = self.spec.scheduled_at
        if self.retry_at is not None:
            at = max(at, self.retry_at)
        if self.instance is not None and self.instance.paused_until_at is not None:
            at = max(at, self.instance.paused_until_at)
        return at
