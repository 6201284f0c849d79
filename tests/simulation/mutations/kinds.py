"""Deliberate bugs of schedules whose times are not known beforehand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from unittest import mock

import attrs

from hetuflow.domain import backfill, daemon_tending, schedule, schedule_ends, schedule_events
from hetuflow.domain.commands import AdvanceBackfill, NoteTaskEnds
from hetuflow.domain.decider import NOTHING
from tests.simulation.calm import a_daemon, after_a_delay, backfilled, events_in_calm
from tests.simulation.mutations.kit import Mutation, in_table, replaced, replaced_in_table


def count_from_the_start() -> AbstractContextManager[object]:
    """A fixed delay is counted from a moment before the end."""

    def make(original: Any) -> Any:
        return lambda timing, since: original(timing, since - timedelta(seconds=2))

    return replaced(schedule_ends, "delayed_after", make)


def never_hear_of_ends() -> AbstractContextManager[object]:
    """What has ended is not told to the schedule that waits for it."""
    return in_table(schedule.SCHEDULE._deciding, NoteTaskEnds, lambda command, state, now: NOTHING)


def one_seat_too_many() -> AbstractContextManager[object]:
    original = daemon_tending.DaemonRules.of

    def of(given: Any) -> Any:
        rules = original(given)
        return attrs.evolve(rules, instances=rules.instances + 1)

    return mock.patch.object(daemon_tending.DaemonRules, "of", of)


def leave_the_seat_empty() -> AbstractContextManager[object]:
    """A seat is given one task, and no other."""

    def make(original: Any) -> Any:
        return lambda self, seat: False if seat.incarnation > 2 else original(self, seat)

    return replaced(daemon_tending._Tending, "_is_due", make)


def drop_events() -> AbstractContextManager[object]:
    """Every third event is passed over."""
    numbers = itertools.count(1)

    def make(original: Any) -> Any:
        def take(self: Any, event: Any, depth_max: int) -> None:
            if next(numbers) % 3:
                original(self, event, depth_max)

        return take

    return replaced(schedule_events._Deciding, "take", make)


def backfill_all_at_once() -> AbstractContextManager[object]:
    """The throttle is not looked at."""

    def make(original: Any) -> Any:
        def advance(command: Any, state: Any, now: Any) -> Any:
            return original(command, attrs.evolve(state, start=attrs.evolve(state.start, max_concurrent=100)), now)

        return advance

    return replaced_in_table(backfill.BACKFILL._deciding, AdvanceBackfill, make)


def pass_over_in_backfills() -> AbstractContextManager[object]:
    """A backfill takes every second nominal time for one that has a task."""
    numbers = itertools.count()

    def make(original: Any) -> Any:
        def advance(command: Any, state: Any, now: Any) -> Any:
            if next(numbers) % 2 and command.has_task:
                command = attrs.evolve(command, has_task=dict.fromkeys(command.has_task, True))
            return original(command, state, now)

        return advance

    return replaced_in_table(backfill.BACKFILL._deciding, AdvanceBackfill, make)


MUTATIONS: Sequence[Mutation] = (
    Mutation(
        "delay too short",
        "a fixed delay counts from before the end",
        "F1",
        count_from_the_start,
        quick=True,
        script=after_a_delay,
    ),
    Mutation(
        "ends unheard",
        "a schedule is not told of the ends that it waits for",
        "F1",
        never_hear_of_ends,
        quick=True,
        script=after_a_delay,
    ),
    Mutation(
        "one seat too many",
        "a daemon has one instance more than wanted",
        "T7",
        one_seat_too_many,
        quick=True,
        script=a_daemon,
    ),
    Mutation("empty seat", "a seat of a daemon stays empty", "F1", leave_the_seat_empty, quick=True, script=a_daemon),
    Mutation(
        "backfill unthrottled",
        "a backfill has more tasks open than was asked for",
        "T7",
        backfill_all_at_once,
        quick=True,
        script=backfilled,
    ),
    Mutation(
        "backfill with holes",
        "a backfill passes over nominal times that have no task",
        "F1",
        pass_over_in_backfills,
        quick=True,
        script=backfilled,
    ),
    Mutation(
        "events dropped", "every third event is passed over", "F1", drop_events, quick=True, script=events_in_calm
    ),
)
