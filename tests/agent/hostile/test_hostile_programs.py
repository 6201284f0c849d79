"""Nothing of a program is left when the keeper has ended it, however it tries, at each level of containment."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.containment import detect, files
from agent.containment.leaf import ContainmentError
from agent.keeper.messages import Limits
from agent.keeper.system import Tree
from tests.agent.hostile import programs
from tests.support.programs import Bench, Heard, open_bench

ROOM = 300
"""Processes that all of a test's programs may be at once: a bomb that the code under test does not stop must not stop us."""
AHEAD_SECONDS = 0.6
"""CPU time that a tree may be ahead of its share, between two looks of a keeper that has to wait for a core itself."""
LEVELS = ["cgroup1", "cgroup2", "session"]
tokens = itertools.count()


@pytest.fixture
def room() -> Iterator[str]:
    """A control group around the test, which the test's own thread is in. Its directory."""
    pids = [each.directory for each in detect.find_hierarchies() if "pids" in each.controllers]
    if not pids or not os.access(pids[0], os.W_OK):
        pytest.skip("bombs are only let off where a control group of pids can bound them: needs root, and version 1")
    path = f"{pids[0]}/tests-{os.getpid()}"
    files.make_group(path)
    try:
        files.write(f"{path}/pids.max", str(ROOM))
        files.write(f"{path}/cgroup.procs", str(os.getpid()))
        yield path
    finally:
        files.write(f"{pids[0]}/cgroup.procs", str(os.getpid()))
        files.write(f"{path}/pids.max", "0")
        for pid in files.pids(f"{path}/cgroup.procs"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        while not files.remove_with_groups(path):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)


