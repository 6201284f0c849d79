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
    calendar,
    schedule,
    schedule_ends,
    schedule_fires,
    schedule_fold,
    schedule_overlap,
    task_dependencies,
)
from hetuflow.domain.enums import MisfirePolicy
from hetuflow.domain.events import ScheduleEnabled, ScheduleFired
from hetuflow.domain.misfire import FirePlan
from hetuflow.domain.schedule_state import trigger_of
from hetuflow.domain.trigger import next_after
from tests.simulation.calm import (
    away_for_a_while,
    failing_in_a_row,
    fires_in_calm,
    fires_under_skip,
    overlapping,
    paused_for_a_while,
    with_a_calendar,
    with_jitter,
)
from tests.simulation.calm_log import after_misfires
from tests.simulation.mutations.kit import Mutation, in_table, replaced, together


def drop_fires() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def plan_of(state: Any, *more: Any, **named: Any) -> FirePlan:
            plan: FirePlan = original(state, *more, **named)
            if len(plan.fires) == 1 and state.fire_count % 4 == 3:
                return attrs.evolve(plan, fires=())
            return plan

        return plan_of

    return replaced(schedule_fires, "plan_of", make)


def resume_fires_what_was_missed() -> AbstractContextManager[object]:
    def enabled(state: Any, event: Any) -> Any:
        after = schedule_fold.enabled(state, event)
        return attrs.evolve(after, cursor_at=state.cursor_at)

    def next_run(state: Any, now: Any, exclusion: Any = None) -> Any:
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
    return mock.patch.object(schedule_overlap, "open_tasks", lambda state, has_ended: ())


def skip_for_nothing() -> AbstractContextManager[object]:
    """Under `skip` every other nominal time is skipped."""
    numbers = itertools.count()

    def make(original: Any) -> Any:
        def ruling(policy: str, open_ids: Any, **more: Any) -> Any:
            found = original(policy, open_ids, **more)
            return attrs.evolve(found, is_skipped=True) if policy == "skip" and next(numbers) % 2 else found

        return ruling

    return replaced(schedule_overlap, "ruling", make)


def do_not_wait_in_the_queue() -> AbstractContextManager[object]:
    return mock.patch.object(schedule_overlap, "dependencies", lambda policy, waits_for: None)


def leave_the_previous_one() -> AbstractContextManager[object]:
    return mock.patch.object(task_dependencies, "overlap_of", lambda spec: None)


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


def fire_at_any_age() -> AbstractContextManager[object]:
    def make(original: Any) -> Any:
        def decide(*known: Any, max_age_seconds: int | None = None, **more: Any) -> Any:
            return original(*known, **more)

        return decide

    return replaced(schedule_fires, "decide_fires", make)


def jitter_into_the_next_one() -> AbstractContextManager[object]:
    def jittered(state: Any, nominal_at: Any) -> Any:
        return nominal_at + timedelta(seconds=state.jitter_seconds / 2)

    return mock.patch.object(schedule_fires, "jittered", jittered)


def never_pause() -> AbstractContextManager[object]:
    return mock.patch.object(schedule_ends, "_is_too_many", lambda state: False)


def pause_too_early() -> AbstractContextManager[object]:
    return mock.patch.object(schedule_ends, "_is_too_many", lambda state: state.consecutive_failures > 1)


def forget_the_calendars() -> AbstractContextManager[object]:
    return mock.patch.object(schedule_fires, "exclusion_of", lambda *_: None)


def forget_the_edits_of_calendars() -> AbstractContextManager[object]:
    """A calendar excludes what it did when it was made."""

    def make(original: Any) -> Any:
        def with_edition(state: Any, since_at: Any, rules: Any) -> Any:
            return original(state, since_at, rules) if not state.editions else state.editions

        return with_edition

    return replaced(calendar, "_with_edition", make)


MUTATIONS: Sequence[Mutation] = (
    Mutation(
        "drop fires", "every fourth fire is dropped without a trace", "F1", drop_fires, quick=True, script=fires_in_calm
    ),
    Mutation(
        "no pause",
        "failures in a row do not pause a schedule",
        "F1",
        never_pause,
        quick=True,
        script=failing_in_a_row,
    ),
    Mutation(
        "early pause", "a schedule is paused too early", "F1", pause_too_early, quick=True, script=failing_in_a_row
    ),
    Mutation(
        "calendar ignored",
        "what a calendar excludes fires",
        "F1",
        forget_the_calendars,
        quick=True,
        script=with_a_calendar,
    ),
    Mutation(
        "calendar unchanged",
        "an edit of a calendar has no effect",
        "F1",
        forget_the_edits_of_calendars,
        quick=True,
        script=with_a_calendar,
    ),
    Mutation(
        "resume in the past",
        "a resumed schedule fires what it missed",
        "F2",
        resume_fires_what_was_missed,
        quick=True,
        script=paused_for_a_while,
    ),
    Mutation(
        "fire twice",
        "the cursor stays behind, and task ids are random",
        "F3",
        fire_twice,
        quick=True,
        script=fires_in_calm,
    ),
    Mutation(
        "overlap ignored", "`skip` is not obeyed", "F4", ignore_overlap_policy, quick=True, script=overlapping("skip")
    ),
    Mutation(
        "skip for nothing", "`skip` skips beside no task", "F4", skip_for_nothing, quick=True, script=fires_under_skip
    ),
    Mutation(
        "no queue",
        "under `queue` nothing waits",
        "F4",
        do_not_wait_in_the_queue,
        quick=True,
        script=overlapping("queue"),
    ),
    Mutation(
        "previous one left",
        "under `cancel_previous` nothing is cancelled",
        "F4",
        leave_the_previous_one,
        quick=True,
        script=overlapping("cancel_previous"),
    ),
    Mutation(
        "old misfires",
        "every misfire fires, however old",
        "F5",
        fire_all_misfires,
        quick=True,
        script=after_misfires(misfire_policy="skip", misfire_grace_seconds=3),
    ),
    Mutation(
        "any age", "`max_age_seconds` is not looked at", "F5", fire_at_any_age, quick=True, script=away_for_a_while
    ),
    Mutation(
        "jitter without bound",
        "a jittered time lies behind the next one",
        "F6",
        jitter_into_the_next_one,
        quick=True,
        script=with_jitter,
    ),
    Mutation(
        "due too early", "a fire's task is due before its nominal time", "F6", due_before_nominal, script=fires_in_calm
    ),
)
