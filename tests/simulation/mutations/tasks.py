"""Deliberate bugs of tasks: their life, retries, waiting, slots and leases."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import attrs
import trio

from agent.keeper.core import Keeper
from agent.keeper.instance import Instance
from agent.limits import Lease
from agent.link import Link
from agent.run import Run
from hetuflow.domain import (
    agent,
    need,
    retry,
    task,
    task_dependencies,
    task_expiry,
    task_reports,
    task_transitions,
)
from hetuflow.domain.enums import TaskStatus
from hetuflow.domain.events import TaskReopened, TaskUpdated
from hetuflow.domain.gates import Gates
from hetuflow.scheduler.agenda import Agenda
from tests.simulation.calm import (
    an_agent_stopped_with_its_keeper,
    an_agent_that_is_cut_off,
    crowded,
    edited_to_wait,
    failing,
    fires_in_calm,
    later_than_wanted,
    orders_at_a_stopped_agent,
    relabelled_against_its_owner,
)
from tests.simulation.calm_log import cancelled_soon, retried_in_vain, waiting_for_several
from tests.simulation.mutations.kit import Mutation, in_table, replaced, replaced_in_table, together
from tests.support.keepers import MachineSwitch


def retry_after_success() -> AbstractContextManager[object]:
    return together(
        mock.patch.object(task, "_REOPENABLE", {*task._REOPENABLE, TaskStatus.SUCCEEDED}),
        in_table(task_transitions.TASK_TRANSITIONS[TaskStatus.SUCCEEDED], TaskReopened, TaskStatus.PENDING),
    )


def switch_sleeps() -> AbstractContextManager[object]:
    return mock.patch.object(MachineSwitch, "guard", lambda self, instance: None)


def agent_outlives_its_lease() -> AbstractContextManager[object]:
    """Neither the session's end is seen, nor that of its instances' own leases, and no switch ends what is left."""
    return together(
        switch_sleeps(),
        mock.patch.object(Lease, "deadline", property(lambda self: float("inf"))),
        mock.patch.object(Instance, "_lease_deadline", lambda self: float("inf")),
        mock.patch.object(Run, "lease_deadline", lambda self, renewed: float("inf")),
    )


def start_stale_orders() -> AbstractContextManager[object]:
    """Neither the order is looked at, nor is the connection left when the lease is over, nor does the keeper refuse it, or
    end it: each alone keeps the promise."""
    return together(
        mock.patch.object(Keeper, "_why_refuse", lambda self, launch: None),
        mock.patch.object(Instance, "_lease_deadline", lambda self: float("inf")),
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
        return lambda config, *result: original({**config, "max_retries": 6}, *result)

    return replaced(retry, "why_not", make)


def agent_ignores_cancel() -> AbstractContextManager[object]:
    return mock.patch.object(Link, "_stop", lambda self, message: None)


def keep_the_slot() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def remove(self: Any, address: Any, occupy: Any) -> None:
            if int(occupy.instance_id[-1], 16) % 8:
                original(self, address, occupy)

        return remove

    return replaced(Agenda, "_remove_occupy", make)


def ignore_the_limit() -> AbstractContextManager[object]:
    return mock.patch.object(Agenda, "room", property(lambda self: 1 << 30))


def believe_operators() -> AbstractContextManager[object]:
    return replaced(agent, "placement_labels", lambda original: lambda labels, reported, protected: labels)


def dispatch_seldom() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def take(self: Any, now: Any, most: int) -> Any:
            return original(self, now, most if trio.current_time() % 130 < 2 else 0)

        return take

    return together(replaced(Agenda, "take_placements", make), mock.patch.object(Agenda, "reserve", lambda *_: None))


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


def forget_the_edited_dependencies() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def updated(state: Any, event: Any, status: Any) -> Any:
            return attrs.evolve(original(state, event, status), waits_for=state.waits_for)

        return updated

    return replaced_in_table(task_transitions.FOLDS, TaskUpdated, make)


def retry_at_once() -> AbstractContextManager[object]:
    return mock.patch.object(retry, "longest_delay_seconds", lambda config, number: 1)


def retry_everything() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def why_not(config: Any, *result: Any) -> Any:
            return original({**config, "retry": None}, *result)

        return why_not

    return replaced(retry, "why_not", make)


def give_up_at_once() -> AbstractContextManager[object]:
    return mock.patch.object(retry, "why_not", lambda *_: "why should it")


def forget_the_limits_of_a_config() -> AbstractContextManager[object]:
    return together(*(mock.patch.object(place, "bounds_of", lambda *_: ()) for place in (task, need)))


def forget_the_limit_of_a_namespace() -> AbstractContextManager[object]:
    return mock.patch.object(Gates, "bounds", lambda self, own, namespace_id: own)


def forget_the_rate() -> AbstractContextManager[object]:
    return together(*(mock.patch.object(place, "rate_of", lambda *_: None) for place in (task, need)))


MUTATIONS: Sequence[Mutation] = (
    Mutation(
        "first one suffices",
        "a task waits for the first of several only",
        "T1",
        dispatch_before_the_others_end,
        script=waiting_for_several(on_failure="run"),
    ),
    Mutation(
        "failure not followed",
        "a task runs although one that it waits for has failed",
        "T1",
        run_after_failed_dependencies,
        script=waiting_for_several("exit=3", on_failure="cancel"),
    ),
    Mutation(
        "late starts",
        "the start deadline is not looked at",
        "T1",
        dispatch_what_has_expired,
        quick=True,
        script=later_than_wanted,
    ),
    Mutation(
        "retry after success", "a succeeded task may be retried", "T1", retry_after_success, script=retried_in_vain
    ),
    Mutation(
        "no end of the lease",
        "an agent runs on when its lease is over",
        "T2",
        agent_outlives_its_lease,
        quick=True,
        script=an_agent_that_is_cut_off,
    ),
    Mutation(
        "no dead-man's switch",
        "nobody ends what a stopped agent and its stopped keeper ran",
        "T2",
        switch_sleeps,
        quick=True,
        script=an_agent_stopped_with_its_keeper,
    ),
    Mutation(
        "stale orders",
        "an agent starts orders older than its lease",
        "T2",
        start_stale_orders,
        quick=True,
        script=orders_at_a_stopped_agent,
    ),
    Mutation(
        "old epochs",
        "reports are believed whatever their epoch",
        "T3",
        believe_old_epochs,
        quick=True,
        script=an_agent_that_is_cut_off,
    ),
    Mutation(
        "edited dependencies",
        "a task does not wait for what it was told later",
        "T1",
        forget_the_edited_dependencies,
        quick=True,
        script=edited_to_wait,
    ),
    Mutation(
        "retry at once",
        "the strategy is not looked at",
        "T4",
        retry_at_once,
        quick=True,
        script=failing("exit=3", max_retries=3, retry_interval=3, retry={"strategy": "exponential", "jitter": 0.2}),
    ),
    Mutation(
        "retry everything",
        "what is excluded is retried",
        "T4",
        retry_everything,
        quick=True,
        script=failing("exit=3", max_retries=1, retry_interval=1, retry={"exit_codes": {"not": [3]}}),
    ),
    Mutation(
        "no retry",
        "what is to be retried is not",
        "T4",
        give_up_at_once,
        quick=True,
        script=failing("exit=3", max_retries=1, retry_interval=1),
    ),
    Mutation(
        "retry for ever",
        "retries are not counted",
        "T4",
        retry_for_ever,
        quick=True,
        script=failing("exit=3", max_retries=1, retry_interval=1),
    ),
    Mutation(
        "cancel ignored",
        "an agent does not stop what is cancelled",
        "T5",
        agent_ignores_cancel,
        quick=True,
        script=cancelled_soon,
    ),
    Mutation(
        "slot kept",
        "an ended instance keeps its slot now and then",
        "T6",
        keep_the_slot,
    ),
    Mutation("limit ignored", "the cluster's limit is not looked at", "T7", ignore_the_limit, range(1, 17)),
    *(
        Mutation(
            f"limit of a {kind}",
            f"the limit of a {kind} is not looked at",
            "T7",
            patch,
            quick=True,
            script=crowded(**config),
        )
        for kind, patch, config in (
            ("job", forget_the_limits_of_a_config, {"limits": {"concurrency": 2}}),
            ("key", forget_the_limits_of_a_config, {"limits": {"keys": ["database"]}}),
            ("namespace", forget_the_limit_of_a_namespace, {"namespace_id": "narrow"}),
            ("rate", forget_the_rate, {"limits": {"rate": {"count": 2, "per_seconds": 6}}}),
        )
    ),
    Mutation(
        "label of an operator",
        "placement goes by a label that the machine's owner protects and an operator has set",
        "T8",
        believe_operators,
        quick=True,
        script=relabelled_against_its_owner,
    ),
    Mutation(
        "lazy dispatcher",
        "slots are given every other minute",
        "T8",
        dispatch_seldom,
        quick=True,
        script=fires_in_calm,
    ),
)
