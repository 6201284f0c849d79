"""One life of the agent's process: the real ports around `Agent`, the signals it obeys, and how it begins a next one.

SIGTERM and SIGINT end the running work and the agent; SIGUSR1 and SIGUSR2 are `agent restart --keep` and `--drain`. A next
life is the same process with the same command line and whatever code is installed now (exec): the pid stays, the lock
files are let go of and taken again. Signals wait meanwhile, from the last turn of one life's loop to the first of the next's:
by default they would end a process that has no handlers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Final, NoReturn

import structlog
import trio

from agent import host, process_tree
from agent.daemon import Agent, Farewell, Ports
from agent.directories import RecycledDirectories
from agent.facts import SystemFacts
from agent.keeper.client import ProcessKeepers
from agent.keeping import KeeperError, Keepers
from agent.log_ring import LogRing
from agent.preparation import Preparations
from agent.profile import Profile
from agent.status import StatusFile
from agent.system_tree import SystemTree
from agent.websocket import open_dialer
from hetuflow.ports.files import LateFileWatcher
from hetuflow.ports.real import SystemClock, SystemDisk, SystemIds, SystemRandom

log = structlog.get_logger()

KEEPER_FEATURES: Final = ("keeper", "limits", "manners", "policies")
"""What a keeper of its own adds to what the agent can do."""
RESTART_SIGNALS: Final = {signal.SIGUSR1: Farewell.KEPT, signal.SIGUSR2: Farewell.DRAINED}
_NOTED: Final = "_HETUFLOW_SIGNALS_FD"
"""Names a pipe that one life leaves to the next."""
_NOTES_MAX: Final = 65_536
"""A byte for each signal; the pipe holds no more."""
_OBEYED: Final = (signal.SIGTERM, signal.SIGINT, *RESTART_SIGNALS)


async def live(
    profile: Profile,
    disk: SystemDisk,
    ids: SystemIds,
    base_environment: Mapping[str, str],
    preparations: Preparations,
    ring: LogRing,
) -> Farewell:
    """Until it is to end; how. Raises `DiskError`, `KeeperError`."""
    async with _keepers(profile, disk, ids) as keepers, open_dialer() as dialer, trio.open_nursery() as nursery:
        agent = Agent(
            profile,
            Ports(
                clock=SystemClock(),
                ids=ids,
                random=SystemRandom(),
                disk=disk,
                dialer=dialer,
                keepers=keepers,
                directories=RecycledDirectories(disk),
                leftovers=host.SystemLeftovers(),
                facts=SystemFacts(),
                log_ring=ring,
                gauges=host.SystemGauges(profile.work_dir),
                files=LateFileWatcher(),
                tree=SystemTree(),
                base_environment=base_environment,
                preparations=preparations,
                tell=StatusFile(profile).write,
            ),
        )
        await nursery.start(_obey, agent, nursery.cancel_scope)
        problem = None
        try:
            await agent.run()
        except KeeperError as exc:
            problem = exc
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem
    return agent.farewell or Farewell.STOPPED


def begin_anew() -> NoReturn:
    """Become the next life. The caller holds nothing any more that must be given back."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _OBEYED)
    _note_what_other_threads_take()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def keeper_features() -> tuple[str, ...]:
    return KEEPER_FEATURES if process_tree.HAS_PROC else ()


@contextlib.asynccontextmanager
async def _keepers(profile: Profile, disk: SystemDisk, ids: SystemIds) -> AsyncIterator[Keepers]:
    """Processes of their own where there is a /proc to find them by; elsewhere they live in this one."""
    if process_tree.HAS_PROC:
        yield ProcessKeepers(
            state_dir=profile.state_dir, boot_id=profile.boot_id, disk=disk, ids=ids, isolation=profile.isolation
        )
        return
    from agent.inside import InsideKeepers
    from agent.processes import open_processes

    async with open_processes() as runner:
        yield InsideKeepers(runner, disk, SystemClock(), host.SystemLeftovers())


async def _obey(agent: Agent, life: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    """Until `life` is cancelled, in which nobody obeys any more: what comes then is for the next life, if there is one."""
    for number in _OBEYED:
        signal.signal(number, _put_off)  # trio puts back what it finds
    _raise_what_was_noted()
    try:
        with trio.open_signal_receiver(*_OBEYED) as received:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _OBEYED)
            task_status.started()
            async for got in received:
                if life.cancel_called:
                    _put_off(got)
                else:
                    _do(agent, signal.Signals(got))
    finally:
        if agent.farewell in (None, Farewell.STOPPED):  # one that hangs at its end can be ended
            for number in _OBEYED:
                signal.signal(number, signal.SIG_DFL)


def _do(agent: Agent, number: signal.Signals) -> None:
    farewell = RESTART_SIGNALS.get(number)
    if farewell is None:
        log.info("stop requested", signal=number.name)
        agent.request_stop()
    else:
        log.info("restart requested", signal=number.name)
        agent.request_restart(farewell)


def _put_off(number: int, frame: object = None) -> None:
    """Leave it pending, which outlives an exec. As a handler and not only a mask: threads that trio keeps do not block it, and
    the system gives it to one of those then, with whatever action it has in the whole process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _OBEYED)
    signal.raise_signal(number)


def _note_what_other_threads_take() -> None:
    """From here on: this thread masks the signals, others do not, and an exec ends them with what they took and no handler
    has seen. Python writes each into a pipe as it comes, and that is handed on."""
    reads, writes = os.pipe()
    os.set_inheritable(reads, True)
    os.set_blocking(reads, False)
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    os.environ[_NOTED] = str(reads)


def _raise_what_was_noted() -> None:
    """In the next life, where they are still masked: each is pending then, once."""
    reads = os.environ.pop(_NOTED, "")
    if not reads:
        return
    try:
        taken = os.read(int(reads), _NOTES_MAX)
    except BlockingIOError:  # none
        taken = b""
    finally:
        os.close(int(reads))
    for number in set(taken) & set(_OBEYED):
        _put_off(number)
