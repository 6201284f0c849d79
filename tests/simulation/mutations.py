"""Deliberate bugs: what each breaks, the patch, and the invariant whose judge must find it within a few seeds.

A judge that never found anything proves nothing. Each entry patches the system (or, for promises that only the store
keeps, the store) while a seed runs; `proof.py` runs them. `quick` ones are part of the suite.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock
from uuid import UUID, uuid5

import attrs
import trio
from attrs import frozen

from agent.limits import Lease
from agent.link import Link
from agent.spool import StreamTally
from eventstore.errors import StoreUnavailable
from eventstore.event import Appended
from eventstore.memory import MemoryStore
from hetuflow.actors.actor import Cell
from hetuflow.actors.execution import Execution
from hetuflow.domain import (
    job,
    schedule,
    schedule_fires,
    schedule_fold,
    schedule_overlap,
    task,
    task_dependencies,
    task_expiry,
    task_outcomes,
    task_reports,
    task_transitions,
)
from hetuflow.domain.commands import CreateJob
from hetuflow.domain.enums import MisfirePolicy, TaskStatus
from hetuflow.domain.events import JobCreated, ScheduleEnabled, ScheduleFired, TaskReopened
from hetuflow.domain.misfire import FirePlan
from hetuflow.domain.schedule_state import trigger_of
from hetuflow.domain.trigger import next_after
from hetuflow.scheduler.agenda import Agenda
from projections.fold import Tables
from tests.simulation.calm import Script, fires_in_calm, orders_at_a_stopped_agent
from tests.simulation.observed import SECRET
from tests.simulation.operators import Operators

Patch = Callable[[], AbstractContextManager[object]]


@frozen(slots=True)
class Mutation:
    """`breaks`: the bug in words. `seeds`: tried in turn until the judge of `expected` speaks. `script`: a short run of
    its own (`calm.py`) instead of a whole one."""

    name: str
    breaks: str
    expected: str
    patch: Patch
    seeds: Sequence[int] = tuple(range(1, 9))
    quick: bool = False
    script: Script | None = None


@contextmanager
def replaced(target: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """While it is open, `target.name` is what `make` makes of it."""
    with mock.patch.object(target, name, make(getattr(target, name))):
        yield


@contextmanager
def together(*patches: AbstractContextManager[object]) -> Iterator[None]:
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


@contextmanager
def in_table(table: Any, key: Any, value: Any) -> Iterator[None]:
    """While it is open, the decider's or fold's table has this entry."""
    with mock.patch.dict(table, {key: value}):
        yield


# --- fires -------------------------------------------------------------------------------------------------------------


def drop_fires() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def plan_of(state: Any, now: Any) -> FirePlan:
            plan: FirePlan = original(state, now)
            if len(plan.fires) == 1 and state.fire_count % 4 == 3:
                return FirePlan(plan.skipped, (), plan.next_run_at)
            return plan

        return plan_of

    return replaced(schedule_fires, "plan_of", make)


def resume_fires_what_was_missed() -> AbstractContextManager[object]:
    def enabled(state: Any, event: Any) -> Any:
        after = schedule_fold.enabled(state, event)
        return attrs.evolve(after, cursor_at=state.cursor_at)

    def next_run(state: Any, now: Any) -> Any:
        return next_after(trigger_of(state, state.anchor_at), state.cursor_at)

    return together(
        in_table(schedule_fold.FOLDS, ScheduleEnabled, enabled),
        mock.patch.object(schedule, "next_run_after", next_run),
    )


def fire_twice() -> AbstractContextManager[object]:
    """The cursor stays behind every third fire, and the task's id is not derived from the nominal time."""
    numbers = itertools.count()

    def fired(state: Any, event: Any) -> Any:
        after = schedule_fold.fired(state, event)
        return attrs.evolve(after, cursor_at=state.cursor_at) if event.fire_count % 3 == 0 else after

    def task_id_of(schedule_id: str, nominal_at: Any) -> str:
        return str(uuid5(UUID(int=7), f"{schedule_id} {next(numbers)}"))

    return together(
        in_table(schedule_fold.FOLDS, ScheduleFired, fired),
        mock.patch.object(schedule_fires, "task_id_of", task_id_of),
    )


