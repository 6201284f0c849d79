"""Members of a schedule that contradict each other, and why: one table for the domain and for whoever reads requests.

What one member alone may be is not said here, and what a kind requires is `schedule_state.checked_trigger_of`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hetuflow.domain.enums import IntervalMode, MisfirePolicy, OverlapPolicy, ScheduleKind
from hetuflow.domain.schedule_state import END_BEFORE_START, ends_before_start

PAUSE_ON_FAILURES_MAX = 1000

DELAYED_OVERLAP = str(OverlapPolicy.SKIP)
"""The one overlap policy of a fixed delay, and its default there."""


def conflicts(members: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (member, what is wrong and what is allowed) of the members as they will be stored."""
    if ends_before_start(members["start_time"], members["end_time"]):
        yield "end_time", END_BEFORE_START
    if members["interval_mode"] == IntervalMode.FIXED_DELAY:
        yield from _of_fixed_delay(members)
    if members["exclude_calendars"]:
        yield from _of_calendars(members)
    if members["run_flow"]:
        yield from _of_flows(members)
    most, pauses = members["max_count"], members["pause_on_failures"]
    if pauses is not None and members["schedule_kind"] == ScheduleKind.DAEMON:
        yield "pause_on_failures", "is not for kind Daemon, which gives up by its restart_limit"
    if most is not None and pauses is not None and pauses >= most:
        yield "pause_on_failures", f"must be below max_count ({most}), after which the schedule is over anyway"


def _of_flows(members: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is said of the ends of a schedule's tasks is said of one task, not of a run of many."""
    if members["schedule_kind"] not in (ScheduleKind.CRON, ScheduleKind.INTERVAL, ScheduleKind.FLOW):
        yield "run_flow", "is for schedules of kind Cron, Interval, once and Flow"
    elif members["interval_mode"] == IntervalMode.FIXED_DELAY:
        yield "run_flow", "is not for interval_mode fixed_delay; overlap_policy skip keeps runs from overlapping"
    if members["pause_on_failures"] is not None:
        yield "pause_on_failures", "is not for schedules that run a flow"


def _of_calendars(members: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is excluded is a nominal time that is known beforehand; these have none."""
    if members["schedule_kind"] not in (ScheduleKind.CRON, ScheduleKind.INTERVAL):
        yield "exclude_calendars", "is for schedules of kind Cron, Interval and once, whose times are known beforehand"
    elif members["interval_mode"] == IntervalMode.FIXED_DELAY:
        yield "exclude_calendars", "is for times that are known beforehand, which interval_mode fixed_delay has not"


def _of_fixed_delay(members: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if members["schedule_kind"] != ScheduleKind.INTERVAL:
        yield "interval_mode", "fixed_delay is for schedules of kind Interval"
        return
    if members["max_count"] == 1:
        yield "interval_mode", "fixed_delay has no meaning for a schedule that fires once: no time follows"
    if members["overlap_policy"] != DELAYED_OVERLAP:
        yield (
            "overlap_policy",
            f"must be {DELAYED_OVERLAP} with interval_mode fixed_delay, whose next time counts from the end of the task"
            f" before, so that none overlaps; got {members['overlap_policy']}",
        )
    if members["misfire_policy"] == MisfirePolicy.FIRE_ALL:
        yield "misfire_policy", "fire_all has no meaning with interval_mode fixed_delay: at most one time is ever owed"
