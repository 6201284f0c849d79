"""L3: what an actor says of itself is the fold of its stream, and what the tables show of it. On every server."""

from __future__ import annotations

from hetuflow.core import Core
from projections.tables import LIVE_TABLES
from tests.simulation.checkers import Verdict
from tests.simulation.checkers.logs import check_shown
from tests.simulation.cluster import Cluster
from tests.simulation.database import tables_of

READ_SECONDS_MAX = 10.0


async def check_states(cluster: Cluster, verdict: Verdict) -> None:
    """Ask every server for the states of all actors. A server that does not serve by now is a violation."""
    lives = cluster.lives()
    if len(lives) != len(cluster.servers):
        verdict.fail("scenario", f"{len(lives)} of {len(cluster.servers)} servers serve at the end")
    tables = tables_of(cluster.log, LIVE_TABLES)
    check_shown(tables, verdict)
    addresses = cluster.addresses()
    for life in lives:

        async def readings(core: Core) -> object:
            shown = repr((core.system.statistics(), core.scheduler.status()))
            cluster.observed.line("what a server tells of itself", shown)
            return await core.system.read_many(addresses), core.system.statistics()

        found, statistics = await life.request(readings, READ_SECONDS_MAX)  # type: ignore[misc]
        verdict.check_states(cluster.log, found)
        verdict.check_rows(found, tables)
        if statistics.crashes or statistics.quarantines or statistics.to_recover:
            verdict.fail("kernel", f"an actor of {life.node.name} crashed or is unsettled", statistics)
