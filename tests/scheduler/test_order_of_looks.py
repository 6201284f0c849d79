"""What waits is looked at in the order of its ids, not in that of a set, which differs from one process to the next."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from hetuflow.domain.decider import Address, Await, Follow
from hetuflow.scheduler.dependencies import Dependencies
from hetuflow.scheduler.following import Following

TASKS = [f"task-{number:02}" for number in range(30)]
"""So many that a set has them in this order in no process."""
FOLLOWER = Address("schedule", "s")


def dependencies() -> tuple[Any, Any]:
    duty = Dependencies(mock.Mock(), mock.Mock())
    return duty, lambda: duty._to_look_at.pop("waiting")


def following() -> tuple[Any, Any]:
    duty = Following(mock.Mock(), mock.Mock(), mock.Mock())
    return duty, lambda: duty._to_tell.pop(FOLLOWER)


@pytest.mark.parametrize(
    ("make", "wish"),
    [
        (dependencies, lambda ids: Await("waiting", "job-1", frozenset(ids))),
        (following, lambda ids: Follow(FOLLOWER, "job-1", frozenset(ids))),
    ],
)
def test_new_wishes_and_a_take_over_look_in_the_order_of_ids(make: Any, wish: Any) -> None:
    duty, taken = make()
    duty.add(wish(TASKS[:3]))
    assert list(taken()) == TASKS[:3]
    duty.add(wish(TASKS))
    assert list(taken()) == TASKS[3:]
    duty.look_again()
    assert list(taken()) == TASKS
