"""Follows the open flow runs: runs again what is to run again, cancels what is to be cancelled, says when all has ended.

The wish of an open run (`Tend`) is the memory: it is there again after every start, and what it asks for is done again,
which changes nothing where it was done. Tasks run again in the order of the graph, each after those that it follows, so
that none finds one of these still ended as before; they are cancelled in the reverse order, so that none starts because
another was. While tasks run, a run costs nothing but a look at the set of those that are open.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from typing import Any

import trio
from attrs import evolve

from eventstore.errors import EventStoreError
from eventstore.event import RecordedEvent
from hetuflow.actors import ActorSystem, Context, GuardLost, Reading
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import CancelTask, FinishFlow, FlowTaskEnd, RetryTask
from hetuflow.domain.decider import Address, Guard, Reopening, Tend
from hetuflow.domain.events import TaskCancelled, TaskFailed, TaskReopened, TaskSucceeded
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.task_dependencies import UNMET
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.leases import Leases

log = logging.getLogger(__name__)

ENDS = frozenset(cls.__name__ for cls in (TaskSucceeded, TaskFailed, TaskCancelled))
REOPENED = TaskReopened.__name__

TENDING_MAX = 16
"""Runs that are looked after at once."""


class Flows:
    """The open runs, and which of their tasks are not known to have ended."""

    def __init__(self, system: ActorSystem, leases: Leases) -> None:
        self._system = system
        self._leases = leases
        self._wishes: dict[str, Tend] = {}
        self._flow_of: dict[str, str] = {}
        self._open: dict[str, set[str]] = {}
        self._to_tend: dict[str, str | None] = {}
        self._in_hand: set[str] = set()
        self._patience = Patience()
        self._alarm = Alarm()

    def __repr__(self) -> str:
        return f"<Flows: {len(self._wishes)} runs, {len(self._to_tend)} to look after>"

    def __len__(self) -> int:
        return len(self._wishes)

    def add(self, wish: Tend) -> None:
        """The run is open, or wants something else now."""
        self._wishes[wish.flow_run_id] = wish
        for task_id in sorted(wish.task_ids):
            self._flow_of[task_id] = wish.flow_run_id
        self._tend(wish.flow_run_id, None)

    def remove(self, wish: Tend) -> None:
        """The run has ended, unless it has said something else since."""
        if self._wishes.get(wish.flow_run_id) == wish:
            del self._wishes[wish.flow_run_id]
            self._to_tend.pop(wish.flow_run_id, None)
            self._open.pop(wish.flow_run_id, None)
            for task_id in sorted(wish.task_ids):
                self._flow_of.pop(task_id, None)

    def heard(self, event: RecordedEvent) -> None:
        """An event of the log, in its order, after the actors have taken note of it."""
        if event.type not in ENDS and event.type != REOPENED:
            return
        task_id = Address.of_stream(event.stream_id).id
        flow_run_id = self._flow_of.get(task_id)
        if flow_run_id is None:
            return
        still_open = self._open.setdefault(flow_run_id, set())
        if event.type == REOPENED:
            still_open.add(task_id)
        else:
            still_open.discard(task_id)
        if not still_open or (event.type == REOPENED and self._wishes[flow_run_id].is_cancelled):
            self._tend(flow_run_id, str(event.event_id))

    def look_again(self) -> None:
        """This server decides for runs that another one was deciding for."""
        for flow_run_id in self._wishes:
            self._tend(flow_run_id, None)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                while len(self._in_hand) < TENDING_MAX and (flow_run_id := self._next()) is not None:
                    self._in_hand.add(flow_run_id)
                    nursery.start_soon(self._look_after, flow_run_id, self._to_tend.pop(flow_run_id))
                await self._alarm.wait(math.inf)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _tend(self, flow_run_id: str, cause: str | None) -> None:
        self._to_tend[flow_run_id] = cause
        self._alarm.ring()

    def _next(self) -> str | None:
        return next((each for each in self._to_tend if each not in self._in_hand), None)

    async def _look_after(self, flow_run_id: str, cause: str | None) -> None:
        """Do what the run wants; later again, if that fails."""
        pause = 0.0
        try:
            wish = self._wishes.get(flow_run_id)
            if wish is not None and self._leases.guard(wish.job_id) is not None:
                await self._do(wish, Context(causation_id=cause))
        except STOPPING:
            return
        except GuardLost:
            self._tend(flow_run_id, cause)  # a task runs again meanwhile
        except (EventStoreError, *FAILING) as problem:
            pause = self._patience.failed(flow_run_id)
            log.warning("flow run %s cannot be looked after yet: %s", flow_run_id, problem)
        else:
            self._patience.worked(flow_run_id)
        finally:
            if not pause:
                self._in_hand.discard(flow_run_id)
                self._alarm.ring()
        if pause:
            await trio.sleep(pause)
            self._in_hand.discard(flow_run_id)
            self._tend(flow_run_id, cause)

    async def _do(self, wish: Tend, context: Context) -> None:
        refused = set()
        for reopening in wish.reopens:
            if not await self._ask(reopening.task_id, await self._again(reopening), context):
                refused.add(reopening.task_id)
        if wish.is_cancelled:
            await self._cancel_open(wish, context)
        # what is heard to end while it is looked at was perhaps looked at before that
        known = self._open[wish.flow_run_id] = set(wish.task_ids)
        readings = await self._system.read_many([Address("task", each) for each in sorted(wish.task_ids)])
        known &= open_tasks(wish, readings, refused)
        if known or len(readings) < len(wish.task_ids):
            return
        command = FinishFlow(
            ends={
                address.id: evolve(task_end(reading.state), is_refused=address.id in refused)
                for address, reading in readings.items()
            },
            guards=[Guard(address.stream_id, reading.version) for address, reading in readings.items()],
        )
        try:
            await self._system.ask(Address("flow", wish.flow_run_id), command, context)
        except Rejected as no:
            log.info("flow run %s is not finished: %s", wish.flow_run_id, no)

    async def _again(self, reopening: Reopening) -> RetryTask:
        if reopening.is_whole:
            return RetryTask(attempt=reopening.attempt, is_whole=True)
        spec = (await self._system.read(Address("task", reopening.task_id))).state.spec
        ids = (spec.dependencies or {}).get("task_ids") or () if spec is not None else ()
        readings = await self._system.read_many([Address("task", each) for each in ids])
        waits_for = tuple(
            each.id for each, reading in readings.items() if reading.state.exists and not reading.state.is_terminal
        )
        return RetryTask(attempt=reopening.attempt, waits_for=waits_for)

    async def _cancel_open(self, wish: Tend, context: Context) -> None:
        readings = await self._system.read_many([Address("task", each) for each in sorted(wish.task_ids)])
        for task_id in reversed(wish.task_ids):
            reading = readings.get(Address("task", task_id))
            if reading is not None and not reading.state.is_terminal and reading.state.cancel is None:
                await self._ask(task_id, CancelTask(cause="flow", reason=wish.cancel_reason, by="user"), context)

    async def _ask(self, task_id: str, command: CancelTask | RetryTask, context: Context) -> bool:
        """False: the task said no. It has ended, or was deleted, meanwhile, or cannot run again."""
        try:
            await self._system.ask(Address("task", task_id), command, context)
        except Rejected as no:
            log.info("task %s of a flow run: %s", task_id, no)
            return False
        return True


def open_tasks(wish: Tend, readings: Mapping[Address, Reading[Any]], refused: Collection[str] = ()) -> set[str]:
    """The tasks of the run that have not ended, or are still to run again; `refused`: those that said no to that."""
    again = {each.task_id: each.attempt for each in wish.reopens if each.task_id not in refused}
    found = set()
    for address, reading in readings.items():
        state = reading.state
        is_waited_for = address.id in again and not state.is_deleted and state.instance.attempt <= again[address.id]
        if not state.is_terminal or is_waited_for:
            found.add(address.id)
    return found


def task_end(state: Any) -> FlowTaskEnd:
    """How a task that has ended did so."""
    return FlowTaskEnd(
        status=int(state.status),
        attempt=state.instance.attempt,
        is_unmet=state.ended_by == UNMET,
        is_deleted=state.is_deleted,
    )


def ends_of(readings: Mapping[Address, Reading[Any]]) -> Mapping[str, FlowTaskEnd]:
    """Of those tasks that have ended."""
    return {each.id: task_end(reading.state) for each, reading in readings.items() if reading.state.is_terminal}
