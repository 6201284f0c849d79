"""The life of one instance, as a list of verbs.

Prepare the directory, start, report `Started`, wait (for the end, the time limit, a stop), end the rest of the tree, finish
the output. Ending a tree: SIGTERM, grace, SIGKILL until nothing is left. It is also done when the root has ended by itself
and left processes behind: a slot that is free must be free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import structlog
import trio

from agent.limits import KILL_GRACE_SECONDS, run_deadline, timeout_message
from agent.output import Capture
from agent.reports import Reports
from agent.shipping import Shipment, Shipping
from agent.spool import Owner, Spool
from agent.wakeup import Wakeup
from agent.workplace import Outcome, StopOrder, Workplace, instant
from hetuflow.ports.disk import DiskError
from hetuflow.ports.processes import Exit, ProcessSpec, RunningProcess, StartError
from hetuflow.protocol.messages import Dispatch, Started

log = structlog.get_logger()

KILL_SECONDS_MAX: Final = 5.0
"""How long SIGKILL is repeated before the instance says that processes are left (uninterruptible ones)."""
DRAIN_SECONDS_MAX: Final = 2.0
"""How long output is awaited after the tree is gone: somebody outside may hold the pipe open."""
POLL_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)
INSTANCE_MARK: Final = "HETUFLOW_INSTANCE_ID"


class Run:
    """One try of a task. `live` once; `stop` at any time."""

    def __init__(self, order: Dispatch, place: Workplace, reports: Reports, shipping: Shipping, ready: Wakeup) -> None:
        self._lowered = place.policy.lowered(order)
        self.order = order = self._lowered.order
        self.started_at: datetime | None = None
        self.shipment: Shipment | None = None
        self._place, self._reports, self._shipping, self._ready = place, reports, shipping, ready
        self._directory = f"{self._place.work_dir}/{order.instance_id}"
        self._stop: StopOrder | None = None
        self._patience = trio.CancelScope()
        self._pumped = trio.Event()
        self._started_seconds = self.seconds = 0.0
        owner = Owner(task_id=order.task_id, instance_id=order.instance_id, epoch=order.epoch)
        self._spool = Spool(self._place.disk, owner.spool_path(self._place.work_dir), owner, reports)
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
        """From the directory to the last byte of output. The process tree is gone when it returns, or is raised from."""
        if self._stop is not None:
            return Outcome(self._stop.reason, self._stop.message)
        try:
            self._place.directories.take(self._directory)
            process = await self._place.runner.start(self._spec())
        except (DiskError, StartError) as exc:
            self._clean_up()
            return Outcome("start_error", str(exc))
        self._report_started(process)
        if self._lowered.notes:
            log.info("limits lowered", instance=self.order.instance_id, **self._lowered.notes)
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
        outcome.message = self._lowered.explained(outcome.reason, outcome.message)
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
        refusal = self._place.policy.check(self.order, self._place.facts, environment, self._directory)
        if refusal is not None:
            raise StartError(str(refusal))
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
        self._reports.started(report, self._place.leftovers.identity(process.pid))

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
            self._shipping.settle(self.shipment)

    def _grown(self) -> None:
        if self.shipment is None:
            self.shipment = Shipment(self._spool)
            self._shipping.add(self.shipment)
        self._ready.set()

    def _clean_up(self) -> None:
        try:
            self._place.directories.give_back(self._directory)
        except DiskError as exc:
            log.debug("the work directory stays", instance_id=self.order.instance_id, error=str(exc))


_LEFT: Final = "processes of it could not be ended and may still run"


async def _until_gone(process: RunningProcess, again: Callable[[], None] | None = None) -> None:
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
