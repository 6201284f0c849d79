"""What a dead-man's switch is told that was stopped: how things are now, and not all that has been."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

import pytest

from agent.keeper.loop import Loop, lease_now
from agent.keeper.messages import Lease, Settled
from agent.keeper.switch import AGAIN_SECONDS, PipeSwitch
from agent.keeper.watchdog import Watchdog
from tests.agent.keeper.world import World


class Scene:
    """A keeper's core with its end of the pipe, and a switch at the other that reads when a test says so."""

    def __init__(self) -> None:
        reads, writes = os.pipe()
        self.loop, self.world = Loop(), World()
        self.world.machine.seconds = lease_now()
        self.switch = PipeSwitch(writes, "mark", self.loop, [])
        self.world.keeper._switch = self.switch
        self.world.attach()
        self.watchdog = Watchdog(os.getpid(), reads, "")

    def renew(self, renewed_at: float) -> None:
        self.world.say(Lease(renewed_at=renewed_at))

    def run_through(self, count: int) -> None:
        """So many programs, each to its end."""
        for number in range(count):
            self.world.launch(f"short-{number}").exit(0)
            self.world.settle()
            self.world.say(Settled(ended=((f"short-{number}", 1),)))

    def turn(self) -> None:
        """The keeper's loop does what it can, while nobody reads."""
        for _ in range(10):
            self.loop.turn(self.loop.now())


@pytest.fixture
def scene() -> Iterator[Scene]:
    found = Scene()
    yield found
    found.switch.goodbye()
    found.loop.close()
    found.watchdog.alarm.close()
    for fd in (found.watchdog.reads, found.switch._fd):
        with contextlib.suppress(OSError):
            os.close(fd)


def test_a_switch_that_was_stopped_hears_of_the_renewal_when_it_looks_again(scene: Scene) -> None:
    """It looks twice before it kills: what stood in the pipe is old, what comes then must not be."""
    begun = scene.world.machine.seconds
    scene.renew(begun)
    scene.world.launch("long", lease_seconds=60.0)
    scene.run_through(3000)
    scene.renew(begun + 30)
    scene.watchdog.read()
    scene.turn()
    scene.watchdog.read()
    assert scene.watchdog.renewed_at == begun + 30


def test_what_waits_to_be_told_to_a_stopped_switch_is_no_more_than_what_runs(scene: Scene) -> None:
    tree = scene.world.launch("long")
    scene.run_through(6000)
    last = scene.world.launch("last")
    for _ in range(3):
        scene.watchdog.read()
        scene.turn()
    assert {guarded.pid for guarded in scene.watchdog.guarded.values()} == {tree.pid, last.pid}
    tree.exit(0)
    scene.world.settle()
    scene.watchdog.read()
    assert {guarded.pid for guarded in scene.watchdog.guarded.values()} == {last.pid}


def test_a_switch_that_cannot_be_had_now_is_had_later(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no process left for the moment."""
    said: list[str] = []
    now = [scene.loop.now()]
    scene.switch._complain = said.append
    monkeypatch.setattr(scene.loop, "now", lambda: now[0])

    def refuse(*arguments: object, **named: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_spawn", refuse)
        os.close(scene.watchdog.reads)
        scene.loop.turn(now[0])
        assert "Resource temporarily unavailable" in said[-1]
    now[0] += AGAIN_SECONDS
    scene.loop.turn(now[0])
    [replacement] = scene.switch._bystanders
    scene.switch.goodbye()
    os.close(scene.switch._fd)
    scene.switch._fd = -1
    assert os.waitpid(replacement, 0)[1] == 0