def ignore_overlap_policy() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        return lambda command, now: original(attrs.evolve(command, overlap_policy="skip"), now)

    def made_slower(original: Any) -> Any:
        async def create_job(self: Any, name: str, *args: str, **members: Any) -> str:
            args = tuple("seconds=12" if name == "quick" and each.startswith("seconds=") else each for each in args)
            found: str = await original(self, name, *args, **members)
            return found

        return create_job

    return together(
        mock.patch.object(schedule_overlap, "open_tasks", lambda state, has_ended: ()),
        replaced(schedule, "opening", make),
        replaced(Operators, "create_job", made_slower),
    )


def fire_all_misfires() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def decide(trigger: Any, cursor: Any, now: Any, policy: Any, grace: int, **more: Any) -> Any:
            return original(trigger, cursor, now, MisfirePolicy.FIRE_ALL, grace, **more)

        return decide

    return replaced(schedule_fires, "decide_fires", make)


def due_before_nominal() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def create(**members: Any) -> Any:
            return original(**{**members, "scheduled_at": members["scheduled_at"] - timedelta(seconds=1)})

        return create

    return replaced(schedule_fires, "CreateTask", make)


# --- tasks -------------------------------------------------------------------------------------------------------------


def retry_after_success() -> AbstractContextManager[object]:
    return together(
        mock.patch.object(task, "_REOPENABLE", {*task._REOPENABLE, TaskStatus.SUCCEEDED}),
        in_table(task_transitions.TASK_TRANSITIONS[TaskStatus.SUCCEEDED], TaskReopened, TaskStatus.PENDING),
    )


def agent_outlives_its_lease() -> AbstractContextManager[object]:
    return together(longer_programs(), mock.patch.object(Lease, "deadline", property(lambda self: float("inf"))))


def longer_programs() -> AbstractContextManager[object]:
    """No bug: the slow program takes ten minutes, so that bounds pass while it runs."""

    def make(original: Any) -> Any:
        async def create_job(self: Any, name: str, *args: str, **members: Any) -> str:
            args = tuple("seconds=600" if each == "seconds=40" else each for each in args)
            found: str = await original(self, name, *args, **members)
            return found

        return create_job

    return replaced(Operators, "create_job", make)


def start_stale_orders() -> AbstractContextManager[object]:
    """Neither the order is looked at, nor is the connection left when the lease is over: each alone keeps the promise."""
    return together(
        mock.patch.object(Link, "_dispatched", lambda self, message: self._work.executor.dispatch(message)),
        mock.patch.object(Link, "end", lambda self, reason: None),
    )


def believe_old_epochs() -> AbstractContextManager[object]:
    """A report is believed whatever its epoch and instance, as if it were about the live one."""

    def make(original: Any) -> Any:
        def reported(said: Any, state: Any, now: Any) -> Any:
            instance = state.instance
            if instance is not None and instance.is_live and said.epoch < instance.epoch:
                believed = attrs.evolve(said, instance_id=instance.instance_id, epoch=instance.epoch)
                found = task_reports._BELIEVED[type(said)](state, believed, now)
                return [attrs.evolve(event, epoch=said.epoch) if hasattr(event, "epoch") else event for event in found]
            return original(said, state, now)

        return reported

    return replaced(task_reports, "_reported", make)


def retry_for_ever() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def retried(state: Any, failed: Any, now: Any) -> Any:
            if state.retry_count >= 6:
                return original(state, failed, now)
            config = {**state.spec.config, "max_retries": 6}
            return original(attrs.evolve(state, spec=attrs.evolve(state.spec, config=config)), failed, now)

        return retried

    return replaced(task_outcomes, "_retried", make)


def agent_ignores_cancel() -> AbstractContextManager[object]:
    return together(longer_programs(), mock.patch.object(Link, "_stop", lambda self, message: None))


def keep_the_slot() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def remove(self: Any, address: Any, occupy: Any) -> None:
            if int(occupy.instance_id[-1], 16) % 8:
                original(self, address, occupy)

        return remove

    return replaced(Agenda, "_remove_occupy", make)


def ignore_the_limit() -> AbstractContextManager[object]:
    return mock.patch.object(Agenda, "room", property(lambda self: 1 << 30))


