"""What a connection moves: made once per agent, outlives connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio
from attrs import frozen

from agent.executor import Executor
from agent.limits import NO_LEASE, Lease
from agent.log_ring import LogRing
from agent.profile import Gauges, Profile
from agent.reports import Reports
from agent.shipping import Shipping
from agent.storage import Storage
from agent.wakeup import Wakeup
from hetuflow.protocol.messages import Known, WatchFiles


@frozen(slots=True)
class Moment:
    """A sending time, on trio's clock, and on the one that goes on while the machine sleeps."""

    at: float
    lease_clock: float


class Work:
    """See the module."""

    def __init__(
        self,
        profile: Profile,
        incarnation: int,
        life: str,
        executor: Executor,
        reports: Reports,
        shipping: Shipping,
        gauges: Gauges,
        storage: Storage,
    ) -> None:
        self.profile, self.incarnation, self.life = profile, incarnation, life
        self.executor, self.reports, self.shipping, self.gauges = executor, reports, shipping, gauges
        self.artifacts, self.fetching = storage.artifacts, storage.fetching
        self.lease: Lease = NO_LEASE
        """The session's."""
        self.renewed_at = float("inf")
        """When the last heartbeat was sent that has renewed it, also of a session that is over (monotonic seconds)."""
        self._renewed: Moment | None = None
        self.lease_changed = Wakeup()
        self.stopping: str | None = None
        self.store_id = ""
        """Of the last welcome, also of an earlier life."""
        self.store_changed: Callable[[str], None] = lambda store_id: None
        self.changed: Callable[[], None] = lambda: None
        """Somebody may want to know how the agent is: it is connected, or no longer."""
        self.stop: Callable[[], None] = lambda: None
        self.watch: Callable[[WatchFiles], None] = lambda wanted: None
        """What the server wants to be observed."""
        self.clear_cache: Callable[[], None] = lambda: None
        self.log_ring = LogRing()
        self.facts: Callable[[], Mapping[str, Any]] = dict
        """See `Condition`."""

    def known(self) -> tuple[Known, ...]:
        return (*self.executor.known(), *self.reports.known_ended())

    def moment(self) -> Moment:
        return Moment(trio.current_time(), self.executor.now())

    def renew_lease(self, sent: Moment, seconds: float) -> None:
        self.lease = Lease(sent.at, seconds)
        self.renewed_at, self._renewed = sent.at, sent
        self.executor.renew_lease(sent.lease_clock, seconds)
        self.lease_changed.set()

    def lease_is_over(self) -> bool:
        """Whether nothing may be started now: there is no lease, or it is over by either clock. The machine may have slept."""
        lease, renewed = self.lease, self._renewed
        if lease is NO_LEASE or renewed is None:
            return True
        by_the_other = renewed.lease_clock + (lease.deadline - renewed.at)
        return trio.current_time() >= lease.deadline or self.executor.now() >= by_the_other

    def next_lease_deadline(self) -> float:
        """Of the session, or of the first instance (monotonic seconds)."""
        return min(self.lease.deadline, self.executor.next_lease_deadline(self.renewed_at))

    def metrics(self) -> Mapping[str, float]:
        return {
            **self.gauges.read(),
            **self.executor.metrics(),
            "unacked_reports": self.reports.unacked_count,
            "journal_bytes": self.reports.journal_bytes,
            "output_waiting_bytes": self.shipping.waiting_bytes,
        }
