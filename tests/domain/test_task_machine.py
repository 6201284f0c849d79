"""Random lives of a task against an outside observer that reads events only: T1, T2, T3, T4, T6 of the promises.

The observer does not use the transition table: it has the contract's own adjacency, counts starts, and keeps the set of
live instances, what is driven from outside, and what is waited for, from the events it saw.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hetuflow.domain.commands import (
    CancelTask,
    CreateInstance,
    CreateTasks,
    DeleteInstance,
    DeleteTask,
    DispatchTask,
    LoseInstance,
    Report,
    ReportEnded,
    ReportStarted,
    RequeueInstance,
    RetryTask,
    SettleDependencies,
    UpdateInstance,
    UpdateTask,
)
from hetuflow.domain.decider import Address, Await, Occupy, Offer, Placement, Send, Stop
from hetuflow.domain.enums import InstanceStatus, TaskStatus
from hetuflow.domain.events import (
    InstanceCancelled,
    InstanceDispatched,
    InstanceFailed,
    InstanceReportRefused,
    InstanceStarted,
    InstanceSucceeded,
    InstanceTakenOver,
    TaskCancelRequested,
    TaskCreated,
    TaskDeleted,
    TaskDependencySettled,
    TaskDispatched,
    TaskReopened,
    TaskRequeued,
    TaskUpdated,
)
from hetuflow.domain.task import TASK
from tests.support.given import Given, Outcome, given
from tests.support.stored import stored
from tests.support.tasks import PLACEMENT, TASK_ID, a_create, a_job

MAX_RETRIES = 2
PLACEMENTS = [Placement(agent_id=f"agent-{n}", session=f"s{n}", server_id="server-1") for n in (1, 2)]
OTHERS = ["01890000-0000-7000-8000-00000000000a", "01890000-0000-7000-8000-00000000000b"]
"""Tasks that it may wait for."""
LATER = "01890000-0000-7000-8000-000000000002"
ASIDES = ["aside-1", "aside-2"]
REASONS = ["exit_code", "signal", "timeout", "lost", "start_error", "rejected", "cancelled"]

S = TaskStatus
MAY_FOLLOW: dict[TaskStatus | None, set[TaskStatus]] = {
    None: {S.PENDING},
    S.PENDING: {S.LOCKED, S.DISPATCHED, S.CANCELLED},
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
        self.driven: str | None = None
        """The instance that is driven from outside."""
        self.awaited: set[str] = set()
        self.on_failure = "cancel"
        self.is_doomed = self.is_deleted = self.delete_asked = False
        self.epoch = 0
        self.starts = 0
        self.cancel_asked = False

    def sees(self, event: Any, status_after: TaskStatus) -> None:
        if status_after is not self.status:
            assert status_after in MAY_FOLLOW[self.status], f"{self.status} -> {status_after} by {event}"
            if self.status is not None and self.status.is_terminal:
                assert type(event) is TaskReopened
        match event:
            case TaskCreated() | TaskUpdated():
                assert not self.is_deleted
                if type(event) is TaskCreated or "dependencies" in event.changed:
                    self.awaited = set((event.dependencies or {}).get("task_ids", ()))
                self.on_failure = (event.dependencies or {}).get("on_failure", "cancel")
            case TaskDependencySettled():
                self.awaited.remove(event.dependency_id)
                assert event.open_count == len(self.awaited)
                self.is_doomed |= event.status != S.SUCCEEDED and self.on_failure == "cancel"
            case InstanceTakenOver():
                assert not self.live and self.driven != event.instance_id
                self.driven, self.awaited = event.instance_id, set()
            case InstanceDispatched():
                assert self.driven == event.instance_id and event.epoch > self.epoch
                self.epoch = event.epoch
            case TaskDispatched():
                assert not self.live, "two live instances"
                assert not self.awaited, "dispatched before what it waits for has ended"
                assert event.instance_id != self.driven, "an agent got what somebody else runs"
                assert event.epoch > self.epoch
                self.epoch = event.epoch
                self.live[event.instance_id] = (event.agent_id, event.epoch)
            case TaskRequeued() | InstanceSucceeded() | InstanceFailed() | InstanceCancelled():
                self.live.pop(event.instance_id, None)
            case InstanceStarted() if event.instance_id == self.driven:
                assert not self.live and event.epoch == self.epoch
                self.starts += 1
            case InstanceStarted():
                assert self.live[event.instance_id] == (event.agent_id, event.epoch), "an old epoch is shown as current"
                self.starts += 1
            case TaskReopened():
                self.awaited = set(event.waits_for)
                if self.status is not S.WAITING_RETRY:
                    self.starts, self.cancel_asked, self.delete_asked = 0, False, False
            case TaskCancelRequested():
                self.cancel_asked = True
                self.delete_asked |= event.then_delete
            case TaskDeleted():
                self.is_deleted = True
        if self.cancel_asked:
            assert status_after is not S.WAITING_RETRY, "retried after a cancel"
        assert self.starts <= 1 + MAX_RETRIES
        if status_after.is_terminal:
            self.is_doomed = False
        self.status = status_after


class TaskMachine(RuleBasedStateMachine):
    @initialize(
        placed=st.booleans(),
        others=st.sampled_from([(), (), (0,), (0, 1)]),
        on_failure=st.sampled_from([None, "cancel", "run"]),
        in_batch=st.booleans(),
    )
    def create(self, placed: bool, others: tuple[int, ...], on_failure: str | None, in_batch: bool) -> None:
        self.observer = Observer()
        self.at: Given = given(TASK)
        self.said: list[ReportStarted | ReportEnded] = []
        self.events: list[Any] = []
        job = a_job({"max_retries": MAX_RETRIES})
        dependencies = {"task_ids": [OTHERS[each] for each in others], "on_failure": on_failure or "cancel"}
        create = a_create(
            job, placement=PLACEMENT if placed else None, dependencies=dependencies if others or on_failure else None
        )
        if not in_batch:
            self.do(create)
            return
        after = a_create(job, task_id=LATER, dependencies={"task_ids": [TASK_ID], "on_failure": "cancel"})
        opened = self.do(CreateTasks(tasks=[create, after])).decision.opened
        assert [type(event) for event in opened[Address("task", LATER)]] == [TaskCreated]
        assert {type(intent) for intent in TASK.intents(given(TASK, *opened[Address("task", LATER)]).state)} == {Await}

    def do(self, command: Any) -> Outcome:
        outcome = self.at.when(command)
        state = self.at.state
        for event in outcome.decision.events:
            state = TASK.evolve(state, event)
            self.observer.sees(event, state.status)
        assert state == outcome.state
        assert not self.observer.is_doomed, "what it waits for has failed, and it is not cancelled"
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
        outcome = self.do(DispatchTask(instance_id=instance_id, placement=placement))
        assert outcome.rejected is not None or not outcome.decision or outcome.decision.guards == placement.guards

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
        is_driven = self.observer.driven == said.instance_id
        outcome = self.do(Report(reports=(said,)))
        assert not is_driven or self.state.instance == before.instance, "an agent's word on what it does not run"
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

    @rule(others=st.sampled_from([(), (), (0,)]))
    def retry(self, others: tuple[int, ...]) -> None:
        self.do(RetryTask(waits_for=tuple(OTHERS[each] for each in others)))

    @rule(ends=st.dictionaries(st.sampled_from(OTHERS), st.sampled_from([90, 99, 100, 100]), min_size=1))
    def others_end(self, ends: dict[str, int]) -> None:
        was, awaited, status = self.observer.on_failure, set(self.observer.awaited), self.state.status
        command = SettleDependencies(settled=ends)
        outcome = self.do(command)
        told = awaited & ends.keys() if status in (S.PENDING, S.WAITING_RETRY) else set()
        assert bool(outcome.decision) is bool(told)
        if told:
            failed = any(ends[each] != S.SUCCEEDED for each in told) and was == "cancel"
            assert (self.state.status is S.CANCELLED) is failed
        outcome.when(command).then_nothing()

    @rule(others=st.sampled_from([(), (0,), (1,), (0, 1)]), on_failure=st.sampled_from(["cancel", "run"]))
    def wait_for_others(self, others: tuple[int, ...], on_failure: str) -> None:
        members = {"task_ids": [OTHERS[each] for each in others], "on_failure": on_failure}
        status = self.state.status
        outcome = self.do(UpdateTask(changes={"dependencies": members if others else None}))
        assert not outcome.decision or status in (S.PENDING, S.WAITING_RETRY)

    # --- what somebody outside does ---

    @rule(status=st.sampled_from(InstanceStatus), exit_code=st.sampled_from([None, 3]))
    def drive(self, status: InstanceStatus, exit_code: int | None) -> None:
        before = self.state
        changes = {"status": status} if exit_code is None else {"status": status, "exit_code": exit_code}
        outcome = self.do(UpdateInstance(instance_id=before.instance.instance_id, changes=changes))
        if self.observer.is_deleted:
            outcome.then_rejected("not_found")
        elif self.observer.live:
            outcome.then_rejected("held_by_agent")
        elif before.is_terminal:
            outcome.then_rejected("already_terminal")
        elif outcome.rejected is not None:
            outcome.then_rejected("transition_not_allowed")
        elif status.is_final:
            assert self.state.status in (S.SUCCEEDED, S.FAILED, S.CANCELLED, S.WAITING_RETRY)
            assert (self.state.status is S.SUCCEEDED) is (status is InstanceStatus.SUCCEEDED)
        else:
            assert self.state.instance.status is status and self.observer.driven == before.instance.instance_id

    @rule(
        aside=st.sampled_from(ASIDES),
        what=st.sampled_from(["create", "update", "delete"]),
        status=st.sampled_from([1, 5, 10, 30, 90, 100]),
    )
    def record_beside(self, aside: str, what: str, status: int) -> None:
        before, wanted = self.state, TASK.intents(self.state)
        command: Any = DeleteInstance(instance_id=aside)
        if what == "create":
            command = CreateInstance(instance_id=aside, status=status)
        elif what == "update":
            command = UpdateInstance(instance_id=aside, changes={"status": status})
        outcome = self.do(command)
        members = ("status", "instance", "retry_count", "cancel", "waits_for", "epoch", "lock_version")
        for name in members:
            assert getattr(self.state, name) == getattr(before, name), f"a record beside it changes its {name}"
        assert outcome.intents == wanted

    @rule(name=st.sampled_from(["a", "b"]))
    def rename(self, name: str) -> None:
        self.do(UpdateTask(changes={"name": name}))

    @rule(cascade=st.booleans())
    def delete(self, cascade: bool) -> None:
        was_terminal, was_deleted, was_live = self.state.is_terminal, self.observer.is_deleted, self.observer.live
        outcome = self.do(DeleteTask(cascade=cascade))
        if outcome.rejected is None and not was_terminal:
            assert cascade and (self.observer.delete_asked if was_live else self.observer.is_deleted)
        elif was_terminal and not was_deleted:
            assert self.observer.is_deleted

    # --- what always holds ---

    @invariant()
    def slots_held_are_live_instances(self) -> None:
        held = {(i.instance_id, (i.agent_id, i.epoch)) for i in TASK.intents(self.state) if type(i) is Occupy}
        assert held == set(self.observer.live.items())

    @invariant()
    def open_work_is_wanted_and_ended_work_is_not(self) -> None:
        kinds = {type(intent) for intent in TASK.intents(self.state)}
        status = self.state.status
        is_driven = self.observer.driven == self.state.instance.instance_id
        if status.is_terminal or is_driven:
            assert kinds == set()
        elif self.observer.awaited:
            assert kinds == {Await}
        elif status in (S.PENDING, S.WAITING_RETRY):
            assert kinds == {Offer}
        else:
            assert Occupy in kinds and Offer not in kinds
            assert (Send in kinds) is (status is S.DISPATCHED)
            assert (Stop in kinds) is self.observer.cancel_asked

    @invariant()
    def a_deleted_task_has_ended(self) -> None:
        assert self.state.is_deleted is self.observer.is_deleted
        assert not self.state.is_deleted or (self.state.is_terminal and not self.observer.live)
        assert not (self.observer.delete_asked and self.state.is_terminal) or self.state.is_deleted, "forgot to delete"

    @invariant()
    def it_waits_for_what_its_events_say(self) -> None:
        if self.state.status in (S.PENDING, S.WAITING_RETRY):
            assert set(self.state.waits_for) == self.observer.awaited

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
