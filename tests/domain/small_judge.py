"""Sees each event that is committed and each process, in order, and holds the promises; reads no state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import define

from hetuflow.domain.decider import Address
from hetuflow.domain.events import (
    AgentConnected,
    AgentDisconnected,
    AgentDrained,
    AgentRegistered,
    AgentRemoved,
    AgentUndrained,
    FlowFinished,
    FlowStarted,
    InstanceCancelled,
    InstanceFailed,
    InstanceStarted,
    InstanceSucceeded,
    InstanceTakenOver,
    JobDeleted,
    JobDisabled,
    JobEnabled,
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleFired,
    ScheduleSkipped,
    ScheduleUpdated,
    TaskCancelled,
    TaskCreated,
    TaskDependencySettled,
    TaskDispatched,
    TaskFailed,
    TaskReopened,
    TaskRequeued,
    TaskSucceeded,
)

MAX_RETRIES = 1
ENDS = {TaskFailed: 90, TaskCancelled: 99, TaskSucceeded: 100}
DECIDED_BY_ONE = (ScheduleFired, ScheduleSkipped, TaskDispatched)
"""What a server decides under its lease."""

TIMES = {"interval_secs", "misfire_policy", "misfire_grace_seconds"}
"""Members of those that are edited here whose edit covers what was due."""

Key = tuple[str, int]
"""Instance and epoch."""


@define(eq=False)
class Times:
    """When an interval schedule is due: at anchor + 1, 2, ... intervals. `after`: at or before it nothing is to be decided."""

    anchor: datetime
    interval: timedelta
    after: datetime
    is_on: bool = True

    @property
    def next(self) -> datetime:
        return self.anchor + self.interval * (max(0, (self.after - self.anchor) // self.interval) + 1)

    def covers(self, first: datetime, last: datetime) -> None:
        """F1, F2, F3: the next one, without a gap, nothing twice, nothing from before it was switched on or edited."""
        assert self.is_on, "F1: a schedule that is switched off decides"
        at = first
        while at <= last:
            assert at == self.next, f"F1: {at} is covered out of its turn, it is that of {self.next}"
            self.after = at
            at += self.interval

    def ends_at(self, asked: datetime) -> None:
        """What was due when it was asked is decided."""
        assert not self.is_on or self.next > asked, f"F1: {self.next} is never decided"


class Judge:
    """Sees what is committed and what runs, in order."""

    def __init__(self) -> None:
        self.job_enabled: dict[str, bool] = defaultdict(lambda: True)
        self.jobs_gone: set[str] = set()
        self.agent_on: dict[str, str] = {}
        self.draining: set[str] = set()
        self.times: dict[str, Times] = {}
        self.versions: dict[str, int] = defaultdict(int)
        """Of the streams of jobs and leases."""
        self.task_of_fire: set[str] = set()
        self.awaited: dict[str, set[str]] = {}
        self.on_failure: dict[str, str] = {}
        self.ended_as: dict[str, set[int]] = defaultdict(set)
        self.is_open: dict[str, bool] = {}
        self.tasks_of_run: dict[str, list[str]] = {}
        self.live: dict[str, tuple[str, Key]] = {}
        self.epoch: dict[str, int] = defaultdict(int)
        self.driven: set[str] = set()
        self.runs: dict[str, int] = defaultdict(int)
        self.starts: dict[str, int] = defaultdict(int)
        self.dispatched: set[Key] = set()

    def sees_decision(self, events: Sequence[Any], lease_version: int | None) -> None:
        """One append. `lease_version`: of the lease under which its server decided, None for who needs none."""
        if any(isinstance(event, DECIDED_BY_ONE) for event in events) and lease_version is not None:
            assert lease_version == self.versions["lease-0"], "decided by a server whose lease another one has taken"

    def sees(self, address: Address, event: Any, asked: datetime) -> None:
        """`asked`: when it was decided, which may be long before it is committed."""
        self.versions[address.stream_id] += 1
        match event:
            case JobDisabled() | JobEnabled():
                self.job_enabled[event.job_id] = type(event) is JobEnabled
            case JobDeleted():
                self.jobs_gone.add(event.job_id)
            case AgentConnected():
                self.agent_on[event.agent_id] = event.session
            case AgentDisconnected():
                assert self.agent_on.pop(event.agent_id) == event.session
            case AgentDrained():
                self.draining.add(event.agent_id)
            case AgentUndrained() | AgentRemoved():
                self.draining.discard(event.agent_id)
            case AgentRegistered() if event.running_instances:
                held = sum(name == event.agent_id for name, _ in self.live.values())
                assert event.running_instances == held, "T6: an agent that was removed left otherwise"
            case ScheduleFired():
                assert self.job_enabled[event.job_id] and event.job_id not in self.jobs_gone, "a switched-off job fires"
                assert event.nominal_at <= asked and event.task_id not in self.task_of_fire
                self.task_of_fire.add(event.task_id)
                self.times[address.id].covers(event.nominal_at, event.nominal_at)
            case FlowStarted():
                self.tasks_of_run[address.id] = [node["task_id"] for node in event.graph["nodes"]]
            case FlowFinished():
                left = [each for each in self.tasks_of_run[address.id] if self.is_open[each]]
                assert not left, "a run of a flow has ended, and not all of its tasks have"
            case _ if address.category == "schedule":
                self._sees_schedule(address.id, event, asked)
            case _ if address.category == "task":
                self._sees_task(address.id, event)

    def _sees_schedule(self, schedule_id: str, event: Any, asked: datetime) -> None:
        if type(event) is ScheduleCreated:
            self.times[schedule_id] = Times(asked, timedelta(seconds=event.interval_secs), asked)
            return
        times = self.times[schedule_id]
        match event:
            case ScheduleSkipped():
                times.covers(event.first_nominal_at, event.last_nominal_at)
            case ScheduleEnabled():
                times.is_on, times.after = True, max(times.after, asked)
            case ScheduleDisabled():
                times.ends_at(asked)
                times.is_on = False
            case ScheduleUpdated() if TIMES & set(event.changed):
                times.ends_at(asked)
                times.after = max(times.after, asked)
                if "interval_secs" in event.changed:
                    times.anchor, times.interval = asked, timedelta(seconds=event.interval_secs)
            case ScheduleDeleted():
                times.is_on = False

    def _sees_task(self, task_id: str, event: Any) -> None:
        match event:
            case TaskCreated():
                assert event.job_id not in self.jobs_gone, "a task of a deleted job was made"
                newest = self.versions[f"job-{event.job_id}"]
                assert event.job_version == newest, "a task is made of a job as it is not any more"
                self.awaited[task_id] = set((event.dependencies or {}).get("task_ids", ()))
                self.on_failure[task_id] = (event.dependencies or {}).get("on_failure", "cancel")
                self.is_open[task_id] = True
            case TaskReopened():
                self.awaited[task_id] = set(event.waits_for)
                if not self.is_open[task_id]:
                    self.starts[task_id] = self.runs[task_id] = 0
                self.is_open[task_id] = True
            case TaskDependencySettled():
                self.awaited[task_id].remove(event.dependency_id)
                assert event.status in self.ended_as[event.dependency_id], "it had never ended so"
            case InstanceTakenOver():
                assert task_id not in self.live, "taken from an agent that holds it"
                self.driven.add(event.instance_id)
                self.awaited[task_id] = set()
            case TaskDispatched():
                assert not self.awaited[task_id], "dispatched while it waits"
                assert task_id not in self.live and event.epoch > self.epoch[task_id], "T2"
                assert event.instance_id not in self.driven, "an agent gets what is driven from outside"
                assert self.agent_on.get(event.agent_id) == event.session, "dispatched to a session that is over"
                assert event.agent_id not in self.draining, "dispatched to an agent that was drained"
                key = (event.instance_id, event.epoch)
                self.live[task_id], self.epoch[task_id] = (event.agent_id, key), event.epoch
                self.dispatched.add(key)
            case InstanceStarted():
                if event.instance_id not in self.driven:
                    assert self.live[task_id][1] == (event.instance_id, event.epoch), "T3"
                self.starts[task_id] += 1
                assert self.starts[task_id] <= 1 + MAX_RETRIES, "T4"
            case TaskRequeued() | InstanceSucceeded() | InstanceFailed() | InstanceCancelled():
                if event.instance_id not in self.driven and task_id in self.live:
                    assert self.live.pop(task_id)[1] == (event.instance_id, event.epoch), "T3"
            case TaskFailed() | TaskCancelled() | TaskSucceeded():
                assert task_id not in self.live, "T2: it has ended and lives"
                self.ended_as[task_id].add(ENDS[type(event)])
                self.is_open[task_id] = False

    def runs_now(self, key: Key, task_id: str, running: Sequence[tuple[Key, str]]) -> None:
        """A process is about to start."""
        assert key in self.dispatched, "a process that was never dispatched"
        assert all(other != task_id for _, other in running), "T2: two processes of a task"
        self.runs[task_id] += 1
        assert self.runs[task_id] <= 1 + MAX_RETRIES, "T4: it ran too often"
