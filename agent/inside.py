"""A keeper inside the agent, for systems on which it cannot be a process of its own: what it runs ends with the agent.

The life of one instance, as a list of verbs: start, wait (for the end, the time limit, a stop), end the rest of the tree,
finish the output. Ending a tree: SIGTERM, grace, SIGKILL until nothing is left. It is also done when the root has ended by
itself and left processes behind: a slot that is free must be free. Leases are the agent's own business here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any, Final

import structlog
import trio
from attrs import define, evolve, frozen

from agent.keeper.messages import Attach, End, Finished, Grew, KeeperMessage, Launch, Launched
from agent.keeping import Attached, KeeperEvent, Keeping
from agent.limits import KILL_GRACE_SECONDS, run_deadline, timeout_message
from agent.output import Capture
from agent.recovery import POLL_SECONDS, RESTARTED
from agent.spool import Owner, Spool
from agent.wakeup import Wakeup
from agent.workplace import Leftovers, NoLeftovers, instant
from hetuflow.ports.clock import Clock
from hetuflow.ports.disk import Disk
from hetuflow.ports.processes import Exit, ProcessRunner, ProcessSpec, RunningProcess, StartError

log = structlog.get_logger()

KILL_SECONDS_MAX: Final = 5.0
"""How long SIGKILL is repeated before the instance says that processes are left (uninterruptible ones)."""
DRAIN_SECONDS_MAX: Final = 2.0
"""How long output is awaited after the tree is gone: somebody outside may hold the pipe open."""
_LEFT: Final = "processes of it could not be ended and may still run"


@frozen(slots=True)
class Means:
    """What it runs programs with."""

    runner: ProcessRunner
    disk: Disk
    clock: Clock
    leftovers: Leftovers


class InsideKeepers:
    """See `agent.keeping.Keepers`: every one is new, and holds nothing."""

    why_gone = RESTARTED
    remembers = False

    def __init__(self, runner: ProcessRunner, disk: Disk, clock: Clock, leftovers: Leftovers | None = None) -> None:
        self._means = Means(runner, disk, clock, leftovers or NoLeftovers())

    def now(self) -> float:
        return trio.current_time()

    @asynccontextmanager
    async def opened(self, attach: Attach) -> AsyncIterator[Keeping]:
        async with trio.open_nursery() as nursery:
            yield InsideKeeper(self._means, nursery)
            nursery.cancel_scope.cancel()


class InsideKeeper:
    """See `agent.keeping.Keeping`."""

    problem: str | None = None

    def __init__(self, means: Means, nursery: trio.Nursery) -> None:
        self._means, self._nursery = means, nursery
        self._said: deque[KeeperEvent] = deque([Attached()])
        self._news = Wakeup()
        self._programs: dict[tuple[str, int], Program] = {}

    def send(self, message: KeeperMessage) -> None:
        match message:
            case Launch():
                key = (message.instance_id, message.epoch)
                if key not in self._programs:
                    program = self._programs[key] = Program(message, self._means, self._say)
                    self._nursery.start_soon(self._perform, program, name=f"instance {message.instance_id}")
            case End():
                ending = self._programs.get((message.instance_id, message.epoch))
                if ending is not None:
                    ending.end(message)
            case _:  # leases are the agent's, and nothing is held once it has ended
                pass

    def gathered(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self) -> Sequence[KeeperEvent]:
        while not self._said:
            await self._news.wait()
        said = list(self._said)
        self._said.clear()
        return said

    def _say(self, message: KeeperMessage) -> None:
        self._said.append(message)
        self._news.set()

    async def _perform(self, program: Program) -> None:
        try:
            finished = await program.live()
        except trio.Cancelled:
            raise
        except Exception as exc:  # a bug in one run must not end the others
            log.exception("an instance failed inside the agent", instance_id=program.launch.instance_id)
            finished = program.finished(Outcome("lost", f"internal error of the agent: {exc!r}"))
        del self._programs[(program.launch.instance_id, program.launch.epoch)]
        self._say(finished)


@define(slots=True)
class Outcome:
    """What a program has come to."""

    reason: str | None
    message: str | None = None
    exit: Exit | None = None


class Program:
    """One program and all that descends from it. `live` once; `end` at any time."""

    def __init__(self, launch: Launch, means: Means, say: Callable[[KeeperMessage], None]) -> None:
        self.launch, self._means, self._say = launch, means, say
        self._end: End | None = None
        self._patience = trio.CancelScope()
        self._pumped = trio.Event()
        self._started: float | None = None
        self._seconds = 0.0
        self._unsaid = b""
        owner = Owner(task_id=launch.task_id, instance_id=launch.instance_id, epoch=launch.epoch)
        self._spool = Spool(means.disk, launch.spool_path, owner, self)
        self._capture = Capture(self._spool, bytes_max=launch.output_bytes_max, grown=self._grown)

    def end(self, order: End) -> None:
        """The first reason counts."""
        if self._end is None:
            self._end = order
        self._patience.cancel()

    async def live(self) -> Finished:
        """From the start to the last byte of output. The process tree is gone when it returns, or is raised from."""
        if self._end is not None:
            return self.finished(Outcome(self._end.reason, self._end.message))
        spec = ProcessSpec(
            argv=self.launch.argv,
            environment=self.launch.environment,
            work_dir=self.launch.directory,
            capture_output=self.launch.capture_output,
        )
        try:
            process = await self._means.runner.start(spec)
        except StartError as exc:
            return self.finished(Outcome("start_error", str(exc)))
        self._say_launched(process)
        try:
            async with trio.open_nursery() as nursery:
                if self.launch.capture_output:
                    nursery.start_soon(self._pump, process)
                else:
                    self._pumped.set()
                outcome = await self._follow(process)
                if not self._pumped.is_set():
                    with trio.move_on_after(DRAIN_SECONDS_MAX):
                        await self._pumped.wait()
                nursery.cancel_scope.cancel()
        except BaseException:
            process.kill_tree()
            raise
        self._seconds = trio.current_time() - (self._started or 0.0)
        self._capture.finish(self._means.clock.now())
        if self._capture.error is not None:
            log.warning("output could not be spooled", instance_id=self.launch.instance_id, error=self._capture.error)
        return self.finished(outcome)

    def finished(self, outcome: Outcome) -> Finished:
        finished = Finished(
            instance_id=self.launch.instance_id,
            epoch=self.launch.epoch,
            completed_at=instant(self._means.clock.now()),
            duration_seconds=self._seconds,
            reason=outcome.reason,
            message=outcome.message,
            output=self._capture.summary() if self._started is not None and self.launch.capture_output else None,
        )
        return finished if outcome.exit is None else evolve(finished, **_facts(outcome.exit))

    # --- the verbs -------------------------------------------------------------------------------------------------

    def _say_launched(self, process: RunningProcess) -> None:
        self._started = trio.current_time()
        self._say(
            Launched(
                task_id=self.launch.task_id,
                instance_id=self.launch.instance_id,
                epoch=self.launch.epoch,
                pid=process.pid,
                identity=self._means.leftovers.identity(process.pid) or "",
                started_at=instant(self._means.clock.now()),
                isolation="session",
            )
        )

    async def _pump(self, process: RunningProcess) -> None:
        while (piece := await process.receive_output()) is not None:
            stream, data = piece
            self._capture.write(stream, data, self._means.clock.now())
        self._pumped.set()

    async def _follow(self, process: RunningProcess) -> Outcome:
        deadline = run_deadline(trio.current_time(), self.launch.timeout_seconds)
        with self._patience:
            self._patience.deadline = deadline
            ended = await process.wait()
        if not self._patience.cancelled_caught:
            outcome = _outcome_of(ended)
            if process.tree_is_alive():
                complete = await self._end_tree(process, KILL_GRACE_SECONDS)
                if not complete:
                    outcome.message = f"{outcome.message or 'ended'}; {_LEFT}"
            return outcome
        reason, message, grace_seconds = self._why_ended()
        complete = await self._end_tree(process, grace_seconds)
        if not complete:
            return Outcome(reason, f"{message}; {_LEFT}")
        return Outcome(reason, message, await process.wait())

    def _why_ended(self) -> tuple[str, str, float]:
        if self._end is not None:
            return self._end.reason, self._end.message, self._end.grace_seconds
        return "timeout", timeout_message(self.launch.timeout_seconds), self.launch.kill_grace_seconds

    async def _end_tree(self, process: RunningProcess, grace_seconds: float) -> bool:
        """SIGTERM, grace, SIGKILL. False when processes are left all the same."""
        process.terminate_tree()
        with trio.move_on_after(grace_seconds):
            await process.wait()
            await _until_gone(process)
            return True
        with trio.move_on_after(KILL_SECONDS_MAX):
            process.kill_tree()
            await _until_gone(process, again=process.kill_tree)
            await process.wait()
            return True
        return False

    # --- its spool, see `SmallSpools` --------------------------------------------------------------------------------

    def captured(self, owner: Owner, data: bytes) -> None:
        self._unsaid += data

    def spilled(self, owner: Owner) -> None:
        self._unsaid = b""

    def _grown(self) -> None:
        launch, data, self._unsaid = self.launch, self._unsaid, b""
        self._say(Grew(instance_id=launch.instance_id, epoch=launch.epoch, spool_bytes=self._spool.end, data=data))


async def _until_gone(process: RunningProcess, again: Callable[[], None] | None = None) -> None:
    delays = iter(POLL_SECONDS)
    while process.tree_is_alive():
        await trio.sleep(next(delays, POLL_SECONDS[-1]))
        if again is not None:
            again()


def _outcome_of(ended: Exit) -> Outcome:
    """How an end by itself counts."""
    if ended.signal is not None:
        return Outcome("signal", f"ended by signal {ended.signal}", ended)
    if ended.exit_code is None:
        return Outcome("lost", "the exit status could not be collected", ended)
    if ended.exit_code != 0:
        return Outcome("exit_code", f"ended with exit code {ended.exit_code}", ended)
    return Outcome(None, None, ended)


def _facts(exit_: Exit) -> dict[str, Any]:
    return {
        "exit_code": exit_.exit_code,
        "signal": exit_.signal,
        "metrics": {
            "cpu_time": exit_.cpu_seconds,
            "memory_peak": exit_.memory_peak_bytes,
            "disk_read": exit_.disk_read_bytes,
            "disk_write": exit_.disk_write_bytes,
            "network_in": 0,
            "network_out": 0,
        },
    }
