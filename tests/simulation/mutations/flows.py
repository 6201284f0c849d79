"""Deliberate bugs of flows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from hetuflow.domain import flow, flow_plan, schedule_fires, task_dependencies
from hetuflow.domain.commands import FinishFlow
from hetuflow.domain.decider import NOTHING
from hetuflow.domain.enums import FlowStatus
from tests.simulation import flow_users
from tests.simulation.calm_flows import a_flow, a_schedule_of_a_flow
from tests.simulation.mutations.kit import Mutation, in_table, replaced


def forget_an_edge() -> AbstractContextManager[object]:
    """A task waits for all that it follows but the first."""

    def make(original: Any) -> Any:
        return lambda follows, match, task_of: original(dict(list(follows.items())[1:]), match, task_of)

    return replaced(flow_plan, "_dependencies", make)


def want_success_always() -> AbstractContextManager[object]:
    """What was to follow a failure is given up when it comes."""
    return replaced(task_dependencies, "is_met", lambda original: lambda on, status: original("succeeded", status))


def wait_for_ever() -> AbstractContextManager[object]:
    """Nothing is given up: what cannot be met any more is waited for."""
    met, unmet = task_dependencies.Outcome.OPEN, task_dependencies.Outcome.UNMET

    def make(original: Any) -> Any:
        def outcome(*given: Any) -> Any:
            found = original(*given)
            return met if found is unmet else found

        return outcome

    return replaced(task_dependencies, "outcome", make)


def call_it_a_success() -> AbstractContextManager[object]:
    return replaced(flow, "_status_of", lambda original: lambda outcome, is_cancelled: FlowStatus.SUCCEEDED)


def never_finish() -> AbstractContextManager[object]:
    return in_table(flow.FLOW._deciding, FinishFlow, lambda command, state, now: NOTHING)


def leave_skipped_what_was() -> AbstractContextManager[object]:
    """A retry runs again what failed, and not what was skipped because of it."""

    def make(original: Any) -> Any:
        def to_run_again(graph: Any, ends: Any, only: Any = None) -> Any:
            return {each: n for each, n in original(graph, ends, only).items() if not ends[each].is_unmet}

        return to_run_again

    return replaced(flow_users, "to_run_again", make)


def fire_one_task() -> AbstractContextManager[object]:
    """A fire makes the first task of its flow, and no run."""
    return replaced(
        schedule_fires, "_run_of", lambda original: lambda run, state, task, now: schedule_fires._alone(task, now)
    )


MUTATIONS: Sequence[Mutation] = (
    Mutation(
        "edge forgotten", "a task of a flow runs before one it follows", "T1", forget_an_edge, quick=True, script=a_flow
    ),
    Mutation("failure not followed", "what follows a failure is given up", "T1", want_success_always, script=a_flow),
    Mutation("never given up", "what cannot be met any more is waited for", "T1", wait_for_ever, script=a_flow),
    Mutation(
        "called a success", "a failed run says that it succeeded", "T1", call_it_a_success, quick=True, script=a_flow
    ),
    Mutation("run left open", "a run does not end with its tasks", "V1", never_finish, quick=True, script=a_flow),
    Mutation(
        "still skipped", "a retry leaves skipped what is not any more", "T1", leave_skipped_what_was, script=a_flow
    ),
    Mutation("fire without run", "a fire makes one task, and no run", "F1", fire_one_task, script=a_schedule_of_a_flow),
)
