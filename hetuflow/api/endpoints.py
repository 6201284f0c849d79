"""Every endpoint there is, in the order of the contract's §3."""

from __future__ import annotations

from typing import Final

from hetuflow.api import (
    agent_state,
    agents,
    artifacts,
    backfills,
    batches,
    calendars,
    daemons,
    docs,
    events,
    external_events,
    external_instances,
    files,
    flows,
    gateway,
    jobs,
    parameters,
    previews,
    projections,
    schedule_match,
    schedules,
    servers,
    system,
    task_instances,
    tasks,
    usage,
)
from hetuflow.api.routing import Endpoint

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *jobs.ENDPOINTS,
    *parameters.ENDPOINTS,
    *schedules.ENDPOINTS,
    *previews.ENDPOINTS,
    *backfills.ENDPOINTS,
    *daemons.ENDPOINTS,
    *schedule_match.ENDPOINTS,
    *calendars.ENDPOINTS,
    *tasks.ENDPOINTS,
    *batches.ENDPOINTS,
    *flows.ENDPOINTS,
    *external_instances.ENDPOINTS,
    *task_instances.ENDPOINTS,
    *artifacts.ENDPOINTS,
    *usage.ENDPOINTS,
    *files.ENDPOINTS,
    *agents.ENDPOINTS,
    *agent_state.ENDPOINTS,
    *servers.ENDPOINTS,
    *external_events.ENDPOINTS,
    *events.ENDPOINTS,
    *projections.ENDPOINTS,
    *system.ENDPOINTS,
    *gateway.ENDPOINTS,
    *docs.ENDPOINTS,
)

ROUTES: Final[tuple[Endpoint, ...]] = (*ENDPOINTS, *docs.ASSETS)
"""Also what the documentation page needs."""
