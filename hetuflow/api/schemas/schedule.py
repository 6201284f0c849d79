"""Schedules: when a job runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from attrs import frozen

from hetuflow.api.coded import Code, CodeOut, Word, WordOut, title
from hetuflow.api.jsontext import shown
from hetuflow.api.kinds import (
    INT32,
    INVALID,
    Array,
    Boolean,
    Integer,
    Mapped,
    NameId,
    Schema,
    Supported,
    Text,
    Time,
    Uuid,
)
from hetuflow.api.objects import FreeObject
from hetuflow.api.problems import Problems
from hetuflow.api.schemas.daemon import DAEMON
from hetuflow.api.schemas.job import BY_WHOM, CREATED_UPDATED, CRON_EXPRESSION, DESCRIPTION
from hetuflow.api.schemas.switch import STATUS_NOTE
from hetuflow.api.shapes import Alias, Entity, Given, Member
from hetuflow.api.waited_events import EventFilter, EventType
from hetuflow.domain import daemon_rules
from hetuflow.domain.cron import CronError, UnknownTimeZone, parse_cron
from hetuflow.domain.cron_zone import check_zone
from hetuflow.domain.enums import IntervalMode, MisfirePolicy, OverlapPolicy, ScheduleKind, ScheduleStatus
from hetuflow.domain.schedule_conflicts import DELAYED_OVERLAP, PAUSE_ON_FAILURES_MAX, conflicts
from hetuflow.domain.schedule_events import DEBOUNCE_SECONDS_MAX
from hetuflow.domain.schedule_times import JITTER_SECONDS_MAX
from hetuflow.domain.trigger import INTERVAL_SECONDS_MAX


class _Once(int):
    """Interval, with the further meaning that `max_count` is 1."""


ONCE: Final = _Once(ScheduleKind.INTERVAL)


@frozen(slots=True)
class TimeZone:
    phrase: str = "an IANA time zone, such as Europe/Berlin"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        text = Text(64, 1).parse(value, path, problems)
        if text is INVALID:
            return INVALID
        try:
            check_zone(text)
        except UnknownTimeZone as error:
            problems.add(path, str(error), error.nearest)
            return INVALID
        return text

    def schema(self) -> Schema:
        return {
            "type": "string",
            "format": "iana-time-zone",
            "minLength": 1,
            "maxLength": 64,
            "description": self.phrase,
        }


KIND = Supported(
    Code(ScheduleKind, {"once": ONCE}),
    (
        int(ScheduleKind.CRON),
        int(ScheduleKind.INTERVAL),
        int(ScheduleKind.DAEMON),
        int(ScheduleKind.EVENT),
        int(ScheduleKind.FLOW),
    ),
    lambda code: title(ScheduleKind(code)),
)
ENABLED = Mapped(Boolean(), lambda on: int(ScheduleStatus.ENABLED if on else ScheduleStatus.DISABLED))
SECONDS = Integer(0, INTERVAL_SECONDS_MAX)
EXCLUDE_CALENDARS_MAX = 20
POSITIVE_SECONDS = Integer(1, INTERVAL_SECONDS_MAX)

SCHEDULE = Entity(
    title="SchedSchedule",
    members=[
        Member(name="id", kind=Uuid(chosen=True), write="C", doc="default: a new UUID v7"),
        Member(name="job_id", kind=Uuid(), write="C!", doc="cannot change"),
        Member(name="name", kind=Text(255), write="CU", nullable=True, default=None),
        Member(name="description", kind=DESCRIPTION, write="CU", nullable=True, default=None),
        Member(
            name="schedule_kind",
            kind=KIND,
            write="C!U",
            out=CodeOut(ScheduleKind),
            aliases=[Alias("kind", shown=Text())],
            doc="code or name; the name `once` means Interval with `max_count` 1",
        ),
        Member(
            name="cron_expression",
            kind=CRON_EXPRESSION,
            write="CU",
            nullable=True,
            default=None,
            doc="Cron: required. Five fields are Vixie cron, six or seven Quartz",
        ),
        Member(
            name="interval_secs",
            kind=POSITIVE_SECONDS,
            write="CU",
            nullable=True,
            default=None,
            aliases=[Alias("interval_seconds", shown=POSITIVE_SECONDS)],
            doc="Interval: required unless `max_count` is 1",
        ),
        Member(
            name="interval_mode",
            kind=Word(IntervalMode),
            write="CU",
            default=str(IntervalMode.FIXED_RATE),
            out=WordOut(IntervalMode),
            doc="`fixed_delay`: the interval counts from the end of the task before, however it ended",
        ),
        Member(
            name="max_count",
            kind=Integer(1, INTERVAL_SECONDS_MAX),
            write="CU",
            nullable=True,
            default=None,
            doc="number of fires, then Expired; null = unlimited",
        ),
        Member(name="timezone", kind=TimeZone(), write="CU", doc="default: the server's `scheduler.timezone`"),
        Member(name="start_time", kind=Time(), write="CU", nullable=True, default=None),
        Member(name="end_time", kind=Time(), write="CU", nullable=True, default=None, doc="included"),
        Member(
            name="event_type",
            kind=EventType(),
            write="CU",
            nullable=True,
            default=None,
            doc="Event: required. A name or a glob; hetuflow's own are `task.failed`, `agent.lost`, …",
        ),
        Member(
            name="event_filter",
            kind=EventFilter(),
            out=FreeObject(),
            write="CU",
            nullable=True,
            default=None,
            doc="Event: which of that type. A dotted path into the event's data -> a glob, another scalar it equals, an"
            ' array of these, or operators (`{"$gt": 100}`); `$any`, `$all`: lists of filters',
        ),
        Member(
            name="debounce_seconds",
            kind=Integer(0, DEBOUNCE_SECONDS_MAX),
            write="CU",
            default=0,
            doc="Event: wait for so long without another matching event, and make one task for all",
        ),
        Member(
            name="status",
            kind=Code(ScheduleStatus),
            write="CU",
            default=int(ScheduleStatus.ENABLED),
            out=CodeOut(ScheduleStatus),
            aliases=[Alias("enabled", ENABLED, shown=Boolean())],
        ),
        Member(
            name="misfire_policy",
            kind=Word(MisfirePolicy),
            out=WordOut(MisfirePolicy),
            write="CU",
            default=str(MisfirePolicy.FIRE_ONCE),
            doc="for fires found later than the grace: none / one for the newest / each",
        ),
        Member(name="misfire_grace_seconds", kind=SECONDS, write="CU", default=60),
        Member(
            name="max_age_seconds",
            kind=POSITIVE_SECONDS,
            write="CU",
            nullable=True,
            default=None,
            doc="a fire found later than this never happens, whatever the misfire policy; null = no limit",
        ),
        Member(
            name="overlap_policy",
            kind=Word(OverlapPolicy),
            write="CU",
            default=str(OverlapPolicy.ALLOW),
            out=WordOut(OverlapPolicy),
            doc="while an earlier task of the schedule has not ended: start beside it / skip / start after it / cancel it and start; always `skip` with `fixed_delay`",
        ),
        Member(
            name="jitter_seconds",
            kind=Integer(0, JITTER_SECONDS_MAX),
            write="CU",
            default=0,
            doc="delays each task by a part of it: the same for the same fire, never up to the next nominal time",
        ),
        Member(
            name="pause_on_failures",
            kind=Integer(1, PAUSE_ON_FAILURES_MAX),
            write="CU",
            nullable=True,
            default=None,
            doc="disabled by itself after so many of its tasks in a row have failed; null = never",
        ),
        Member(
            name="consecutive_failures",
            kind=Integer(),
            doc="tasks in a row that failed since it was enabled; counted while `pause_on_failures` is set",
        ),
        STATUS_NOTE,
        Member(
            name="parameters",
            kind=FreeObject(),
            write="CU",
            default={},
            doc="start value of each task's `parameters`",
        ),
        Member(name="priority", kind=INT32, write="CU", default=0, doc="of its tasks"),
        Member(
            name="daemon",
            kind=DAEMON,
            write="CU",
            nullable=True,
            default=None,
            doc="Daemon: how its instances are kept running. Sent, it replaces what is stored as a whole",
        ),
        Member(
            name="run_flow",
            kind=Boolean(),
            write="CU",
            default=False,
            doc="each fire is a run of the job's flow: of it and every job that follows it; kind Flow is always one",
        ),
        Member(
            name="exclude_calendars",
            kind=Array(NameId(), high=EXCLUDE_CALENDARS_MAX),
            write="CU",
            default=[],
            doc="ids of calendars; what one of them excludes is skipped with the reason `calendar`",
        ),
        Member(name="next_run_at", kind=Time(), nullable=True, doc="the next nominal time that is not excluded"),
        Member(
            name="calendar_versions",
            kind=FreeObject(),
            doc="the version of each calendar that `next_run_at` was found under",
        ),
        Member(name="last_run_at", kind=Time(), nullable=True),
        Member(name="fire_count", kind=Integer()),
        *BY_WHOM,
        *CREATED_UPDATED,
    ],
)


def check_schedule(given: Given, problems: Problems, stored: Mapping[str, Any], zone: str) -> None:
    """The rules between members, on what will be stored: what was given, over what is stored."""
    members = given.members
    if type(members.get("schedule_kind")) is _Once:
        members["schedule_kind"] = int(ScheduleKind.INTERVAL)
        if members.setdefault("max_count", 1) != 1:
            problems.add(given.path("max_count"), f"must be 1 for kind once, got {shown(members['max_count'])}")
            members["max_count"] = 1
    merged = {**stored, **members}
    kind = merged.get("schedule_kind")
    start: datetime | None = merged.get("start_time")
    if kind == ScheduleKind.CRON and merged.get("cron_expression") is None:
        _require("cron_expression", "a schedule of kind Cron", given, problems)
    if kind == ScheduleKind.INTERVAL and merged.get("interval_secs") is None:
        if merged.get("max_count") != 1:
            _require("interval_secs", "a schedule of kind Interval (unless max_count is 1)", given, problems)
        elif start is None:
            _require("start_time", "a schedule that fires once and has no interval", given, problems)
    if kind == ScheduleKind.EVENT and merged.get("event_type") is None:
        _require("event_type", "a schedule of kind Event", given, problems)
    _check_conflicts(given, problems, merged)
    if members.get("daemon") is not None:
        for path, message in daemon_rules.problems(members["daemon"], given.path("daemon")):
            problems.add(path, message)
    if {"cron_expression", "timezone"} & members.keys() and merged.get("cron_expression") is not None:
        check_expression(
            merged["cron_expression"], merged.get("timezone") or zone, given.path("cron_expression"), problems
        )


def _check_conflicts(given: Given, problems: Problems, merged: dict[str, Any]) -> None:
    """What the members say against each other, at one that was given."""
    members = given.members
    was = merged.get("overlap_policy", OverlapPolicy.ALLOW)
    is_delayed = merged.get("interval_mode") == IntervalMode.FIXED_DELAY
    if (
        is_delayed and "overlap_policy" not in members and was == OverlapPolicy.ALLOW
    ):  # its default: nobody asked for it
        members["overlap_policy"] = merged["overlap_policy"] = DELAYED_OVERLAP
    defaults = {member.name: member.default for member in SCHEDULE.create.members}
    for name, why in conflicts({**defaults, **merged}):
        if name == "end_time" and name not in members and "start_time" in members:
            problems.add(given.path("start_time"), "end_time must not be before start_time")
        else:
            problems.add(given.path(name), why)


def check_expression(text: str, zone: str, path: str, problems: Problems) -> None:
    try:
        parse_cron(text, zone)
    except CronError as error:
        problems.add(path, f"at position {error.position}: {error.message}")
    except UnknownTimeZone:
        pass  # reported at `timezone`


def _require(name: str, what: str, given: Given, problems: Problems) -> None:
    if not any(problem.path == given.path(name) for problem in problems):
        problems.add(name, f"is required for {what}")
