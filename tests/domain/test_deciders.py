"""What holds for all deciders."""

from __future__ import annotations

import inspect

import pytest

from hetuflow.domain import commands
from hetuflow.domain.deciders import DECIDERS
from hetuflow.domain.events import (
    EVENT_TYPES,
    AgentEvent,
    BackfillEvent,
    CalendarEvent,
    ExternalEvent,
    FlowEvent,
    JobEvent,
    LeaseEvent,
    ScheduleEvent,
    ServerEvent,
    TaskEvent,
)
from hetuflow.domain.transition import IllegalTransition
from tests.support.given import NOW

KINDS = {
    "job": JobEvent,
    "schedule": ScheduleEvent,
    "task": TaskEvent,
    "agent": AgentEvent,
    "server": ServerEvent,
    "lease": LeaseEvent,
    "external": ExternalEvent,
    "flow": FlowEvent,
    "calendar": CalendarEvent,
    "backfill": BackfillEvent,
}
NOT_COMMANDS = {
    commands.JobSnapshot,
    commands.CalendarSnapshot,
    commands.LeftBehind,
    commands.SeatTask,
    commands.MatchedEvent,
    commands.TaskEnd,
    commands.FlowTaskEnd,
}
COMMANDS = {
    cls
    for _, cls in inspect.getmembers(commands, inspect.isclass)
    if cls.__module__.startswith(commands.__name__) and cls not in NOT_COMMANDS
}


@pytest.mark.parametrize("category", DECIDERS)
def test_a_decider_folds_exactly_the_events_of_its_category(category: str) -> None:
    decider = DECIDERS[category]
    assert decider.category == category
    assert decider.events == {kind for kind in EVENT_TYPES if issubclass(kind, KINDS[category])}


def test_every_command_is_answered_by_exactly_one_decider() -> None:
    answered = [command for decider in DECIDERS.values() for command in decider.commands]
    assert len(answered) == len(set(answered))
    assert set(answered) == COMMANDS


@pytest.mark.parametrize("category", DECIDERS)
def test_what_does_not_exist_wants_nothing(category: str) -> None:
    assert DECIDERS[category].intents(DECIDERS[category].initial) == frozenset()


@pytest.mark.parametrize("category", DECIDERS)
def test_foreign_commands_and_events_are_defects(category: str) -> None:
    decider = DECIDERS[category]
    with pytest.raises(TypeError, match=category):
        decider.decide(object(), decider.initial, NOW)
    with pytest.raises(IllegalTransition, match=category):
        decider.evolve(decider.initial, object())
