"""Takes orders and stops, never more at once than there are slots. What runs is the keeper's (`agent.attachment`).

An order for which nothing is prepared (`agent.preparation`) costs no task of its own. Nothing here decides whether to try
again: the server does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

import structlog
import trio

from agent.attachment import Attachment
from agent.journal import Entry, Key
from agent.keeper.messages import Attach, Lease, Leave
from agent.keeping import Keepers
from agent.labels import SYSTEM_PREFIX
from agent.preparation import Prepared, Step, plain
from agent.reports import Reports
from agent.run import Run, kept_of
from agent.runs import Runs
from agent.shipping import Shipping
from agent.usage import UsageLog
from agent.wakeup import Wakeup
from agent.workplace import StopOrder, Workplace
from hetuflow.ports.disk import DiskError
from hetuflow.ports.processes import StartError
from hetuflow.protocol.messages import Dispatch, Known, Standing

log = structlog.get_logger()

KEEPERLESS_SECONDS_MAX: Final = 10.0
"""How long a stopping agent waits for what a lost keeper had, when there can be no other."""
FORGOTTEN: Final = "forgotten by the server"


class Executor:
    """`run` once; everything else at any time after it has started."""

    def __init__(
        self,
        workplace: Workplace,
        keepers: Keepers,
        attach: Attach,
        reports: Reports,
        shipping: Shipping,
        ready: Wakeup,
    ) -> None:
        self.workplace, self.reports, self.shipping = workplace, reports, shipping
        self._runs = Runs(workplace, reports, shipping, ready)
        self._keeper = Attachment(self._runs, keepers, attach)
        self._refusal: StopOrder | None = None
        self.standing = Standing()
        self._nursery: trio.Nursery | None = None

    @property
    def usage(self) -> UsageLog:
        """What the running instances use."""
        return self._runs.usage

    @property
    def keeper_facts(self) -> Mapping[str, Any]:
        """See `agent.condition`."""
        return self._keeper.facts

    @property
    def keeper_problem(self) -> str | None:
        """Why nothing can be started for the time being."""
        problem = self._keeper.problem
        return None if problem is None else f"nothing can be started here: {problem}"

    @property
    def active_count(self) -> int:
        return len(self._runs.held)

    async def run(
        self,
        left: Sequence[Entry],
        *,
        why_forgotten: str | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Until cancelled; it has started when what was left is sorted out.

        Args:
          left: what an earlier life accepted and has not seen end.
          why_forgotten: why what keepers know says nothing of that, if so.
        Raises `KeeperError` when there is no keeper at the start.
        """
        for entry in left:
            self._runs.recall(entry)
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(partial(self._keeper.run, why_forgotten=why_forgotten))
            task_status.started()

    # --- what the server wants ---------------------------------------------------------------------------------------

    def dispatch(self, order: Dispatch, refusal: str | None = None) -> None:
        """Start an instance, or report why not; `refusal`: it cannot. Repeated dispatches of the same epoch are one."""
        held = self._runs.held.get(order.instance_id)
        if (held is not None and held.order.epoch >= order.epoch) or self.reports.holds(order.instance_id, order.epoch):
            return
        run = self._runs.make(order)
        refusal = refusal or self._why_refuse(held)
        if refusal is None:
            try:
                self.reports.accept(order, kept_of(run, self.workplace.preparations.collectors))
            except DiskError as exc:
                refusal = f"the agent cannot write its journal: {exc}"
        if refusal is not None:
            self._runs.report(run, self._runs.ended_here(order, "rejected", refusal))
            return
        self._runs.held[order.instance_id] = run
        try:
            self._prepare(run)
        except Exception as exc:  # a bug in one run must not end the others
            self._fail(run, exc)

    def gathered(self) -> AbstractContextManager[None]:
        """Orders that come together: what they ask of the keeper leaves at the end of the block."""
        return self._keeper.gathered()

    def stand(self, standing: Standing) -> None:
        """How the server counts this agent from now on. What was sent before still starts: its dispatch is committed."""
        if standing.draining != self.standing.draining:
            log.info(
                "draining: nothing new comes" if standing.draining else "taking work again", reason=standing.reason
            )
        if standing.labels != self.standing.labels:
            given = {name: value for name, value in standing.labels.items() if not name.startswith(SYSTEM_PREFIX)}
            log.info("labels by which the server places", labels=given)
        self.standing = standing

    def stop(self, instance_id: str, epoch: int, order: StopOrder) -> None:
        """End the instance if it is held with this epoch (or an older one)."""
        run = self._runs.held.get(instance_id)
        if run is not None and run.order.epoch <= epoch:
            self._stop(run, order)

    def stop_all(self, order: StopOrder) -> None:
        for run in list(self._runs.held.values()):
            self._stop(run, order)

    def refuse_from_now(self, order: StopOrder) -> None:
        """Take nothing any more: the agent is stopping."""
        self._refusal = order

    async def wait_empty(self) -> None:
        """Until nothing runs any more, or nobody can say so: there is no keeper, and none can be had."""
        while self._runs.held:
            with trio.move_on_after(KEEPERLESS_SECONDS_MAX) as patience:
                await self._runs.wait_fewer()
            if patience.cancelled_caught and self._keeper.problem is not None:
                log.error("what ran is sorted out at the next start: there is no keeper", problem=self._keeper.problem)
                return

    async def wait_fewer(self) -> None:
        """Until something ends."""
        await self._runs.wait_fewer()

    async def wait_sorted_out(self, left: Sequence[Key]) -> None:
        """Until each of these, of an earlier life, is the keeper's or reported."""
        while any(run.is_at_work for key in left if (run := self._runs.of(*key)) is not None):
            await self._runs.wait_fewer()

    def forget(self, instance_id: str) -> None:
        """The server wants to hear nothing of this instance."""
        run = self._runs.held.get(instance_id)
        if run is not None:
            self._stop(run, StopOrder("cancelled", FORGOTTEN, silent=True))

    async def leave(self, *, for_good: bool) -> None:
        """The agent stops. The keeper may end too when that is for good, and goes on otherwise."""
        self._keeper.settle()
        self.shipping.note_all()
        if for_good:
            self._keeper.tell(Leave())
        await self._keeper.flush()

    def known(self) -> list[Known]:
        return [run.known() for run in self._runs.held.values()]

    def keys(self) -> list[tuple[str, int]]:
        """(instance, epoch) of what is held."""
        return [run.key for run in self._runs.held.values()]

    def metrics(self) -> Mapping[str, float]:
        return {**self._runs.metrics(), "slots": self.workplace.slots}

    # --- leases ------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds of the clock by which the keeper counts leases."""
        return self._keeper.now()

    def renew_lease(self, renewed: float, session_seconds: float) -> None:
        """The server has renewed the lease. `renewed`: `now()` when the heartbeat was sent that it acknowledges."""
        self._keeper.renew(Lease(renewed_at=renewed))
        for run in self._runs.set_session_lease(session_seconds):
            self._keeper.lease_anew(run)

    @property
    def shortest_lease_seconds(self) -> float:
        """Of what is held; infinite when nothing is."""
        return min((run.lease_seconds for run in self._runs.held.values()), default=float("inf"))

    def next_lease_deadline(self, renewed: float) -> float:
        """When the first of what is not ending yet must begin to, unless the lease is renewed (monotonic seconds)."""
        running = [run for run in self._runs.held.values() if run.stop_order is None]
        return min((run.lease_deadline(renewed) for run in running), default=float("inf"))

    def end_overdue(self, renewed: float, now: float) -> int:
        """End what has outlived its lease, should the keeper not have done so; how many."""
        running = [run for run in self._runs.held.values() if run.stop_order is None]
        overdue = [run for run in running if now >= run.lease_deadline(renewed)]
        for run in overdue:
            self._stop(run, run.end_of_lease())
        return len(overdue)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _why_refuse(self, held: Run | None) -> str | None:
        if self._refusal is not None:
            return self._refusal.message
        if held is not None:
            return f"epoch {held.order.epoch} of this instance has not ended on this agent yet"
        if len(self._runs.held) >= self.workplace.slots:
            return f"all {self.workplace.slots} slots of the agent are taken"
        if (problem := self.workplace.refusal()) is not None:
            return problem
        return self.keeper_problem

    def _stop(self, run: Run, order: StopOrder) -> None:
        """The first reason counts, but silence can be added."""
        is_first = run.stop_order is None
        if is_first or order.silent:
            run.stop_order = order
        if run.is_at_work:
            run.interrupt()
        elif is_first:
            self._keeper.end(run)

    def _prepare(self, run: Run) -> None:
        place = self.workplace
        try:
            place.directories.take(run.directory)
            prepared = plain(run.order, place.base_environment, run.directory)
            looks_at_files = place.policy.looks_at_files(run.order)
            if not looks_at_files:
                self._judge(run.order, prepared)
        except (DiskError, StartError) as exc:
            self._runs.end_here(run, "start_error", str(exc))
            return
        if run.lowered.notes:
            log.info("limits lowered", instance=run.order.instance_id, **run.lowered.notes)
        steps = [step for step in place.preparations.steps if step.wanted(run.order)]
        if looks_at_files:
            steps.insert(0, Step(wanted=lambda order: True, take=self._look_and_judge))
        if steps:
            assert self._nursery is not None, "Executor.run is not running"
            run.take_on()
            self._nursery.start_soon(self._take_steps, run, prepared, steps, name=f"instance {run.order.instance_id}")
        else:
            run.launch = run.launch_of(prepared)
            self._keeper.launch(run)

    async def _look_and_judge(self, order: Dispatch, prepared: Prepared) -> Prepared:
        await self.workplace.facts.look(partial(self._judge, order, prepared))
        return prepared

    def _judge(self, order: Dispatch, prepared: Prepared) -> None:
        """Raises `StartError`. May be called by a thread."""
        place = self.workplace
        refusal = place.policy.check(order, place.facts, prepared.environment, prepared.directory)
        if refusal is not None:
            raise StartError(str(refusal))

    async def _take_steps(self, run: Run, prepared: Prepared, steps: Sequence[Step]) -> None:
        problem = StopOrder("lost", "interrupted while it was prepared")
        with run.work():
            try:
                for step in steps:
                    prepared = await step.take(run.order, prepared)
                run.launch = run.launch_of(prepared)
            except (DiskError, StartError) as exc:
                problem = StopOrder("start_error", str(exc))
            except Exception as exc:  # a bug in one run must not end the others
                self._fail(run, exc)
        if self._runs.of(*run.key) is not run:  # whoever has ended it has said so: it must not start any more
            return
        if run.launch is None or run.stop_order is not None:
            why = run.stop_order or problem
            self._runs.end_here(run, why.reason, why.message)
            return
        try:
            self._keeper.launch(run)
        except Exception as exc:
            self._fail(run, exc)

    def _fail(self, run: Run, exc: Exception) -> None:
        log.exception("an instance failed inside the agent", instance_id=run.order.instance_id)
        self._runs.end_here(run, "lost", f"internal error of the agent: {exc!r}")