def dispatch_seldom() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def take(self: Any, now: Any, most: int) -> Any:
            return original(self, now, most if trio.current_time() % 130 < 2 else 0)

        return take

    return together(replaced(Agenda, "take_placements", make), mock.patch.object(Agenda, "reserve", lambda *_: None))


# --- log ---------------------------------------------------------------------------------------------------------------


def repeat_event_ids() -> AbstractContextManager[object]:
    from hetuflow.actors import entity

    last: list[Any] = []
    numbers = itertools.count()

    def make(original: Any) -> Any:
        def new_event(*args: Any, **members: Any) -> Any:
            if next(numbers) % 40 == 39 and last:
                members["event_id"] = last[-1]
            event = original(*args, **members)
            last.append(event.event_id)
            return event

        return new_event

    return replaced(entity, "NewEvent", make)


def acknowledge_before_commit() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        async def append(self: Any, cell: Any, plan: Any) -> Appended:
            try:
                found: Appended = await original(self, cell, plan)
            except StoreUnavailable:
                head = len(self._store.log.events)
                wanted = sum(bool(claim.events) for claim in plan.claims)
                return Appended(head, self._clock.now(), tuple(range(head + 1, head + 1 + wanted)))
            return found

        return append

    return replaced(Execution, "_append", make)


def tables_miss_an_event() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def apply(self: Any, events: Any) -> Any:
            return original(self, [event for event in events if event.type != "TaskSucceeded" or event.position % 7])

        return apply

    return replaced(Tables, "apply", make)


def show_another_version() -> AbstractContextManager[object]:
    """A read shows the newest state of a task under the version before."""

    def make(original: Any) -> Any:
        def reading(self: Any) -> Any:
            found = original(self)
            is_task = self.address.category == "task" and found.version > 3
            return attrs.evolve(found, version=found.version - 1) if is_task else found

        return reading

    return replaced(Cell, "reading", make)


def create_again() -> AbstractContextManager[object]:
    """A repeated creation of a job is carried out again."""
    create, created = job._create, job._created
    return together(
        in_table(job.JOB._deciding, CreateJob, lambda command, state, now: create(command, job.INITIAL, now)),
        in_table(job.JOB._evolving, JobCreated, lambda state, event: created(job.INITIAL, event)),
    )


def secrets_in_errors() -> AbstractContextManager[object]:
    """The message of a failed instance quotes the task's environment."""

    def make(original: Any) -> Any:
        def failed(state: Any, end: Any) -> Any:
            event = original(state, end)
            return attrs.evolve(event, error_message=f"{event.error_message} (environment {state.spec.environment})")

        return failed

    def with_secret(original: Any) -> Any:
        def create(**members: Any) -> Any:
            return original(**{**members, "environment": {"PASSWORD": SECRET}})

        return create

    from tests.simulation import operators

    return together(
        replaced(task_outcomes, "_instance_failed", make), replaced(operators, "CreateJob", as_class(with_secret))
    )