@pytest.fixture(params=LEVELS)
def bench(request: pytest.FixtureRequest, room: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    level = request.param
    if level == "cgroup2":  # where version 1 has the controllers, this holds trees together; limits are sampled
        second = [each for each in detect.find_hierarchies() if each.version == 2]
        monkeypatch.setattr(detect, "find_hierarchies", lambda: second)
    with contextlib.ExitStack() as stack:
        try:
            bench = stack.enter_context(open_bench("session" if level == "session" else "cgroup"))
        except ContainmentError as exc:
            pytest.skip(str(exc))
        if bench.system.isolation() != level:
            pytest.skip(f"this machine has {bench.system.isolation()}")
        yield bench


class Hostile:
    """One program under way."""

    def __init__(
        self, bench: Bench, way: str, limits: Limits | None = None, *, python: str = sys.executable, file: str = ""
    ) -> None:
        self.bench = bench
        self.token = f"hostile-{os.getpid()}-{next(tokens)}"
        self.tree: Tree
        self.heard: Heard
        script = file or str(Path(programs.__file__))
        self.tree, self.heard = bench.launch(python, "-S", "-E", script, self.token, way, limits=limits)

    def alive(self) -> list[int]:
        """Whoever has the token on its command line, and is no zombie."""
        found = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if name.isdigit() and self.token.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
        return found

    def until_ready(self) -> None:
        self.bench.until(lambda: b"ready" in self.heard.output[1])

    def end(self) -> None:
        """As the keeper does: SIGTERM, and what does not obey is killed until nothing is left."""
        self.tree.terminate()
        for _ in range(5):
            self.bench.turn(0.01)
        self.until_gone()

    def until_gone(self) -> None:
        def is_gone() -> bool:
            if self.tree.is_alive():
                self.tree.kill()
            return self.heard.exit is not None and not self.tree.is_alive()

        self.bench.until(is_gone)
        assert self.alive() == []
        self.tree.close()


@pytest.mark.parametrize(
    "way",
    [
        "deaf",
        "daemon",
        "daemon_of_the_living",
        "stopped",
        "traced",
        "threads",
        "hydra",
        "comet",
    ],
)
def test_nothing_is_left_of(way: str, bench: Bench, room: str) -> None:
    before = files.number(f"{room}/pids.current")
    hostile = Hostile(bench, way)
    hostile.until_ready()
    assert files.number(f"{room}/pids.current") > before
    hostile.end()
    bench.until(lambda: files.number(f"{room}/pids.current") <= before)  # an earlier test may have been ending still


@pytest.mark.parametrize("way", ["bomb", "bomb_of_sessions"])
def test_nothing_is_left_of_what_fills_all_the_room(way: str, bench: Bench, room: str) -> None:
    """And what does not stop trying to fork. Nobody reads its command line meanwhile: that would wait for its forks."""
    hostile = Hostile(bench, way)
    bench.until(lambda: files.number(f"{room}/pids.current") >= ROOM)
    hostile.end()
    bench.until(lambda: files.number(f"{room}/pids.current") < ROOM // 10)
    assert hostile.alive() == []


@pytest.mark.parametrize("way", ["bomb", "bomb_of_sessions"])
def test_a_bomb_is_ended_for_its_limit(way: str, bench: Bench) -> None:
    """Nobody has to ask for its end; who asks why is told."""
    hostile = Hostile(bench, way, Limits(processes=40))
    bench.until(lambda: hostile.tree.exceeded() is not None)
    reason, sentence = hostile.tree.exceeded() or ("", "")
    assert reason == "processes" and "40" in sentence
    hostile.until_gone()
    assert hostile.tree.exceeded() == (reason, sentence)


@pytest.mark.parametrize("way", ["bomb", "bomb_of_sessions"])
def test_a_bomb_without_a_limit_is_ended_at_its_share(way: str, room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "process_ceiling", lambda sources: 200)
    with contextlib.ExitStack() as stack:
        try:
            bench = stack.enter_context(open_bench("cgroup"))
        except ContainmentError as exc:
            pytest.skip(str(exc))
        if bench.system.limits()["processes"] == "sampled":
            pytest.skip("no controller counts processes here")
        hostile = Hostile(bench, way)
        bench.until(lambda: hostile.heard.exit is not None and not hostile.tree.is_alive())  # nobody asks for its end
        assert hostile.alive() == []
        hostile.tree.close()
        reason, sentence = hostile.tree.exceeded() or ("", "")
        assert reason == "processes" and "the 40 of a job without max_processes" in sentence


def test_threads_count_as_processes(bench: Bench) -> None:
    hostile = Hostile(bench, "threads", Limits(processes=10))
    bench.until(lambda: hostile.heard.exit is not None)
    assert (hostile.tree.exceeded() or ("",))[0] == "processes"
    hostile.until_gone()


def test_enough_room_is_no_reason(bench: Bench) -> None:
    hostile = Hostile(bench, "threads", Limits(processes=60, memory_bytes=512 * 1024 * 1024, cpu_cores=2.0))
    hostile.until_ready()
    assert hostile.tree.exceeded() is None
    assert hostile.tree.usage().processes in (41, 42, 22)
    hostile.end()
    assert hostile.tree.exceeded() is None


def test_memory_over_its_limit_ends_the_whole_tree(bench: Bench) -> None:
    """The kernel kills one process; the others must not go on as if nothing had been."""
    hostile = Hostile(bench, "hog", Limits(memory_bytes=64 * 1024 * 1024))
    bench.until(lambda: hostile.heard.exit is not None)
    assert hostile.heard.exit is not None and hostile.heard.exit.signal == 9
    reason, sentence = hostile.tree.exceeded() or ("", "")
    assert reason == "memory" and "64 MiB" in sentence
    assert b"had it all" not in hostile.heard.output[1]
    hostile.until_gone()


def test_cpu_is_held_at_its_share(bench: Bench) -> None:
    """A tree of four that could have all cores gets a fifth of one, and is not ended for it. Where it is sampled and the
    keeper had to wait for a core itself, it was ahead, and has to wait until it is not."""
    start = bench.system.now()
    hostile = Hostile(bench, "spin", Limits(cpu_cores=0.2))
    bench.until(lambda: bench.system.now() > start + 3.0)

    def is_at_its_share() -> bool:
        return hostile.tree.usage().cpu_seconds < 0.2 * (bench.system.now() - start) + AHEAD_SECONDS

    bench.until(is_at_its_share)
    used = hostile.tree.usage().cpu_seconds
    bench.until(lambda: hostile.tree.usage().cpu_seconds > used)
    assert hostile.tree.exceeded() is None
    hostile.end()


def test_what_is_held_back_can_still_be_told_to_end(bench: Bench) -> None:
    hostile = Hostile(bench, "spin", Limits(cpu_cores=0.01))
    hostile.until_ready()
    start = bench.system.now()
    bench.until(lambda: bench.system.now() > start + 0.5)
    hostile.tree.terminate()
    bench.until(lambda: hostile.heard.exit is not None)
    assert hostile.heard.exit is not None and hostile.heard.exit.signal == 15
    hostile.until_gone()


def test_another_program_is_left_alone(bench: Bench) -> None:
    """Both leave orphans that nothing connects with them."""
    one, other = Hostile(bench, "daemon_of_the_living"), Hostile(bench, "daemon_of_the_living")
    one.until_ready()
    other.until_ready()
    living = other.alive()
    one.end()
    assert other.alive() == living and other.tree.is_alive()
    other.end()
