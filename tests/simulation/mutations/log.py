"""Deliberate bugs of the log, and of what is shown of it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import attrs

from agent import executor
from eventstore.errors import StoreUnavailable
from eventstore.event import Appended
from hetuflow.actors.actor import Cell
from hetuflow.actors.execution import Execution
from hetuflow.domain import job, task, task_outcomes
from hetuflow.domain.commands import CreateJob
from hetuflow.domain.events import JobCreated
from hetuflow.domain.rejection import Rejected
from projections.fold import Tables
from tests.simulation.calm import failing
from tests.simulation.calm_log import created_twice, looked_at, tasks_that_end
from tests.simulation.mutations.kit import Mutation, in_table, replaced, replaced_in_table, together


def repeat_event_ids() -> AbstractContextManager[object]:
    from hetuflow.actors import entity

    last: list[Any] = []
    numbers = itertools.count()

    def make(original: Any) -> Any:
        def encoded(self: Any, event: Any) -> Any:
            found = original(self, event)
            if next(numbers) % 40 == 39:
                return attrs.evolve(found, event_id=last[-1])
            last.append(found.event_id)
            return found

        return encoded

    return replaced(entity._Writing, "_encoded", make)


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

    return replaced(task_outcomes, "_instance_failed", make)


def secrets_in_the_agents_log() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def dispatch(self: Any, order: Any) -> None:
            executor.log.info("an order", task_id=order.task_id, environment=dict(order.environment))
            original(self, order)

        return dispatch

    return replaced(executor.Executor, "dispatch", make)


def secrets_in_the_servers_log() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def dispatch_order(**members: Any) -> Any:
            order = original(**members)
            logging.getLogger("hetuflow.gateway").info("to be sent: %s", order)
            return order

        return dispatch_order

    return replaced(task, "dispatch_order", make)


def secrets_in_refusals() -> AbstractContextManager[object]:
    """A creation that is repeated is refused with all that is known of the job."""

    def make(original: Any) -> Any:
        def create(command: Any, state: Any, now: Any) -> Any:
            try:
                return original(command, state, now)
            except Rejected as no:
                raise Rejected(no.code, str(no), {"job": state}) from None

        return create

    return replaced_in_table(job.JOB._deciding, CreateJob, make)


MUTATIONS: Sequence[Mutation] = (
    Mutation("event ids twice", "an event id is used again", "L1", repeat_event_ids, script=tasks_that_end),
    Mutation("early acknowledgement", "what the store refused is acknowledged", "L2", acknowledge_before_commit),
    Mutation(
        "incomplete tables",
        "the tables miss an event now and then",
        "L3",
        tables_miss_an_event,
        quick=True,
        script=tasks_that_end,
    ),
    Mutation(
        "wrong version shown",
        "a read shows a state under an older version",
        "L4",
        show_another_version,
        script=looked_at,
    ),
    Mutation("create again", "a repeated creation is carried out again", "L5", create_again, script=created_twice),
    Mutation(
        "secret in an error",
        "a failure quotes the environment",
        "L6",
        secrets_in_errors,
        quick=True,
        script=failing("exit=3", max_retries=0),
    ),
    Mutation(
        "secret in the agent's log",
        "an agent logs what it is sent",
        "L6",
        secrets_in_the_agents_log,
        script=tasks_that_end,
    ),
    Mutation(
        "secret in the server's log",
        "a server logs what it sends",
        "L6",
        secrets_in_the_servers_log,
        script=tasks_that_end,
    ),
    Mutation(
        "secret in a refusal",
        "a refused creation tells all of the job",
        "L6",
        secrets_in_refusals,
        script=created_twice,
    ),
)
