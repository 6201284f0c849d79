"""How the keeper and its switch wait: for descriptors, and for instants of a clock that goes on while the machine sleeps."""

from __future__ import annotations

import os
import select
import sys

import pytest

from agent.keeper.loop import NEVER, WAIT_SECONDS_MAX, Loop, lease_now
from agent.keeper.watchdog import Alarm, Guarded, Watchdog

needs_alarms = pytest.mark.skipif(sys.platform != "linux", reason="needs timerfd")


def rings(alarm: Alarm, milliseconds: int = 0) -> bool:
    poll = select.poll()
    poll.register(alarm.fd, select.POLLIN)
    return bool(poll.poll(milliseconds))


@needs_alarms
def test_an_alarm_rings_from_its_instant_on() -> None:
    alarm = Alarm()
    assert not rings(alarm)
    at = lease_now() + 0.05
    alarm.set(at)
    assert rings(alarm, 60_000) and lease_now() >= at
    assert rings(alarm), "until it is set anew"
    alarm.set(lease_now() + 1000)
    assert not rings(alarm)
    alarm.set(lease_now() - 1000)  # as after a sleep
    assert rings(alarm)
    alarm.silence()
    assert not rings(alarm)
    alarm.close()


@needs_alarms
def test_the_loop_waits_for_an_instant_without_a_timeout_that_would_stand_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, asked = Loop(), []
    wait = loop._selector.select
    monkeypatch.setattr(loop._selector, "select", lambda timeout: (asked.append(timeout), wait(timeout))[1])
    until = loop.now() + 0.2
    while loop.now() < until:
        loop.turn(until)
    assert asked[0] is None
    rung: list[float] = []
    loop.call_at(loop.now() + 0.1, lambda: rung.append(loop.now()))
    while not rung:
        loop.turn(NEVER)
    loop.close()


@needs_alarms
def test_an_instant_that_comes_nearer_is_kept_and_one_that_is_put_off_does_no_harm() -> None:
    loop = Loop()
    far, near = loop.now() + 1000, loop.now() + 0.1
    loop.call_at(loop.now() + 0.02, lambda: None)
    loop.turn(far)
    while loop.now() < near:
        loop.turn(near)
    later = loop.now() + 0.1
    while loop.now() < later:
        loop.turn(later)
    assert loop._alarm.at in (NEVER, later)
    loop.close()


def test_without_alarms_the_clock_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    monkeypatch.setattr(loop._alarm, "fd", -1)
    assert loop._patience(loop.now() + 1000) == WAIT_SECONDS_MAX
    assert loop._patience(NEVER) is None
    assert loop._patience(loop.now() - 1) == 0


@needs_alarms
def test_the_switch_waits_for_the_end_of_a_lease_and_then_looks_again_and_again() -> None:
    reads, writes = os.pipe()
    switch = Watchdog(0, reads, "")
    assert switch.wait_milliseconds() == -1 and not rings(switch.alarm)
    switch.guarded["x.1"] = Guarded("x.1", 0, "", 10.0)
    switch.renewed_at = lease_now()
    assert switch.wait_milliseconds() == -1 and switch.alarm.at == switch.renewed_at + 10
    switch.renewed_at = lease_now() - 9.95
    assert switch.wait_milliseconds() == -1 or switch.overdue()
    assert rings(switch.alarm, 60_000) and switch.overdue()
    assert switch.wait_milliseconds() > 0 and not rings(switch.alarm), "it does not spin on what does not go"
    switch.alarm.close()
    for fd in (reads, writes):
        os.close(fd)
