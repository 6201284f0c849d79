"""Every table there is, by its projection's name."""

from __future__ import annotations

from collections.abc import Mapping

from projections.agents import AGENTS
from projections.backfills import BACKFILLS
from projections.calendars import CALENDARS
from projections.definition import Table
from projections.flow_runs import FLOW_RUNS
from projections.jobs import JOBS
from projections.open_work import OPEN_WORK
from projections.schedules import SCHEDULES
from projections.servers import SERVERS
from projections.task_instances import TASK_INSTANCES
from projections.tasks import TASKS

LIVE_TABLES: Mapping[str, Table] = {
    "jobs": JOBS,
    "schedules": SCHEDULES,
    "tasks": TASKS,
    "task_instances": TASK_INSTANCES,
    "agents": AGENTS,
    "servers": SERVERS,
    "calendars": CALENDARS,
    "flows": FLOW_RUNS,
    "backfills": BACKFILLS,
}
"""The tables for people: one checkpoint, one transaction, so that they are consistent with each other."""

LIVE = "live"
"""The name of their checkpoint."""

OPEN_WORK_CHECKPOINT = "open_work"
"""The checkpoint of `open_work`."""

ALL_TABLES: Mapping[str, Table] = {**LIVE_TABLES, "open_work": OPEN_WORK}
