"""Keys wait for their own instant, and for the end of a pause, which somebody may call off."""

from __future__ import annotations

from datetime import timedelta

from hetuflow.domain.instants import Instants
from tests.support.given import NOW

SECOND = timedelta(seconds=1)


def test_what_is_put_off_is_due_after_its_pause_and_at_its_own_instant_when_that_is_called_off() -> None:
    instants = Instants()
    instants.set("a", NOW, NOW + 10 * SECOND)
    instants.set("b", NOW + 5 * SECOND, NOW)
    assert instants.first_at() == NOW + 5 * SECOND
    assert instants.take(NOW + 9 * SECOND, 9) == ["b"]
    instants.put_forward()
    assert instants.take(NOW, 9) == ["a"]
    instants.put_forward()
    assert len(instants) == 0 and instants.first_at() is None


def test_a_pause_is_forgotten_with_its_key_and_by_a_newer_instant() -> None:
    instants = Instants()
    instants.set("a", NOW, NOW + 10 * SECOND)
    instants.set("a", NOW + 3 * SECOND)
    instants.set("b", NOW, NOW + 10 * SECOND)
    instants.discard("b")
    instants.put_forward()
    assert instants.take(NOW + 100 * SECOND, 9) == ["a"]
