"""One try of a task, as the agent follows it: what was asked, how far it has come, what it has written.

The program itself is the keeper's. Nothing here waits; see `agent.executor` for who tells it what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import trio
from attrs import evolve

from agent.keeper.messages import Finished, Launch, Launched
from agent.kept_spool import KeptSpool
from agent.limits import KILL_GRACE_SECONDS, cut, lease_grace_seconds, lease_message
from agent.policy import Lowered
from agent.preparation import Collector, Prepared
from agent.shipping import Shipment
from agent.workplace import StopOrder
from hetuflow.protocol.messages import Dispatch, Ended, Known, KnownState, Started

CONTINUE: Final = "continue"
"""`on_disconnect` of a job whose instances outlive the lease."""


class Run:
    """See the module. `given`: the order as the server gave it; after a restart of the agent, what its journal keeps of it.
    `order`: that, within this machine's ceilings.

    `lease_seconds`: how long it may go on after a renewal; infinite for one that goes on without a server.
    """

    def __init__(
        self, given: Dispatch, lowered: Lowered, directory: str, spool: KeptSpool, lease_seconds: float
    ) -> None:
        self.given, self.lowered, self.order = given, lowered, lowered.order
        self.directory, self.spool, self.lease_seconds = directory, spool, lease_seconds
        self.launch: Launch | None = None
        """What the keeper is told, until it has answered."""
        self.started_at: str | None = None
        self.began: float | None = None
        """Its start on trio's clock; of one that an earlier life has started, once it was measured."""
        self.shipment: Shipment | None = None
        self.stop_order: StopOrder | None = None
        self._at_work: trio.CancelScope | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.order.instance_id, self.order.epoch

    @property
    def is_silent(self) -> bool:
        return self.stop_order is not None and self.stop_order.silent

    @property
    def is_at_work(self) -> bool:
        """A task of the agent does something for it, or is about to, and will go on with it: see `take_on`."""
        return self._at_work is not None

    def take_on(self) -> None:
        """Said when a task is started that prepares or collects for it, or ends what is left of it: before it has its turn,
        somebody else may ask whose the run is."""
        assert self._at_work is None, "somebody is at work already"
        self._at_work = trio.CancelScope()

    @contextmanager
    def work(self, *, is_shielded: bool = False) -> Iterator[trio.CancelScope]:
        """What that task does; `interrupt` cancels the block, also beforehand, unless it is shielded."""
        assert self._at_work is not None, "it was not taken on"
        scope = trio.CancelScope() if is_shielded else self._at_work
        try:
            with scope:
                yield scope
        finally:
            self._at_work = None

    def interrupt(self) -> None:
        if self._at_work is not None:
            self._at_work.cancel()

    def known(self) -> Known:
        return Known(
            task_id=self.order.task_id,
            instance_id=self.order.instance_id,
            epoch=self.order.epoch,
            state=KnownState.RUNNING if self.started_at else KnownState.ACCEPTED,
        )

    def lease_deadline(self, renewed: float) -> float:
        """When it must begin to end unless the lease is renewed."""
        return renewed + self.lease_seconds - lease_grace_seconds(self.lease_seconds, self.order.kill_grace_seconds)

    def end_of_lease(self) -> StopOrder:
        grace_seconds = lease_grace_seconds(self.lease_seconds, self.order.kill_grace_seconds)
        return StopOrder("lost", lease_message(self.lease_seconds), grace_seconds)

    def launched(self, message: Launched) -> Started:
        """The report, without number and id."""
        if self.launch is not None:  # it has just started, in this life of the agent
            self.began = trio.current_time()
        self.launch = None
        self.started_at = message.started_at
        return Started(
            event_id="",
            sequence=0,
            task_id=self.order.task_id,
            instance_id=self.order.instance_id,
            epoch=self.order.epoch,
            started_at=message.started_at,
            pid=message.pid,
            isolation=message.isolation,
        )

    def ended(self, finished: Finished, collected: Sequence[Mapping[str, Any]] = ()) -> Ended:
        """The report, without number and id."""
        of_a_start: dict[str, Any] = {}
        is_lost_here = finished.reason == "lost" and not finished.duration_seconds
        if self.started_at is not None:
            of_a_start = {
                "started_at": self.started_at,
                "duration_seconds": None if is_lost_here else round(finished.duration_seconds, 6),
                "output": finished.output if self.order.capture_output else None,
                "exit_code": finished.exit_code,
                "signal": finished.signal,
                "metrics": finished.metrics or None,
            }
            if collected:
                of_a_start["artifacts"] = tuple(collected)
        return Ended(
            event_id="",
            sequence=0,
            task_id=self.order.task_id,
            instance_id=self.order.instance_id,
            epoch=self.order.epoch,
            completed_at=finished.completed_at,
            reason=finished.reason,
            error_message=cut(self.lowered.explained(finished.reason, finished.message)),
            **of_a_start,
        )

    def launch_of(self, prepared: Prepared) -> Launch:
        order = self.order
        return Launch(
            task_id=order.task_id,
            instance_id=order.instance_id,
            epoch=order.epoch,
            argv=prepared.argv,
            environment=prepared.environment,
            directory=prepared.working_dir,
            spool_path=self.spool.path,
            capture_output=order.capture_output,
            output_bytes_max=order.output_bytes_max,
            timeout_seconds=order.timeout_seconds,
            lease_seconds=self.lease_seconds if self.lease_seconds < float("inf") else 0.0,
            kill_grace_seconds=order.kill_grace_seconds,
            stdin=prepared.stdin,
            limits=prepared.limits,
            manners=prepared.manners,
        )


def lease_seconds_of(order: Dispatch, session_seconds: float) -> float:
    """The lease of one instance under a session's lease."""
    if order.on_disconnect == CONTINUE:
        return float("inf")
    return order.lost_after_seconds or session_seconds


def kept_of(run: Run, collectors: Sequence[Collector]) -> Dispatch | None:
    """What a later life of the agent must know of the order; None = that it was accepted is enough."""
    order = run.lowered.order
    has_plain_end = lease_seconds_of(order, 0.0) == 0.0 and order.kill_grace_seconds == KILL_GRACE_SECONDS
    if has_plain_end and not run.lowered.notes and not any(each.wanted(order) for each in collectors):
        return None
    return evolve(run.given, cmd="", args=(), environment={}, stdin=b"", files=(), executor_options={}, parameters={})
