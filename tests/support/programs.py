"""Real programs under the keeper's real system, without a keeper: a loop to run them in, and a listener that remembers."""

from __future__ import annotations

import contextlib
import os
import selectors
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import define, field

from agent.keeper.messages import Launch, Limits, Manners
from agent.keeper.spawning import OperatingSystem
from agent.keeper.system import Tree, Wanted
from hetuflow.ports.processes import Exit

PATIENCE_SECONDS = 60


@define(slots=True, eq=False)
class Heard:
    """What a listener was told."""

    output: dict[int, bytes] = field(factory=lambda: {1: b"", 2: b""})
    is_closed: bool = False
    exit: Exit | None = None

    def wrote(self, stream: int, data: bytes) -> None:
        assert not self.is_closed
        self.output[stream] += data

    def closed(self) -> None:
        assert not self.is_closed
        self.is_closed = True

    def exited(self, exit_: Exit) -> None:
        assert self.exit is None
        self.exit = exit_


class Bench:
    """A system and its loop. `launch` starts a program; the `until…` turn the loop until something is so."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._system: OperatingSystem | None = None
        self._launched = 0

    @property
    def system(self) -> OperatingSystem:
        assert self._system is not None
        return self._system

    @system.setter
    def system(self, system: OperatingSystem) -> None:
        self._system = system

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def unwatch(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def launch(
        self,
        *argv: str,
        directory: str = "/",
        stdin: bytes = b"",
        capture_output: bool = True,
        limits: Limits | None = None,
        manners: Manners | None = None,
        **environment: str,
    ) -> tuple[Tree, Heard]:
        self._launched += 1
        name = f"bench-{os.getpid()}-{self._launched}"
        heard = Heard()
        launch = Launch(
            task_id="t",
            instance_id=name,
            epoch=1,
            argv=argv,
            environment={"PATH": os.environ["PATH"], "HETUFLOW_INSTANCE_ID": name, **environment},
            directory=directory,
            spool_path="",
            capture_output=capture_output,
            stdin=stdin,
            limits=limits or Limits(),
            manners=manners or Manners(no_new_privs=False),
        )
        return self.system.spawn(Wanted(launch, launch.environment, heard)), heard

    def until(self, condition: Callable[[], bool], *, pause: float = 0.01) -> None:
        """`pause`: between two looks, for what the kernel does without telling anybody."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "still not so"
            self.turn(pause)

    def turn(self, seconds: float) -> None:
        now = self.system.now()
        due = self.system.tick(now)
        for key, _ in self._selector.select(max(0.0, min(seconds, due - now))):
            if key.fd in self._selector.get_map():
                key.data()

    def finish(self, tree: Tree, heard: Heard) -> Exit:
        """Turn until the program has ended, with its output and its whole tree."""
        self.until(lambda: heard.exit is not None and heard.is_closed and not tree.is_alive())
        tree.close()
        assert heard.exit is not None
        return heard.exit

    def close(self) -> None:
        self.system.close()
        self._selector.close()


@contextlib.contextmanager
def open_bench(isolation: str = "auto") -> Iterator[Bench]:
    """What earlier tests have orphaned is none of its business."""
    bench = Bench()
    bystanders = tuple(children_of_this_process())
    bench.system = OperatingSystem(bench, agent="tests", isolation=isolation, bystanders=bystanders)
    try:
        yield bench
    finally:
        bench.close()


def open_to_all(place: Path) -> None:
    """Let every user reach what lies in a test's directory: the test runner's own directories above it are private."""
    root = Path(tempfile.gettempdir()).resolve()
    for directory in (place, *place.parents):
        if directory.resolve() == root or directory.stat().st_uid != os.geteuid():
            return
        directory.chmod(0o755)


def children_of_this_process() -> set[int]:
    """Zombies too. What earlier tests orphaned is among them: opening a bench makes this process adopt such."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))