def as_class(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """For a class that is only called."""
    return make


# --- outside -----------------------------------------------------------------------------------------------------------


def digest_half_of_it() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def write(self: Any, data: bytes) -> None:
            original(self, data[: len(data) // 2 + 1])
            self.written += len(data) - (len(data) // 2 + 1)

        return write

    return replaced(StreamTally, "write", make)


def feed_skips_one() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        @contextlib.asynccontextmanager
        async def subscribe(self: Any, *, after: int, **more: Any) -> Any:
            async with original(self, after=after + 1 if after else 0, **more) as batches:
                yield batches

        return subscribe

    return replaced(MemoryStore, "subscribe", make)


def ticker_sleeps() -> AbstractContextManager[object]:
    """The ticker looks for due schedules once in five minutes."""

    def make(original: Any) -> Any:
        def take(self: Any, now: Any, most: int) -> Any:
            return original(self, now, most) if trio.current_time() % 300 < 5 else []

        return take

    return together(replaced(Agenda, "take_due", make), mock.patch.object(Agenda, "next_due_at", lambda self: None))


def forget_some_tasks() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def add(self: Any, address: Any, offer: Any) -> None:
            if int(offer.task_id[-1], 16) % 8:
                original(self, address, offer)

        return add

    return replaced(Agenda, "_add_offer", make)


def dispatch_before_the_others_end() -> AbstractContextManager[object]:
    """What a task waits for is taken for ended after the first of them."""

    def make(original: Any) -> Any:
        def settled(state: Any, event: Any, status: Any) -> Any:
            return attrs.evolve(original(state, event, status), waits_for=())

        return settled

    name = task_transitions.TaskDependencySettled
    return mock.patch.dict(task_transitions.FOLDS, {name: make(task_transitions.FOLDS[name])})  # type: ignore[arg-type]


def run_after_failed_dependencies() -> AbstractContextManager[object]:
    return mock.patch.object(task_dependencies, "RUN", "cancel")


def dispatch_what_has_expired() -> AbstractContextManager[object]:
    return mock.patch.object(task_expiry, "start_deadline_at", lambda spec: None)


MUTATIONS: Sequence[Mutation] = (
    Mutation("drop fires", "every fourth fire is dropped without a trace", "F1", drop_fires, quick=True),
    Mutation("resume in the past", "a resumed schedule fires what it missed", "F2", resume_fires_what_was_missed),
    Mutation("fire twice", "the cursor stays behind, and task ids are random", "F3", fire_twice),
    Mutation("overlap ignored", "the policy `skip` is taken and not obeyed", "F4", ignore_overlap_policy),
    Mutation("old misfires", "every misfire fires, however old", "F5", fire_all_misfires, quick=True),
    Mutation("due too early", "a fire's task is due before its nominal time", "F6", due_before_nominal),
    Mutation("first one suffices", "a task waits for the first of several only", "T1", dispatch_before_the_others_end),
    Mutation(
        "failure not followed",
        "a task runs although one that it waits for has failed",
        "T1",
        run_after_failed_dependencies,
    ),
    Mutation(
        "late starts", "the start deadline is not looked at", "T1", dispatch_what_has_expired, range(1, 17), quick=True
    ),
    Mutation("retry after success", "a succeeded task may be retried", "T1", retry_after_success),
    Mutation(
        "no end of the lease", "an agent runs on when its lease is over", "T2", agent_outlives_its_lease, range(1, 17)
    ),
    Mutation(
        "stale orders",
        "an agent starts orders older than its lease",
        "T2",
        start_stale_orders,
        quick=True,
        script=orders_at_a_stopped_agent,
    ),
    Mutation("old epochs", "reports are believed whatever their epoch", "T3", believe_old_epochs, range(1, 17)),
    Mutation("retry for ever", "retries are not counted", "T4", retry_for_ever, quick=True),
    Mutation("cancel ignored", "an agent does not stop what is cancelled", "T5", agent_ignores_cancel),
    Mutation("slot kept", "an ended instance keeps its slot now and then", "T6", keep_the_slot),
    Mutation("limit ignored", "the cluster's limit is not looked at", "T7", ignore_the_limit, range(1, 17)),
    Mutation(
        "lazy dispatcher",
        "slots are given every other minute",
        "T8",
        dispatch_seldom,
        quick=True,
        script=fires_in_calm,
    ),
    Mutation("event ids twice", "an event id is used again", "L1", repeat_event_ids),
    Mutation("early acknowledgement", "what the store refused is acknowledged", "L2", acknowledge_before_commit),
    Mutation("incomplete tables", "the tables miss an event now and then", "L3", tables_miss_an_event, quick=True),
    Mutation("wrong version shown", "a read shows a state under an older version", "L4", show_another_version),
    Mutation("create again", "a repeated creation is carried out again", "L5", create_again),
    Mutation("secret in an error", "a failure quotes the environment", "L6", secrets_in_errors, quick=True),
    Mutation("half a digest", "the digest covers half of the output", "O1", digest_half_of_it, quick=True),
    Mutation("feed skips one", "a resumed feed leaves out its first event", "E1", feed_skips_one, quick=True),
    Mutation(
        "ticker sleeps",
        "due schedules are looked for every five minutes",
        "C1",
        ticker_sleeps,
        quick=True,
        script=fires_in_calm,
    ),
    Mutation("forgotten tasks", "some waiting tasks are never given a slot", "V1", forget_some_tasks),
)
