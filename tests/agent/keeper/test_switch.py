"""What a dead-man's switch is told that was stopped: how things are now, and not all that has been."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent import process_tree
from agent.keeper import watchdog
from agent.keeper.loop import Loop, lease_now
from agent.keeper.messages import Lease, Settled
from agent.keeper.switch import AGAIN_SECONDS, PipeSwitch
from agent.keeper.system import Wanted
from agent.keeper.watchdog import FROM_STDIN, GATHER_SECONDS, Watchdog, kill_group
from tests.agent.keeper.world import World, launch


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
            self.switch.flush()
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
    scene.turn()
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


def test_a_switch_that_has_heard_something_gathers_more_before_it_looks_again(scene: Scene) -> None:
    """To be woken for each program costs more than the program's news. While nothing is said it sleeps for good."""
    assert scene.watchdog.is_quiet and scene.watchdog.wait_milliseconds() == -1
    tree = scene.world.launch("one")
    scene.watchdog.read()
    assert not scene.watchdog.is_quiet
    assert 0 < scene.watchdog.wait_milliseconds() <= 1000 * GATHER_SECONDS + 1
    scene.watchdog.read()
    assert scene.watchdog.is_quiet and [each.pid for each in scene.watchdog.guarded.values()] == [tree.pid]


def test_what_began_and_ended_between_two_looks_leaves_nothing(scene: Scene) -> None:
    scene.run_through(10)
    tree = scene.world.launch("last")
    scene.turn()
    scene.watchdog.read()
    assert [each.pid for each in scene.watchdog.guarded.values()] == [tree.pid]
    assert not scene.watchdog.fresh


def test_what_is_about_to_be_started_is_guarded_already(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper that is stopped in the middle of starting several says no more."""
    machine, known = scene.world.machine, []
    spawn_all = machine.spawn_all

    def spawn(wanted: Sequence[Wanted]) -> object:
        scene.watchdog.read()
        known.extend((each.mark, each.pid, each.lease_seconds, each.group) for each in scene.watchdog.guarded.values())
        return spawn_all(wanted)

    monkeypatch.setattr(machine, "spawn_all", spawn)
    scene.switch.group_of = lambda key: f"/groups/{key[0]}.{key[1]}"
    scene.renew(machine.seconds)
    scene.world.keeper.receive_all([launch("a", lease_seconds=5.0), launch("b", lease_seconds=7.0)])
    assert known == [
        (b"HETUFLOW_INSTANCE_ID=a", 0, 5.0, "/groups/a.1"),
        (b"HETUFLOW_INSTANCE_ID=b", 0, 7.0, "/groups/b.1"),
    ]
    scene.watchdog.read()
    assert {each.pid for each in scene.watchdog.guarded.values()} == {tree.pid for tree in machine.trees.values()}


def test_what_was_not_started_after_all_is_guarded_no_more(scene: Scene) -> None:
    scene.world.machine.refusal = "no such program"
    scene.world.say(launch("a"))
    scene.turn()
    scene.watchdog.read()
    assert not scene.watchdog.guarded


@pytest.mark.parametrize(
    "said",
    [
        b"guard\ta.1\t7\t99\t3.5\t/g\n",
        b"guard\ta.1\t7\t99\t3.5\ngroup\ta.1\t/g\n",
        b"guard\ta.1\t7\t99\t3.5\t/g\tmore\n",
    ],
    ids=["this version", "an earlier one", "a later one"],
)
def test_what_is_guarded_is_understood_whoever_says_it(said: bytes) -> None:
    reads, writes = os.pipe()
    switch = Watchdog(0, reads, "")
    os.write(writes, b"nonsense\nguard\n\nguard\tb.1\tx\t\t\n" + said[:9])
    switch.read()
    os.write(writes, said[9:])
    switch.read()
    [guarded] = switch.guarded.values()
    found = (guarded.mark, guarded.pid, guarded.start, guarded.lease_seconds, guarded.group)
    assert found == (b"HETUFLOW_INSTANCE_ID=a", 7, "99", 3.5, "/g")
    switch.alarm.close()
    for fd in (reads, writes):
        os.close(fd)


def test_a_group_is_killed_without_the_keeper_that_is_just_starting_something_in_it(tmp_path: Path) -> None:
    program = subprocess.Popen(["sleep", "1000"])
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n{program.pid}\n")
    (tmp_path / "cgroup.kill").mkdir()  # cannot be written, as where the kernel has none
    kill_group(str(tmp_path), os.getpid())
    assert program.wait(60) == -9


@pytest.mark.skipif(not process_tree.HAS_PROC, reason="needs /proc")
def test_a_switch_acts_on_what_was_said_last_by_a_keeper_that_says_no_more() -> None:
    """It was stopped with its news in the pipe, behind others that have woken the switch already."""
    program = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    words = [sys.executable, "-I", "-S", watchdog.__file__, "mark", FROM_STDIN]
    switch = subprocess.Popen(words, stdin=subprocess.PIPE)
    try:
        assert switch.stdin is not None
        start, now = process_tree.identity(program.pid), lease_now()
        news = [
            f"renew\t{now!r}",
            "guard\tother.1\t0\t\t0.0\t",
            f"guard\tx.1\t{program.pid}\t{start}\t1.0\t",
        ]
        for line in news:
            os.write(switch.stdin.fileno(), f"{line}\n".encode())
        assert program.wait(60) == -9
        assert lease_now() >= now + 1
        os.write(switch.stdin.fileno(), b"goodbye\n")
        assert switch.wait(60) == 0
    finally:
        switch.kill()
        program.kill()
        switch.communicate()
        program.wait()
