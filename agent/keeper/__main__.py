"""The keeper's process. Started by the dead-man's switch (`watchdog`), which `client` starts."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from attrs import frozen

from agent import process_tree
from agent.containment.calls import prefer_this_process
from agent.containment.leaf import ContainmentError
from agent.keeper.core import Keeper, KeeperProfile
from agent.keeper.disk import KeeperDisk
from agent.keeper.loop import NEVER, Loop
from agent.keeper.place import BUSY, Identity, Place, read_identity, write_identity
from agent.keeper.socket import Agents
from agent.keeper.spawning import OperatingSystem
from agent.keeper.switch import PipeSwitch
from hetuflow.ports.disk import DiskError

LINGER_SECONDS: Final = 5.0
"""How long a keeper with nothing to do waits for an agent."""
FIRST_SECONDS: Final = 30.0
"""Likewise, for the first one."""
ENDING_SECONDS_MAX: Final = 1.0
"""A keeper that has let go of its lock has ended by then."""
ENDING_SECONDS_STEP: Final = 0.02
COMPLAINTS_BYTES_MAX: Final = 1024 * 1024
GARBAGE_OBJECTS: Final = 10_000
"""Between two looks for garbage in cycles, of which the keeper makes little: every 700 objects they were a tenth of its work."""
STOPPED: Final = "the keeper was stopped"


@frozen(slots=True, kw_only=True)
class Given:
    """What the keeper is started with: JSON, as its only argument."""

    state_dir: str
    version: str
    boot_id: str
    mark: str
    ready_fd: int
    """Says "ready", or what is wrong."""
    switch_fd: int
    """To the dead-man's switch; see `switch`."""
    agent_id: str = "agent"
    isolation: str = "auto"
    """See `agent.containment.ISOLATIONS`."""


def main() -> int:
    given = Given(**json.loads(sys.argv[1]))
    for fd in (given.ready_fd, given.switch_fd):
        os.set_inheritable(fd, False)
    os.umask(0o077)
    place = Place(given.state_dir)
    try:
        with _locked(place):
            with contextlib.suppress(OSError):
                os.ftruncate(2, 0)  # what was said before is of an earlier one
            _keep(given, place)
    except (DiskError, ContainmentError, OSError) as exc:
        _complain(str(exc))
        with contextlib.suppress(OSError):
            os.write(given.ready_fd, f"{BUSY if isinstance(exc, Busy) else exc}\n".encode())
        return 1
    return 0


def _keep(given: Given, place: Place) -> None:
    disk, loop = KeeperDisk(), Loop(_complain)
    stopping = _stop_signals(loop)
    bystanders = [os.getppid()]

    def tell(watchdog_pid: int) -> None:
        try:
            write_identity(disk, place, _identity(given, watchdog_pid))
        except DiskError as exc:
            _complain(str(exc))

    switch = PipeSwitch(given.switch_fd, given.mark, loop, bystanders, _complain, tell)
    profile = KeeperProfile(
        log_path=place.log,
        pid=os.getpid(),
        version=given.version,
        boot_id=given.boot_id,
        mark=given.mark,
        is_copy=_is_copy(given, place, disk),
    )
    system = OperatingSystem(loop, agent=given.agent_id, isolation=given.isolation, bystanders=bystanders)
    switch.group_of = system.group_of
    system.give_up_privileges()
    prefer_this_process()
    if system.isolation_reason:
        _complain(f"isolation is {system.isolation()}, because {system.isolation_reason}")
    keeper = Keeper(system, disk, profile, switch=switch, complain=_complain)
    agents = Agents(place, loop, keeper, _complain)
    write_identity(disk, place, _identity(given, os.getppid()))
    os.write(given.ready_fd, b"ready\n")
    os.close(given.ready_fd)
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)
    _serve(loop, system, keeper, agents, switch, stopping)
    agents.close()
    keeper.close()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place.socket)
    system.close()
    switch.goodbye()


def _is_copy(given: Given, place: Place, disk: KeeperDisk) -> bool:
    """Whether these files are another directory's: the keeper that they name runs, and has not the lock, which is ours."""
    named = read_identity(disk, place)
    for _ in range(round(ENDING_SECONDS_MAX / ENDING_SECONDS_STEP)):
        if named is None or not named.is_alive(given.boot_id):
            return False
        time.sleep(ENDING_SECONDS_STEP)
    return True


def _serve(
    loop: Loop,
    system: OperatingSystem,
    keeper: Keeper,
    agents: Agents,
    switch: PipeSwitch,
    stopping: Callable[[], bool],
) -> None:
    """Until there is nothing to keep."""
    done_at = loop.now() + FIRST_SECONDS
    while True:
        now = loop.now()
        if stopping() and not keeper.is_stopping:
            keeper.stop(STOPPED)
        due = system.tick(now)
        keeper.tick()
        switch.flush()
        agents.pump()
        if not keeper.is_done:
            done_at = NEVER
        elif keeper.is_stopping or keeper.has_left or now >= done_at:
            return
        elif done_at == NEVER:
            done_at = now + LINGER_SECONDS
        loop.turn(min(keeper.next_deadline, due, done_at))


def _stop_signals(loop: Loop) -> Callable[[], bool]:
    """SIGTERM ends everything. A terminal's signals are for the agent; a handler, for what is ignored is inherited."""
    received: list[int] = []
    wakes, waker = socket.socketpair()
    for each in (wakes, waker):
        each.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    for ignored in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, lambda number, frame: None)

    def drain() -> None:
        with contextlib.suppress(BlockingIOError):
            wakes.recv(64)

    loop.watch(wakes.fileno(), drain)
    received_waker.append(waker)
    return lambda: bool(received)


received_waker: list[socket.socket] = []
"""Lives as long as the process."""


def _identity(given: Given, watchdog_pid: int) -> Identity:
    return Identity(
        pid=os.getpid(),
        start_time=process_tree.identity(os.getpid()) or "",
        boot_id=given.boot_id,
        version=given.version,
        watchdog_pid=watchdog_pid,
        isolation=given.isolation,
    )


class Busy(DiskError):
    """There is another keeper."""


@contextlib.contextmanager
def _locked(place: Place) -> Iterator[None]:
    """One keeper per state directory: the kernel lets go of the lock when it dies. Raises `Busy`."""
    fd = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another keeper holds {place.lock}") from None
        yield
    finally:
        os.close(fd)


class _Complaints:
    """Lines on standard error, at most `COMPLAINTS_BYTES_MAX` of them: the disk is not the keeper's to fill."""

    def __init__(self) -> None:
        self._bytes_left = COMPLAINTS_BYTES_MAX

    def __call__(self, problem: str) -> None:
        line = f"keeper {os.getpid()}: {problem}\n".encode(errors="replace")
        if len(line) <= self._bytes_left:
            self._bytes_left -= len(line)
            with contextlib.suppress(OSError):
                os.write(2, line)


_complain = _Complaints()


if __name__ == "__main__":
    sys.exit(main())
