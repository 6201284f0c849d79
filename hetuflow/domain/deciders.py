"""Every decider by the category of its streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hetuflow.domain.agent import AGENT
from hetuflow.domain.backfill import BACKFILL
from hetuflow.domain.calendar import CALENDAR
from hetuflow.domain.decider import Decider
from hetuflow.domain.external import EXTERNAL
from hetuflow.domain.flow import FLOW
from hetuflow.domain.job import JOB
from hetuflow.domain.lease import LEASE
from hetuflow.domain.schedule import SCHEDULE
from hetuflow.domain.server import SERVER
from hetuflow.domain.task import TASK

DECIDERS: Mapping[str, Decider[Any]] = {
    "job": JOB,
    "schedule": SCHEDULE,
    "task": TASK,
    "agent": AGENT,
    "server": SERVER,
    "external": EXTERNAL,
    "lease": LEASE,
    "flow": FLOW,
    "calendar": CALENDAR,
    "backfill": BACKFILL,
}
