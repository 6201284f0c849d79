"""Random lives of a task against an outside observer that reads events only: T1, T2, T3, T4, T6 of the promises.

The observer does not use the transition table: it has the contract's own adjacency, counts starts, and keeps the set of
live instances from the events it saw.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hetuflow.domain.commands import (
    CancelTask,
    DeleteTask,
    DispatchTask,
    LoseInstance,
    Report,
    ReportEnded,
    ReportStarted,
    RequeueInstance,
    RetryTask,
    UpdateTask,
)
from hetuflow.domain.decider import Occupy, Offer, Placement, Send, Stop
from hetuflow.domain.enums import TaskStatus
from hetuflow.domain.events import (
    InstanceCancelled,
    InstanceFailed,
    InstanceReportRefused,
    InstanceStarted,
    InstanceSucceeded,
    TaskCancelRequested,
    TaskDispatched,
    TaskReopened,
    TaskRequeued,
)
from hetuflow.domain.task import TASK
from tests.support.given import Given, Outcome, given
from tests.support.stored import stored
from tests.support.tasks import PLACEMENT, TASK_ID, a_create, a_job

MAX_RETRIES = 2
PLACEMENTS = [Placement(agent_id=f"agent-{n}", session=f"s{n}", server_id="server-1") for n in (1, 2)]
REASONS = ["exit_code", "signal", "timeout", "lost", "start_error", "rejected", "cancelled"]

S = TaskStatus
MAY_FOLLOW: dict[TaskStatus | None, set[TaskStatus]] = {
    None: {S.PENDING},
    S.PENDING: {S.LOCKED, S.CANCELLED},
    S.LOCKED: {S.DISPATCHED, S.CANCELLED},
    S.DISPATCHED: {S.RUNNING, S.PENDING, S.WAITING_RETRY, S.FAILED, S.CANCELLED},
    S.RUNNING: {S.SUCCEEDED, S.WAITING_RETRY, S.FAILED, S.CANCELLED},
    S.WAITING_RETRY: {S.LOCKED, S.PENDING, S.CANCELLED},
    S.FAILED: {S.PENDING},
    S.CANCELLED: {S.PENDING},
    S.SUCCEEDED: set(),
}


class Observer:
    """What can be said of a task from its events alone."""

    def __init__(self) -> None:
        self.status: TaskStatus | None = None
        self.live: dict[str, tuple[str, int]] = {}
        self.epoch = 0
        self.starts = 0
        self.cancel_asked = False

    def sees(self, event: Any, status_after: TaskStatus) -> None:
        if status_after is not self.status:
            assert status_after in MAY_FOLLOW[self.status], f"{self.status} -> {status_after} by {event}"
            if self.status is not None and self.status.is_terminal:
                assert type(event) is TaskReopened
        match event:
            case TaskDispatched():
                assert not self.live, "two live instances"
                assert event.epoch > self.epoch
                self.epoch = event.epoch
                self.live[event.instance_id] = (event.agent_id, event.epoch)
            case TaskRequeued() | InstanceSucceeded() | InstanceFailed() | InstanceCancelled():
                self.live.pop(event.instance_id, None)
            case InstanceStarted():
                assert self.live[event.instance_id] == (event.agent_id, event.epoch), "an old epoch is shown as current"
                self.starts += 1
            case TaskReopened() if self.status is not S.WAITING_RETRY:
                self.starts, self.cancel_asked = 0, False
            case TaskCancelRequested():
                self.cancel_asked = True
        if self.cancel_asked:
            assert status_after is not S.WAITING_RETRY, "retried after a cancel"
        assert self.starts <= 1 + MAX_RETRIES
        self.status = status_after


class TaskMachine(RuleBasedStateMachine):
    @initialize(placed=st.booleans())
    def create(self, placed: bool) -> None:
        self.observer = Observer()
        self.at: Given = given(TASK)
        self.said: list[ReportStarted | ReportEnded] = []
        self.events: list[Any] = []
        job = a_job({"max_retries": MAX_RETRIES})
        self.do(a_create(job, placement=PLACEMENT if placed else None))

    def do(self, command: Any) -> Outcome:
        outcome = self.at.when(command)
        state = self.at.state
        for event in outcome.decision.events:
            state = TASK.evolve(state, event)
            self.observer.sees(event, state.status)
        assert state == outcome.state
        self.events += outcome.decision.events
        self.at = outcome.next()
        return outcome

    @property
    def state(self) -> Any:
        return self.at.state

    # --- what happens ---

    @rule(seconds=st.sampled_from([0, 1, 29, 31, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.at = self.at.after(seconds)

    @rule(placement=st.sampled_from(PLACEMENTS), stale=st.booleans())
    def dispatch(self, placement: Placement, stale: bool) -> None:
        instance_id = self.events[0].instance_id if stale else self.state.instance.instance_id
        self.do(DispatchTask(instance_id=instance_id, placement=placement))

    @rule(epoch_back=st.integers(0, 2), agent=st.sampled_from([None, "agent-1", "agent-2"]))
    def report_start(self, epoch_back: int, agent: str | None) -> None:
        self.report(
            ReportStarted(
                instance_id=self.state.instance.instance_id,
                agent_id=agent or self.state.instance.agent_id or "agent-1",
                epoch=self.state.instance.epoch - epoch_back,
                started_at=self.at.now,
            )
        )

    @rule(
        reason=st.sampled_from([None, *REASONS]),
        epoch_back=st.sampled_from([0, 0, 0, 1]),
        agent=st.sampled_from([None, None, "agent-1", "agent-2"]),
    )
    def report_end(self, reason: str | None, epoch_back: int, agent: str | None) -> None:
        self.report(
            ReportEnded(
                instance_id=self.state.instance.instance_id,
                agent_id=agent or self.state.instance.agent_id or "agent-1",
                epoch=self.state.instance.epoch - epoch_back,
                reason=reason,
                started_at=self.state.instance.started_at,
                completed_at=self.at.now,
                duration_seconds=1.5,
                exit_code=None if reason else 0,
            )
        )

    def report(self, said: ReportStarted | ReportEnded) -> None:
        before, occupied = self.state, TASK.intents(self.state)
        outcome = self.do(Report(reports=(said,)))
        self.said.append(said)
        if [type(event) for event in outcome.decision.events] == [InstanceReportRefused]:
            assert (self.state.status, self.state.instance) == (before.status, before.instance)
            assert outcome.intents == occupied
        outcome.when(said).then_nothing()

    @precondition(lambda self: bool(self.said))
    @rule(data=st.data())
    def an_old_report_comes_again(self, data: st.DataObject) -> None:
        said = data.draw(st.sampled_from(self.said[-8:]))
        before = self.state
        self.do(said)
        if said.epoch < self.state.instance.epoch or said.instance_id != self.state.instance.instance_id:
            assert (self.state.status, self.state.instance) == (before.status, before.instance)

    @rule(epoch_back=st.integers(0, 1))
    def requeue(self, epoch_back: int) -> None:
        instance = self.state.instance
        self.do(RequeueInstance(instance_id=instance.instance_id, epoch=instance.epoch - epoch_back, reason="unknown"))

    @rule(epoch_back=st.integers(0, 1))
    def lose(self, epoch_back: int) -> None:
        instance = self.state.instance
        self.do(LoseInstance(instance_id=instance.instance_id, epoch=instance.epoch - epoch_back, message="silence"))

    @rule()
    def cancel(self) -> None:
        was_terminal = self.state.is_terminal and self.state.exists
        outcome = self.do(CancelTask())
        if was_terminal:
            outcome.then_rejected("already_terminal")

    @rule()
    def retry(self) -> None:
        self.do(RetryTask())

    @rule(name=st.sampled_from(["a", "b"]))
    def rename(self, name: str) -> None:
        self.do(UpdateTask(changes={"name": name}))

    @rule(cascade=st.booleans())
    def delete(self, cascade: bool) -> None:
        was_terminal = self.state.is_terminal
        outcome = self.do(DeleteTask(cascade=cascade))
        if outcome.rejected is None and not was_terminal:
            assert cascade

    # --- what always holds ---

    @invariant()
    def slots_held_are_live_instances(self) -> None:
        held = {(i.instance_id, (i.agent_id, i.epoch)) for i in TASK.intents(self.state) if type(i) is Occupy}
        assert held == set(self.observer.live.items())

    @invariant()
    def open_work_is_wanted_and_ended_work_is_not(self) -> None:
        kinds = {type(intent) for intent in TASK.intents(self.state)}
        status = self.state.status
        if status.is_terminal:
            assert kinds == set()
        elif status in (S.PENDING, S.WAITING_RETRY):
            assert kinds == {Offer}
        else:
            assert Occupy in kinds and Offer not in kinds
            assert (Send in kinds) is (status is S.DISPATCHED)
            assert (Stop in kinds) is self.observer.cancel_asked

    @invariant()
    def a_deleted_task_has_ended(self) -> None:
        assert not self.state.is_deleted or (self.state.is_terminal and not self.observer.live)

    @invariant()
    def an_open_task_has_exactly_one_open_instance(self) -> None:
        assert (self.state.open_instance is None) is self.state.is_terminal

    def teardown(self) -> None:
        if self.events:
            folded = given(TASK, *stored(self.events)).state
            assert folded == self.state, "what is stored folds to another state"
            assert TASK.intents(folded) == TASK.intents(self.state)
            assert folded.spec.task_id == TASK_ID and folded.version == len(self.events)


TestTaskMachine = TaskMachine.TestCase
TestTaskMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_the_observer_notices_a_forbidden_edge() -> None:
    observer = Observer()
    observer.status = S.SUCCEEDED
    try:
        observer.sees(TaskReopened, S.PENDING)
    except AssertionError:
        return
    raise RuntimeError("a success was reopened unnoticed")
