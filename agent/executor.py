"""Runs instances, never more at once than there are slots; reports their ends. One instance's life is `agent.run`.

Nothing here decides whether to try again: the server does.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog
import trio

from agent.reports import Reports
from agent.run import Run
from agent.shipping import Shipping
from agent.wakeup import Wakeup
from agent.workplace import Outcome, StopOrder, Workplace, instant
from hetuflow.ports.disk import DiskError
from hetuflow.protocol.messages import Dispatch, Ended, Known, KnownState, Standing

log = structlog.get_logger()


class Executor:
    """Accepts dispatches and stops; `run` owns the tasks."""

    def __init__(self, workplace: Workplace, reports: Reports, shipping: Shipping, ready: Wakeup) -> None:
        self.workplace, self.reports, self.shipping, self._ready = workplace, reports, shipping, ready
        self._runs: dict[str, Run] = {}
        self._refusal: StopOrder | None = None
        self.standing = Standing()
        self._nursery: trio.Nursery | None = None
        self._emptied = trio.Event()
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
        run = Run(order, self.workplace, self.reports, self.shipping, self._ready)
        self._runs[order.instance_id] = run
        self._nursery.start_soon(self._perform, run, name=f"instance {order.instance_id}")

    def stand(self, standing: Standing) -> None:
        """How the server counts this agent from now on. What was sent before still starts: its dispatch is committed."""
        if standing.draining != self.standing.draining:
            log.info(
                "draining: nothing new comes" if standing.draining else "taking work again", reason=standing.reason
            )
        if standing.labels != self.standing.labels:
            log.info("labels set by the server", labels=dict(standing.labels))
        self.standing = standing

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
