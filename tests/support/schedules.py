"""Builders of schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from hetuflow.domain.commands import CreateSchedule, FireSchedule, JobSnapshot
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind
from hetuflow.domain.schedule import SCHEDULE
from tests.support.given import Outcome, given
from tests.support.tasks import JOB_ID, a_job

SCHEDULE_ID = "0198c0de-0000-7000-8000-000000000001"


def a_minutely(**members: Any) -> CreateSchedule:
    """An interval of 60 s: at 12:01, 12:02, … when created at 12:00."""
    command = CreateSchedule(
        schedule_id=SCHEDULE_ID, job_id=JOB_ID, schedule_kind=ScheduleKind.INTERVAL, interval_secs=60
    )
    return evolve(command, **members)


def a_cron(expression: str, **members: Any) -> CreateSchedule:
    return a_minutely(
        schedule_kind=ScheduleKind.CRON, **{"interval_secs": None, "cron_expression": expression, **members}
    )


def a_schedule(command: CreateSchedule | None = None) -> Outcome:
    return given(SCHEDULE).when(command or a_minutely())


def a_fire(job: JobSnapshot | None = None, **members: Any) -> FireSchedule:
    return FireSchedule(job=job or a_job(), **members)


def belongs(row: Mapping[str, Any], source: Address) -> bool:
    """Whether a schedule is one of the job, or refers to the calendar."""
    return source.id in row["exclude_calendars"] if source.category == "calendar" else row["job_id"] == source.id
