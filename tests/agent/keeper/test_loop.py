"""How the keeper and its switch wait: for descriptors, and for instants of a clock that goes on while the machine sleeps."""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.keeper import loop as loop_module
from agent.keeper.loop import NEVER, WAIT_SECONDS_MAX, Loop, lease_now
from agent.keeper.polling import AnyPoller, Poller, new_poller
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
    wait = loop._poller.poll
    monkeypatch.setattr(loop._poller, "poll", lambda timeout: (asked.append(timeout), wait(timeout))[1])
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


@pytest.mark.parametrize("poller", [new_poller, AnyPoller])
def test_who_reads_and_who_writes_is_called_and_both_when_the_other_end_is_gone(
    poller: Callable[[], Poller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "new_poller", poller)
    loop = Loop()
    ours, theirs = socket.socketpair()
    called: list[str] = []
    fd = ours.fileno()
    loop.watch(fd, lambda: called.append("read"))
    loop.turn(loop.now())
    assert called == []
    loop.watch_writable(fd, lambda: called.append("write"))
    loop.turn(NEVER)
    assert called == ["write"]
    theirs.send(b"x")
    loop.turn(NEVER)
    assert called == ["write", "read", "write"]
    loop.unwatch_writable(fd)
    loop.unwatch_writable(fd)
    loop.turn(NEVER)
    assert called[3:] == ["read"]
    ours.recv(1)
    loop.watch_writable(fd, lambda: called.append("write"))
    theirs.close()
    loop.turn(NEVER)
    assert called[4:] == ["read", "write"]
    loop.unwatch(fd)
    loop.unwatch(fd)
    loop.turn(loop.now())
    assert len(called) == 6
    ours.close()
    loop.close()


@pytest.mark.parametrize("poller", [new_poller, AnyPoller])
def test_what_cannot_be_watched_is_not(
    poller: Callable[[], Poller], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loop_module, "new_poller", poller)
    loop = Loop()
    with (tmp_path / "file").open("wb") as file:  # epoll refuses a file
        for _ in range(2):
            with pytest.raises(OSError):
                loop.watch(file.fileno(), lambda: None)
            loop.unwatch(file.fileno())
    loop.close()


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
