"""What the agent holds now: the runs, and the end of each, whoever brings it about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog
import trio

from agent.journal import Entry, Key
from agent.keeper.messages import Finished, Sample
from agent.kept_spool import KeptSpool
from agent.reports import Reports
from agent.run import Run, lease_seconds_of
from agent.shipping import Shipment, Shipping
from agent.spool import Owner
from agent.usage import UsageLog
from agent.wakeup import Wakeup
from agent.workplace import Workplace, instant
from hetuflow.ports.disk import DiskError
from hetuflow.protocol.messages import Dispatch

log = structlog.get_logger()


class Runs:
    """By instance. `ready` is set when there is something to send."""

    def __init__(self, place: Workplace, reports: Reports, shipping: Shipping, ready: Wakeup) -> None:
        self.place, self.reports, self._shipping, self._ready = place, reports, shipping, ready
        self.held: dict[str, Run] = {}
        self.session_lease_seconds = float("inf")
        self.unsettled: list[Key] = []
        """What has ended, and the keeper was not told that it need not keep it."""
        self.usage = UsageLog()
        self._end = trio.Event()
        self._began = trio.current_time()
        self._ended_count = self._succeeded_count = 0
        self._run_seconds = 0.0

    def make(self, order: Dispatch) -> Run:
        """A run that is not held yet."""
        owner = Owner(task_id=order.task_id, instance_id=order.instance_id, epoch=order.epoch)
        spool = KeptSpool(self.place.disk, owner.spool_path(self.place.work_dir), owner, self.reports)
        lease_seconds = lease_seconds_of(order, self.session_lease_seconds)
        lowered = self.place.policy.lowered(order)
        return Run(order, lowered, f"{self.place.work_dir}/{order.instance_id}", spool, lease_seconds)

    def recall(self, entry: Entry) -> None:
        """Hold what an earlier life of the agent accepted and has not seen end."""
        accepted = entry.accepted
        order = accepted.order or Dispatch(
            task_id=accepted.task_id,
            job_id="",
            instance_id=accepted.instance_id,
            epoch=accepted.epoch,
            attempt=0,
            cmd="",
        )
        run = self.held[order.instance_id] = self.make(order)
        run.spool.recover(entry.captured)
        if entry.running is not None:
            run.started_at = entry.running.started.started_at
        self.ship(run)

    def set_session_lease(self, seconds: float) -> list[Run]:
        """The runs whose lease is another one with that: a server may have given another session, also to an earlier life."""
        if seconds == self.session_lease_seconds:
            return []
        self.session_lease_seconds = seconds
        changed = []
        for run in self.held.values():
            lease_seconds = lease_seconds_of(run.order, seconds)
            if run.lease_seconds != lease_seconds:
                run.lease_seconds = lease_seconds
                changed.append(run)
        return changed

    def of(self, instance_id: str, epoch: int) -> Run | None:
        run = self.held.get(instance_id)
        return run if run is not None and run.order.epoch == epoch else None

    def ship(self, run: Run) -> None:
        """Its output has grown."""
        if run.shipment is None and run.spool.end:
            entry = self.reports.entry(run.key)
            run.shipment = Shipment(run.spool, entry.stored if entry is not None else None)
            self._shipping.add(run.shipment)
        self._ready.set()

    def sampled(self, message: Sample) -> None:
        """What its tree uses now; its time is counted from its start, which an earlier life of the agent may have seen."""
        run = self.of(message.instance_id, message.epoch)
        if run is None or run.started_at is None:
            return
        now = trio.current_time()
        if run.began is None:
            run.began = now - (self.place.clock.now() - datetime.fromisoformat(run.started_at)).total_seconds()
        self.usage.sampled(message.instance_id, message.epoch, now - run.began, message.values)

    def end(self, run: Run, finished: Finished, collected: Sequence[Mapping[str, Any]] = ()) -> None:
        """Its tree is gone, and nothing more is to be done for it: report it, and free its slot."""
        del self.held[run.order.instance_id]
        self.usage.ended(run.order.instance_id)
        if run.shipment is not None:
            run.shipment.finished = True
            self._shipping.settle(run.shipment)
        try:
            self.place.directories.give_back(run.directory)
        except DiskError as exc:
            log.debug("the work directory stays", instance_id=run.order.instance_id, error=str(exc))
        if run.started_at is not None:
            self._ended_count += 1
            self._succeeded_count += finished.reason is None
            self._run_seconds += finished.duration_seconds
        if run.is_silent:
            self.reports.forget([run.order.instance_id])
            self._shipping.forget(run.order.instance_id)
        else:
            self.report(run, finished, collected)
        self.unsettled.append(run.key)
        ended, self._end = self._end, trio.Event()
        ended.set()

    def end_here(self, run: Run, reason: str, message: str, output: Mapping[str, Any] | None = None) -> None:
        """As `end`, of what no keeper has ended."""
        self.end(run, self.ended_here(run.order, reason, message, output))

    def ended_here(
        self, order: Dispatch, reason: str, message: str, output: Mapping[str, Any] | None = None
    ) -> Finished:
        return Finished(
            instance_id=order.instance_id,
            epoch=order.epoch,
            completed_at=instant(self.place.clock.now()),
            reason=reason,
            message=message,
            output=output,
        )

    def report(self, run: Run, finished: Finished, collected: Sequence[Mapping[str, Any]] = ()) -> None:
        self.reports.ended(run.ended(finished, collected), run.shipment)

    def take_settled(self) -> tuple[Key, ...]:
        """What the keeper need not keep any more: of the rest, only it would know how they ended if the agent were killed."""
        unsettled, self.unsettled = self.unsettled, []
        settled: list[Key] = []
        for key in unsettled:
            (settled if self.reports.is_kept(key) else self.unsettled).append(key)
        return tuple(settled)

    async def wait_fewer(self) -> None:
        """Until something ends."""
        await self._end.wait()

    def metrics(self) -> Mapping[str, float]:
        """For the heartbeat: since the start of the agent, times in seconds."""
        ended = self._ended_count
        return {
            "active_tasks": len(self.held),
            "total_executed": ended,
            "success_rate": self._succeeded_count / ended if ended else 0.0,
            "avg_execution_time": round(self._run_seconds / ended, 6) if ended else 0.0,
            "uptime": round(trio.current_time() - self._began, 3),
        }
