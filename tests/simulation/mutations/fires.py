"""Deliberate bugs of schedules and their fires."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from unittest import mock
from uuid import UUID, uuid5

import attrs

from hetuflow.domain import (
    schedule,
    schedule_fires,
    schedule_fold,
    schedule_overlap,
)
from hetuflow.domain.enums import MisfirePolicy
from hetuflow.domain.events import ScheduleEnabled, ScheduleFired
from hetuflow.domain.misfire import FirePlan
from hetuflow.domain.schedule_state import trigger_of
from hetuflow.domain.trigger import next_after
from tests.simulation.mutations.kit import Mutation, in_table, replaced, together
from tests.simulation.operators import Operators


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


MUTATIONS: Sequence[Mutation] = (
    Mutation("drop fires", "every fourth fire is dropped without a trace", "F1", drop_fires, quick=True),
    Mutation("resume in the past", "a resumed schedule fires what it missed", "F2", resume_fires_what_was_missed),
    Mutation("fire twice", "the cursor stays behind, and task ids are random", "F3", fire_twice),
    Mutation("overlap ignored", "the policy `skip` is taken and not obeyed", "F4", ignore_overlap_policy),
    Mutation("old misfires", "every misfire fires, however old", "F5", fire_all_misfires, quick=True),
    Mutation("due too early", "a fire's task is due before its nominal time", "F6", due_before_nominal),
)
