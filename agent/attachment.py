"""The agent and its keeper: what is said to it, what it says, and a new one when it is lost.

Whoever is killed at whatever point, the journal knows what was accepted and the keeper what was launched: at every new
connection the two are compared. What the keeper holds goes on, what it was never told it is told now, and the rest is
lost; what nobody has accepted is ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import structlog
import trio
from attrs import evolve

from agent.condition import keeper_facts
from agent.keeper.messages import (
    Attach,
    End,
    Finished,
    Grew,
    Held,
    KeeperMessage,
    Launched,
    Lease,
    Leased,
    Sample,
    Settled,
)
from agent.keeping import Attached, KeeperEvent, Keepers, Keeping
from agent.preparation import Collector
from agent.recovery import Trace, end_leftover
from agent.run import Run
from agent.runs import Runs

log = structlog.get_logger()

ARTIFACT: Final = "artifact"
"""Reason of an instance whose program succeeded, and whose files could not be kept."""
NOT_LAUNCHED: Final = "the agent restarted before it was started"
UNKNOWN: Final = "the agent does not know it"


class Attachment:
    """`run` once; the rest at any time after it has started."""

    def __init__(self, runs: Runs, keepers: Keepers, attach: Attach) -> None:
        self._runs, self._keepers, self._attach = runs, keepers, attach
        self._keeping: Keeping | None = None
        self._lease: Lease | None = None
        self._nursery: trio.Nursery | None = None
        self._hearing: Mapping[type[KeeperEvent], Callable[[Any], None]] = {
            Launched: self._launched,
            Grew: self._grew,
            Finished: self._finished,
            Sample: self._runs.sampled,
        }
        runs.reports.kept = self.settle
        self.facts: Mapping[str, Any] = {}
        """What the keeper of the last connection says of itself."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be started for the time being."""
        return self._keeping.problem if self._keeping is not None else None

    async def run(
        self, *, why_forgotten: str | None = None, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Follow the keeper, and each that takes its place, until cancelled. Started when what is held is sorted out.

        `why_forgotten`: why what the first of them holds says nothing of what is held here already, if so. Raises
        `KeeperError`.
        """
        async with trio.open_nursery() as self._nursery, self._keepers.opened(self._attach) as self._keeping:
            while (events := await self._next(self._keeping)) is not None:
                for event in events:
                    if isinstance(event, Attached):
                        self._meet(event, why_forgotten)
                        why_forgotten = None
                        task_status.started()
                        task_status = trio.TASK_STATUS_IGNORED
                    else:
                        self._hear(event)
                self.settle()

    async def _next(self, keeping: Keeping) -> Sequence[KeeperEvent] | None:
        """None when it is gone as it was told."""
        try:
            return await keeping.receive()
        except trio.EndOfChannel:
            return None

    async def flush(self) -> None:
        """What it was told so far has left the agent."""
        if self._keeping is not None:
            await self._keeping.flush()

    # --- what it is told ---------------------------------------------------------------------------------------------

    def tell(self, message: KeeperMessage) -> None:
        if self._keeping is not None:
            self._keeping.send(message)

    def gathered(self) -> AbstractContextManager[None]:
        """What it is told within the block may leave at its end, together."""
        return self._keeping.gathered() if self._keeping is not None else nullcontext()

    def launch(self, run: Run) -> None:
        """Now, or when there is a keeper again."""
        assert run.launch is not None
        self.tell(run.launch)

    def end(self, run: Run) -> None:
        """As its stop order says."""
        order = run.stop_order
        assert order is not None
        self.tell(
            End(
                instance_id=run.order.instance_id,
                epoch=run.order.epoch,
                reason=order.reason,
                message=order.message,
                grace_seconds=order.grace_seconds,
            )
        )

    def renew(self, lease: Lease) -> None:
        self._lease = lease
        self.tell(lease)

    def lease_anew(self, run: Run) -> None:
        """Its lease is of another length now; behind the renewal that came with it."""
        if run.lease_seconds < float("inf"):
            instance_id, epoch = run.key
            self.tell(Leased(instance_id=instance_id, epoch=epoch, lease_seconds=run.lease_seconds))

    def settle(self) -> None:
        """What has ended and is journaled need not be kept any more."""
        if self._runs.unsettled and (settled := self._runs.take_settled()):
            self.tell(Settled(ended=settled))

    def now(self) -> float:
        return self._keepers.now()

    # --- what it says ------------------------------------------------------------------------------------------------

    def _hear(self, message: KeeperEvent) -> None:
        heard = self._hearing.get(type(message))
        if heard is not None:
            with self._guarded(getattr(message, "instance_id", ""), getattr(message, "epoch", 0)):
                heard(message)

    @contextmanager
    def _guarded(self, instance_id: str, epoch: int) -> Iterator[None]:
        """A bug in handling one run must not end the others: it is ended, and reported lost."""
        try:
            yield
        except Exception as exc:
            log.exception("an instance failed inside the agent", instance_id=instance_id)
            run = self._runs.of(instance_id, epoch)
            if run is not None:
                self.tell(End(instance_id=instance_id, epoch=epoch, reason="lost", message=repr(exc)))
                self._runs.end_here(run, "lost", f"internal error of the agent: {exc!r}")

    def _launched(self, message: Launched) -> None:
        run = self._runs.of(message.instance_id, message.epoch)
        if run is not None and run.started_at is None:
            report = run.launched(message)
            if not run.is_silent:
                self._runs.reports.started(report, message.identity or None)

    def _grew(self, message: Grew) -> None:
        run = self._runs.of(message.instance_id, message.epoch)
        if run is not None:
            run.spool.grew(message.spool_bytes, message.data)
            self._runs.ship(run)

    def _finished(self, message: Finished) -> None:
        run = self._runs.of(message.instance_id, message.epoch)
        if run is None:  # it was ended as unknown
            self._runs.unsettled.append((message.instance_id, message.epoch))
            return
        collectors = [each for each in self._runs.place.preparations.collectors if each.wanted(run.order)]
        if collectors and run.started_at is not None and not run.is_silent:
            run.take_on()
            self._spare().start_soon(self._collect, run, message, collectors)
        else:
            self._runs.end(run, message)

    async def _collect(self, run: Run, finished: Finished, collectors: Sequence[Collector]) -> None:
        """What its tree, which is gone, has left."""
        listing: list[Mapping[str, Any]] = []
        problem = None
        with run.work() as scope:
            try:
                for collector in collectors:
                    collected = await collector.take(run.order, run.directory)
                    listing.extend(collected.listing)
                    problem = problem or collected.problem
            except Exception as exc:  # a bug in one run must not end the others
                log.exception("files of an instance could not be collected", instance_id=run.order.instance_id)
                problem = f"internal error of the agent: {exc!r}"
        if scope.cancelled_caught:
            problem = "stopped while its files were collected"
        if problem is not None and finished.reason is None:
            finished = evolve(finished, reason=ARTIFACT, message=problem)
        self._runs.end(run, finished, listing)
        self.settle()

    # --- a keeper, old or new ----------------------------------------------------------------------------------------

    def _meet(self, keeper: Attached, why_forgotten: str | None = None) -> None:
        """Compare what it holds with what is held here."""
        if keeper.why:
            log.error("the keeper was lost", problem=keeper.why, instances=len(self._runs.held))
        self.facts = keeper_facts(keeper)
        if self._lease is not None:
            self.tell(self._lease)
        held = {(each.launched.instance_id, each.launched.epoch): each for each in keeper.instances}
        for key, each in held.items():
            run = self._runs.of(*key)
            if run is None:
                self._end_stranger(each)
            elif not run.is_at_work:
                with self._guarded(*key):
                    self._adopt(run, each)
        for run in list(self._runs.held.values()):
            if run.key not in held and not run.is_at_work:
                with self._guarded(*run.key):
                    self._miss(run, why_forgotten)
        self.settle()

    def _miss(self, run: Run, why_forgotten: str | None) -> None:
        """The keeper does not have it: then it has not run, if keepers remember; else nobody knows."""
        if self._keepers.remembers and why_forgotten is None and run.started_at is None:
            if run.launch is None:
                self._runs.end_here(run, "rejected", NOT_LAUNCHED)
            elif run.stop_order is not None:
                self._runs.end_here(run, run.stop_order.reason, run.stop_order.message)
            else:
                self.launch(run)
        else:
            self._lose(run, why_forgotten or self._keepers.why_gone)

    def _adopt(self, run: Run, held: Held) -> None:
        run.launch = None
        if held.launched.pid:  # else it could not be started
            self._launched(held.launched)
        run.spool.adopt(held.spool_bytes, held.small)
        self._runs.ship(run)
        self.lease_anew(run)
        if run.stop_order is not None:
            self.end(run)
        if held.finished is not None:
            self._finished(held.finished)

    def _end_stranger(self, held: Held) -> None:
        """The journal was lost, or the server wanted to hear no more of it."""
        launched = held.launched
        if held.finished is not None:
            self._runs.unsettled.append((launched.instance_id, launched.epoch))
            return
        log.warning("ending what the keeper runs and the journal does not know", instance_id=launched.instance_id)
        self.tell(End(instance_id=launched.instance_id, epoch=launched.epoch, reason="cancelled", message=UNKNOWN))

    def _lose(self, run: Run, why: str) -> None:
        """No keeper has it. Should processes of it be left, they are ended before anybody is told."""
        run.launch = None
        trace = Trace.of(self._runs.reports.entry(run.key))
        if trace is not None and trace.found(self._runs.place.leftovers):
            run.take_on()
            self._spare().start_soon(self._end_and_lose, run, trace, why)
        else:
            self._runs.end_here(run, "lost", why, run.spool.cut_off())

    async def _end_and_lose(self, run: Run, trace: Trace, why: str) -> None:
        with run.work(is_shielded=True):
            await end_leftover(trace, self._runs.place.leftovers)
        self._runs.end_here(run, "lost", why, run.spool.cut_off())

    def _spare(self) -> trio.Nursery:
        assert self._nursery is not None, "Attachment.run is not running"
        return self._nursery
