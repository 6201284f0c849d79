"""Runs instances: one task each, from acceptance to the report of its end, and never more at once than there are slots.

One life is a list of verbs: prepare the directory, start, report `Started`, wait (for the end, the time limit, a stop),
end the rest of the tree, finish the output, report `Ended`. Nothing here decides whether to try again: the server does.

Ending a tree: SIGTERM, grace, SIGKILL until nothing is left. It is also done when the root has ended by itself and left
processes behind: a slot that is free must be free.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol

import structlog
import trio
from attrs import define, field, frozen

from agent.directories import Directories
from agent.limits import KILL_GRACE_SECONDS, run_deadline, timeout_message
from agent.output import Capture, Owner, Shipment, Shipping, Spool
from agent.reports import Reports
from agent.wakeup import Wakeup
from hetuflow.ports.clock import Clock
from hetuflow.ports.disk import Disk, DiskError
from hetuflow.ports.processes import Exit, ProcessRunner, ProcessSpec, RunningProcess, StartError
from hetuflow.protocol.messages import Dispatch, Ended, Known, KnownState, Started

log = structlog.get_logger()

KILL_SECONDS_MAX: Final = 5.0
"""How long SIGKILL is repeated before the instance says that processes are left (uninterruptible ones)."""
DRAIN_SECONDS_MAX: Final = 2.0
"""How long output is awaited after the tree is gone: somebody outside may hold the pipe open."""
POLL_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)
INSTANCE_MARK: Final = "HETUFLOW_INSTANCE_ID"


def instant(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Leftovers(Protocol):
    """How processes of an earlier life are told apart and ended."""

    def identity(self, pid: int) -> str | None:
        """What tells this process apart from a later one with the same pid."""
        ...

    def of(self, instance_id: str, pid: int | None, identity: str | None) -> list[int]:
        """Live processes of the instance."""
        ...

    def kill(self, pids: list[int], *, forcefully: bool) -> None:
        """SIGTERM, or SIGKILL."""
        ...


class NoLeftovers:
    """For process runners without a past: nothing outlives the agent."""

    def identity(self, pid: int) -> str | None:
        return None

    def of(self, instance_id: str, pid: int | None, identity: str | None) -> list[int]:
        return []

    def kill(self, pids: list[int], *, forcefully: bool) -> None:
        pass


@frozen(slots=True, kw_only=True)
class Workplace:
    """Where and with what instances run."""

    work_dir: str
    slots: int
    base_environment: Mapping[str, str]
    runner: ProcessRunner
    disk: Disk
    clock: Clock
    directories: Directories
    leftovers: Leftovers = field(factory=NoLeftovers)


@frozen(slots=True)
class StopOrder:
    """Why a run is to end, and how the report says so. `silent`: no report is wanted."""

    reason: str
    message: str
    grace_seconds: float = KILL_GRACE_SECONDS
    silent: bool = False


@define(slots=True)
class Outcome:
    """What a run has come to, before it is a report."""

    reason: str | None
    message: str | None = None
    exit: Exit | None = None


class Executor:
    """Accepts dispatches and stops; `run` owns the tasks."""

    def __init__(self, workplace: Workplace, reports: Reports, shipping: Shipping, ready: Wakeup) -> None:
        self.workplace, self.reports, self.shipping, self._ready = workplace, reports, shipping, ready
        self._runs: dict[str, Run] = {}
        self._refusal: StopOrder | None = None
        self._nursery: trio.Nursery | None = None
        self._emptied = trio.Event()
        self._root_checked = False
        self._began = trio.current_time()
        self._ended_count = self._succeeded_count = 0
        self._run_seconds = 0.0

    @property
    def active_count(self) -> int:
        return len(self._runs)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the running instances until cancelled; their processes are killed then."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def dispatch(self, order: Dispatch) -> None:
        """Start an instance, or report why not. Repeated dispatches of the same epoch are one."""
        held = self._runs.get(order.instance_id)
        if (held is not None and held.order.epoch >= order.epoch) or self.reports.holds(order.instance_id, order.epoch):
            return
        refusal = self._why_refuse(held)
        if refusal is None:
            try:
                self.reports.accept(task_id=order.task_id, instance_id=order.instance_id, epoch=order.epoch)
            except DiskError as exc:
                refusal = f"the agent cannot write its journal: {exc}"
        if refusal is not None:
            self._report(order, Outcome("rejected", refusal))
            return
        assert self._nursery is not None, "Executor.run is not running"
        run = Run(self, order)
        self._runs[order.instance_id] = run
        self._nursery.start_soon(self._perform, run, name=f"instance {order.instance_id}")

    def stop(self, instance_id: str, epoch: int, order: StopOrder) -> None:
        """End the instance if it is held with this epoch (or an older one)."""
        run = self._runs.get(instance_id)
        if run is not None and run.order.epoch <= epoch:
            run.stop(order)

    def stop_all(self, order: StopOrder) -> None:
        for run in list(self._runs.values()):
            run.stop(order)

    def refuse_from_now(self, order: StopOrder) -> None:
        """Take nothing any more: the agent is stopping."""
        self._refusal = order

    async def wait_empty(self) -> None:
        while self._runs:
            self._emptied = trio.Event()
            await self._emptied.wait()

    def forget(self, instance_id: str) -> None:
        """The server wants to hear nothing of this instance."""
        run = self._runs.get(instance_id)
        if run is not None:
            run.stop(StopOrder("cancelled", "forgotten by the server", silent=True))

    def known(self) -> list[Known]:
        return [
            Known(
                task_id=run.order.task_id,
                instance_id=run.order.instance_id,
                epoch=run.order.epoch,
                state=KnownState.RUNNING if run.started_at else KnownState.ACCEPTED,
            )
            for run in self._runs.values()
        ]

    def metrics(self) -> Mapping[str, float]:
        """For the heartbeat: since the start of the agent, times in seconds."""
        ended = self._ended_count
        return {
            "active_tasks": len(self._runs),
            "total_executed": ended,
            "success_rate": self._succeeded_count / ended if ended else 0.0,
            "avg_execution_time": round(self._run_seconds / ended, 6) if ended else 0.0,
            "uptime": round(trio.current_time() - self._began, 3),
        }

    def make_root(self) -> None:
        """The directory under which instances have theirs. Raises `DiskError`."""
        if not self._root_checked:
            self.workplace.disk.make_private_dir(self.workplace.work_dir)
            self._root_checked = True

    def recheck_root(self) -> None:
        self._root_checked = False

    # --- inside ----------------------------------------------------------------------------------------------------

    def _why_refuse(self, held: Run | None) -> str | None:
        if self._refusal is not None:
            return self._refusal.message
        if held is not None:
            return f"epoch {held.order.epoch} of this instance has not ended on this agent yet"
        if len(self._runs) >= self.workplace.slots:
            return f"all {self.workplace.slots} slots of the agent are taken"
        return None

    async def _perform(self, run: Run) -> None:
        try:
            outcome = await run.live()
        except trio.Cancelled:
            raise
        except Exception as exc:  # a bug in one run must not end the others
            log.exception("an instance failed inside the agent", instance_id=run.order.instance_id)
            outcome = Outcome("lost", f"internal error of the agent: {exc!r}")
        del self._runs[run.order.instance_id]
        if run.started_at is not None:
            self._ended_count += 1
            self._succeeded_count += outcome.reason is None
            self._run_seconds += run.seconds
        if run.silent:
            self.reports.forget([run.order.instance_id])
            self.shipping.forget(run.order.instance_id)
        else:
            self._report(run.order, outcome, run)
        if not self._runs:
            self._emptied.set()

    def _report(self, order: Dispatch, outcome: Outcome, run: Run | None = None) -> None:
        ended = Ended(
            event_id="",
            sequence=0,
            task_id=order.task_id,
            instance_id=order.instance_id,
            epoch=order.epoch,
            completed_at=instant(self.workplace.clock.now()),
            reason=outcome.reason,
            error_message=outcome.message,
            **(run.facts(outcome.exit) if run is not None and run.started_at is not None else {}),
        )
        self.reports.ended(ended, run.shipment if run is not None else None)
        self._ready.set()


class Run:
    """The life of one instance."""

    def __init__(self, executor: Executor, order: Dispatch) -> None:
        self.order = order
        self.started_at: datetime | None = None
        self.shipment: Shipment | None = None
        self._executor, self._place = executor, executor.workplace
        self._directory = f"{self._place.work_dir}/{order.instance_id}"
        self._stop: StopOrder | None = None
        self._patience = trio.CancelScope()
        self._pumped = trio.Event()
        self._started_seconds = self.seconds = 0.0
        owner = Owner(task_id=order.task_id, instance_id=order.instance_id, epoch=order.epoch)
        self._spool = Spool(self._place.disk, owner.spool_path(self._place.work_dir), owner, executor.reports)
        self._capture = Capture(self._spool, bytes_max=order.output_bytes_max, grown=self._grown)

    @property
    def silent(self) -> bool:
        return self._stop is not None and self._stop.silent

    def stop(self, order: StopOrder) -> None:
        """Ask the run to end. The first reason counts, but silence can be added."""
        if self._stop is None or order.silent:
            self._stop = order
        self._patience.cancel()

    async def live(self) -> Outcome:
        if self._stop is not None:
            return Outcome(self._stop.reason, self._stop.message)
        try:
            self._executor.make_root()
            self._place.directories.take(self._directory)
            process = await self._place.runner.start(self._spec())
        except (DiskError, StartError) as exc:
            self._executor.recheck_root()
            self._clean_up()
            return Outcome("start_error", str(exc))
        self._report_started(process)
        try:
            async with trio.open_nursery() as nursery:
                if self.order.capture_output:
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
        self.seconds = trio.current_time() - self._started_seconds
        self._finish_output()
        self._clean_up()
        return outcome

    def facts(self, exit_: Exit | None) -> dict[str, Any]:
        """Members of the final report that only a run which started has."""
        assert self.started_at is not None
        found: dict[str, Any] = {
            "started_at": instant(self.started_at),
            "duration_seconds": round(self.seconds, 6),
            "output": self._capture.summary() if self.order.capture_output else None,
        }
        if exit_ is not None:
            found["exit_code"], found["signal"] = exit_.exit_code, exit_.signal
            found["metrics"] = {
                "cpu_time": exit_.cpu_seconds,
                "memory_peak": exit_.memory_peak_bytes,
                "disk_read": exit_.disk_read_bytes,
                "disk_write": exit_.disk_write_bytes,
                "network_in": 0,
                "network_out": 0,
            }
        return found

    # --- the verbs -------------------------------------------------------------------------------------------------

    def _spec(self) -> ProcessSpec:
        environment = {
            **self._place.base_environment,
            **self.order.environment,
            INSTANCE_MARK: self.order.instance_id,
        }
        argv = (self.order.cmd, *self.order.args)
        problem = _why_impossible(argv, environment)
        if problem is not None:
            raise StartError(problem)
        return ProcessSpec(
            argv=argv,
            environment=environment,
            work_dir=self._directory,
            capture_output=self.order.capture_output,
        )

    def _report_started(self, process: RunningProcess) -> None:
        self.started_at = self._place.clock.now()
        self._started_seconds = trio.current_time()
        report = Started(
            event_id="",
            sequence=0,
            task_id=self.order.task_id,
            instance_id=self.order.instance_id,
            epoch=self.order.epoch,
            started_at=instant(self.started_at),
            pid=process.pid,
            isolation="session",
        )
        self._executor.reports.started(report, self._place.leftovers.identity(process.pid))

    async def _pump(self, process: RunningProcess) -> None:
        while (piece := await process.receive_output()) is not None:
            stream, data = piece
            self._capture.write(stream, data, self._place.clock.now())
        self._pumped.set()

    async def _follow(self, process: RunningProcess) -> Outcome:
        deadline = run_deadline(self._started_seconds, self.order.timeout_seconds)
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
        order = self._stop or StopOrder("timeout", timeout_message(self.order.timeout_seconds))
        complete = await self._end_tree(process, order.grace_seconds)
        if not complete:
            return Outcome(order.reason, f"{order.message}; {_LEFT}")
        return Outcome(order.reason, order.message, await process.wait())

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

    def _finish_output(self) -> None:
        self._capture.finish(self._place.clock.now())
        if self._capture.error is not None:
            log.warning("output could not be spooled", instance_id=self.order.instance_id, error=self._capture.error)
        if self.shipment is not None:
            self.shipment.finished = True
            self._executor.shipping.settle(self.shipment)

    def _grown(self) -> None:
        if self.shipment is None:
            self.shipment = Shipment(self._spool)
            self._executor.shipping.add(self.shipment)
        self._executor._ready.set()

    def _clean_up(self) -> None:
        try:
            self._place.directories.give_back(self._directory)
        except DiskError as exc:
            log.debug("the work directory stays", instance_id=self.order.instance_id, error=str(exc))


_LEFT: Final = "processes of it could not be ended and may still run"


async def _until_gone(process: RunningProcess, again: Any = None) -> None:
    delays = iter(POLL_SECONDS)
    delay = 0.0
    while process.tree_is_alive():
        delay = next(delays, POLL_SECONDS[-1])
        await trio.sleep(delay)
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


def _why_impossible(argv: tuple[str, ...], environment: Mapping[str, str]) -> str | None:
    """Arguments and variables that no operating system takes."""
    for number, argument in enumerate(argv[1:]):
        if "\0" in argument:
            return f"args[{number}] contains a NUL character"
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            return f"environment variable {name!r} has a name or value that the system does not take"
    return None
