"""Random lives of a daemon against an outside model, which knows its tasks and reads its events only.

Whatever is told, in whatever order, twice or not at all until later: never two open tasks in a seat, never more than
were ever wanted, no start before its pause is over, and in the end what should run does, in the newest version.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from attrs import define
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hetuflow.domain.commands import (
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    SeatTask,
    TendDaemon,
    UpdateSchedule,
)
from hetuflow.domain.daemon import made_of
from hetuflow.domain.daemon_rules import DaemonRules
from hetuflow.domain.decider import Keep
from hetuflow.domain.enums import JobStatus, ScheduleStatus
from hetuflow.domain.events import (
    DaemonGaveUp,
    SeatEnded,
    SeatReady,
    SeatRunning,
    SeatsStopping,
    SeatStarted,
    TaskCreated,
)
from hetuflow.domain.schedule import SCHEDULE
from tests.domain.test_daemon import a_daemon
from tests.support.given import NOW, Given, given, later
from tests.support.tasks import a_job

ENDS = ["succeeded", "exit_code", "signal", "timeout", "lost", "cancelled"]
SECOND = timedelta(seconds=1)


@define
class Task:
    """A task as the rest of the world has it."""

    seat: int
    made_of: str
    made_at: datetime
    running_at: datetime | None = None
    ended_at: datetime | None = None
    how: str = ""

    def told(self, task_id: str) -> SeatTask:
        if self.ended_at is None:
            return SeatTask(task_id=task_id, is_running=self.running_at is not None, agent_id="agent-1")
        outcome = self.how if self.how in ("succeeded", "cancelled") else "failed"
        lived = None if self.running_at is None else (self.ended_at - self.running_at).total_seconds()
        return SeatTask(
            task_id=task_id,
            ended_at=self.ended_at,
            outcome=outcome,
            reason=self.how if outcome == "failed" else None,
            lived_seconds=lived,
        )


class DaemonMachine(RuleBasedStateMachine):
    @initialize(
        instances=st.integers(0, 4),
        limit=st.sampled_from([None, None, 2, 5]),
        ready_after=st.sampled_from([0, 5]),
        max_unavailable=st.integers(1, 3),
    )
    def create(self, instances: int, limit: int | None, ready_after: int, max_unavailable: int) -> None:
        self.job = a_job()
        self.members: dict[str, Any] = {
            "instances": instances,
            "backoff_initial_seconds": 3,
            "backoff_factor": 2,
            "backoff_max_seconds": 20,
            "healthy_after_seconds": 30,
            "restart_limit": limit,
            "restart_window_seconds": 60,
            "ready_after_seconds": ready_after,
            "max_unavailable": max_unavailable,
        }
        self.most_wanted = instances
        self.tasks: dict[str, Task] = {}
        self.counted: list[datetime] = []
        self.at: Given = given(SCHEDULE)
        self.at = self.at.when(a_daemon(daemon=self.members)).next()

    # --- what the world does -----------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1, 3, 10, 40]))
    def time_passes(self, seconds: float) -> None:
        self.at = self.at.after(seconds)

    @rule(data=st.data())
    def a_process_starts(self, data: st.DataObject) -> None:
        waiting = [task for task in self.tasks.values() if task.running_at is None and task.ended_at is None]
        if waiting:
            data.draw(st.sampled_from(waiting)).running_at = self.at.now

    @rule(data=st.data(), how=st.sampled_from(ENDS))
    def a_task_ends(self, data: st.DataObject, how: str) -> None:
        open_ = [task for task in self.tasks.values() if task.ended_at is None]
        if open_:
            task = data.draw(st.sampled_from(open_))
            task.ended_at, task.how = self.at.now, how

    @rule(data=st.data())
    def a_stop_is_obeyed(self, data: st.DataObject) -> None:
        wished = sorted(self._cancels())
        if wished:
            task = self.tasks[data.draw(st.sampled_from(wished))]
            if task.ended_at is None:
                task.ended_at, task.how = self.at.now, "cancelled"

    @rule(version=st.integers(1, 4))
    def the_job_is_edited(self, version: int) -> None:
        self.job = a_job(environment={"VERSION": str(version)}, version=self.job.version + 1, status=self.job.status)

    @rule(status=st.sampled_from([JobStatus.ENABLED, JobStatus.DISABLED]))
    def the_job_is_switched(self, status: JobStatus) -> None:
        self.job = a_job(environment=self.job.environment, version=self.job.version + 1, status=int(status))

    # --- what users do -----------------------------------------------------------------------------------------------

    @rule(instances=st.integers(0, 6))
    def scale(self, instances: int) -> None:
        self.members = {**self.members, "instances": instances}
        self.most_wanted = max(self.most_wanted, instances)
        self._do(UpdateSchedule(changes={"daemon": self.members}))

    @rule(value=st.integers(0, 2))
    def edit_parameters(self, value: int) -> None:
        self._do(UpdateSchedule(changes={"parameters": {"value": value}}))

    @rule()
    def disable(self) -> None:
        self._do(DisableSchedule())

    @rule()
    def enable(self) -> None:
        if self.at.state.status is not ScheduleStatus.ENABLED:
            self.counted = []
        self._do(EnableSchedule())

    # --- what the server does ----------------------------------------------------------------------------------------

    @rule(data=st.data())
    def tend_with_some_news(self, data: st.DataObject) -> None:
        known = sorted(self._wished())
        told = data.draw(st.lists(st.sampled_from(known), unique=True)) if known else []
        self._tend(told)

    @rule()
    def tend_with_all_news(self) -> None:
        """As after a start: every task is looked at."""
        self._tend(sorted(self._wished()))
        if self.at.state.is_enabled and self.job.status == JobStatus.ENABLED:
            unwanted = [task for task in self._open() if task.seat >= self.members["instances"]]
            assert all(self._id(task) in self._cancels() for task in unwanted)

    def _tend(self, told: list[str]) -> None:
        tasks = [self.tasks[task_id].told(task_id) for task_id in told]
        self._do(TendDaemon(job=self.job, tasks=tasks))

    def _do(self, command: Any) -> None:
        before = self.at.state
        outcome = self.at.when(command)
        assert outcome.rejected is None
        for event in outcome.decision.events:
            self._check(event, before)
        for address, (created, *rest) in outcome.decision.opened.items():
            assert isinstance(created, TaskCreated) and not rest
            assert address.id == created.task_id and self.tasks[address.id].ended_at is None
        assert len(outcome.decision.opened) == sum(isinstance(e, SeatStarted) for e in outcome.decision.events)
        self.at = outcome.next()
        if isinstance(command, TendDaemon):
            told = outcome.when(command)
            assert not told.decision, "told twice is told once"

    def _check(self, event: Any, before: Any) -> None:
        match event:
            case SeatStarted():
                self._check_start(event, before)
                self.tasks[event.task_id] = Task(event.seat, event.made_of, self.at.now)
            case SeatEnded():
                task = self.tasks[event.task_id]
                assert task.ended_at == event.ended_at
                if event.is_counted:
                    self.counted.append(event.ended_at)
            case SeatRunning() | SeatReady():
                assert self.tasks[event.task_id].running_at is not None
            case SeatsStopping():
                assert all(self.tasks[task_id].seat in event.seats for task_id in event.task_ids)
            case DaemonGaveUp():
                window = timedelta(seconds=self.members["restart_window_seconds"])
                last = self.counted[-1]
                assert sum(last - at < window for at in self.counted) > self.members["restart_limit"]

    def _check_start(self, event: SeatStarted, before: Any) -> None:
        assert event.task_id not in self.tasks, "no task twice"
        assert self.job.status == JobStatus.ENABLED and event.seat < self.members["instances"]
        past = [task for task in self.tasks.values() if task.seat == event.seat]
        assert all(task.ended_at is not None for task in past), "one task in a seat"
        if event.why == "restarted":
            assert past[-1].ended_at is not None
            assert self.at.now - past[-1].ended_at >= 3 * SECOND
        if event.why in ("restarted", "moved"):
            assert self.at.now - past[-1].made_at >= SECOND

    # --- always ------------------------------------------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: hasattr(self, "at"))
    def no_more_than_ever_wanted_are_open(self) -> None:
        assert len(self._open()) <= self.most_wanted

    @invariant()
    @precondition(lambda self: hasattr(self, "at"))
    def every_open_task_is_remembered(self) -> None:
        """The wish names each open task, so that none is forgotten by a restart."""
        assert {self._id(task) for task in self._open()} <= self._wished()

    def _open(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.ended_at is None]

    def _id(self, task: Task) -> str:
        return next(task_id for task_id, each in self.tasks.items() if each is task)

    def _wish(self) -> Keep | None:
        found = [intent for intent in SCHEDULE.intents(self.at.state) if isinstance(intent, Keep)]
        return found[0] if found else None

    def _wished(self) -> frozenset[str]:
        wish = self._wish()
        return frozenset() if wish is None else wish.task_ids

    def _cancels(self) -> frozenset[str]:
        wish = self._wish()
        return frozenset() if wish is None else wish.cancels

    def teardown(self) -> None:
        """In a world in which programs run and stops are obeyed, it comes to what it should be, and rests there."""
        if not hasattr(self, "at"):
            return
        for _ in range(25):
            for task_id in self._cancels():
                task = self.tasks[task_id]
                if task.ended_at is None:
                    task.ended_at, task.how = self.at.now, "cancelled"
            for task in self._open():
                task.running_at = task.running_at or self.at.now
            self.tend_with_all_news()
            self.at = self.at.after(21)
        wanted = self.members["instances"] if self.at.state.is_enabled and self.job.status == 100 else 0
        assert len(self._open()) == wanted
        assert {task.made_of for task in self._open()} <= {made_of(self.job, self.at.state)}
        self._do(DeleteSchedule())
        assert self._wish() is None


def test_the_pauses_of_the_machine_are_those_of_the_rules() -> None:
    rules = DaemonRules.of({"backoff_initial_seconds": 3, "backoff_factor": 2, "backoff_max_seconds": 20})
    assert [rules.backoff_seconds(n, 60) for n in range(1, 6)] == [3, 6, 12, 20, 20]
    assert later(3) - NOW == 3 * SECOND


TestDaemonMachine = DaemonMachine.TestCase
TestDaemonMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
