"""What a connection moves: made once per agent, outlives connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.executor import Executor
from agent.limits import NO_LEASE, Lease
from agent.profile import Gauges, Profile
from agent.reports import Reports
from agent.shipping import Shipping
from agent.wakeup import Wakeup
from hetuflow.protocol.messages import Known, WatchFiles


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
    ) -> None:
        self.profile, self.incarnation, self.life = profile, incarnation, life
        self.executor, self.reports, self.shipping, self.gauges = executor, reports, shipping, gauges
        self.lease: Lease = NO_LEASE
        self.lease_changed = Wakeup()
        self.stopping: str | None = None
        self.store_id = ""
        """Of the last welcome, also of an earlier life."""
        self.store_changed: Callable[[str], None] = lambda store_id: None
        self.stop: Callable[[], None] = lambda: None
        self.watch: Callable[[WatchFiles], None] = lambda wanted: None
        """What the server wants to be observed."""
        self.clear_cache: Callable[[], None] = lambda: None

    def known(self) -> tuple[Known, ...]:
        return (*self.executor.known(), *self.reports.known_ended())

    def renew_lease(self, sent: float, seconds: float) -> None:
        self.lease = Lease(sent, seconds)
        self.lease_changed.set()

    def metrics(self) -> Mapping[str, float]:
        return {**self.gauges.read(), **self.executor.metrics()}
