"""L3: what an actor says of itself is the fold of its stream, and what the tables show of it. On every server."""

from __future__ import annotations

import json
from typing import Any

from hetuflow.actors import Reading, Statistics
from hetuflow.core import Core
from hetuflow.domain.decider import Address
from projections.tables import LIVE_TABLES
from tests.simulation.checkers import Verdict
from tests.simulation.checkers.logs import check_shown
from tests.simulation.checkers.usage import check_usage
from tests.simulation.cluster import Cluster
from tests.simulation.database import tables_of
from tests.simulation.server_node import ServerLife

READ_SECONDS_MAX = 10.0


async def check_states(cluster: Cluster, verdict: Verdict) -> None:
    """Ask every server for the states of all actors. A server that does not serve by now is a violation."""
    lives = cluster.lives()
    if len(lives) != len(cluster.servers):
        verdict.fail("scenario", f"{len(lives)} of {len(cluster.servers)} servers serve at the end")
    given = {json.loads(each.data)["instance_id"] for each in cluster.log.events if each.type == "TaskDispatched"}
    check_usage(await cluster.usage.of_all(), given, verdict)
    head = -1
    for life in lives:
        found, statistics = await _read_at_rest(cluster, life)
        if head != len(cluster.log.events):
            head, tables = len(cluster.log.events), tables_of(cluster.log, LIVE_TABLES)
            check_shown(tables, verdict)
        verdict.check_states(cluster.log, found)
        verdict.check_rows(found, tables)
        if statistics.crashes or statistics.quarantines or statistics.to_recover:
            verdict.fail("kernel", f"an actor of {life.node.name} crashed or is unsettled", statistics)


async def _read_at_rest(cluster: Cluster, life: ServerLife) -> tuple[dict[Address, Reading[Any]], Statistics]:
    """All states, read while nothing was written: what is written meanwhile stands in some of the readings only."""

    async def readings(core: Core) -> tuple[dict[Address, Reading[Any]], Statistics]:
        shown = repr((core.system.statistics(), core.scheduler.status()))
        cluster.observed.line("what a server tells of itself", shown)
        return dict(await core.system.read_many(cluster.addresses())), core.system.statistics()

    while True:
        head = len(cluster.log.events)
        found = await life.request(readings, READ_SECONDS_MAX)
        if len(cluster.log.events) == head:
            return found
