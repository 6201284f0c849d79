"""What is known of a schedule, and the trigger that its members amount to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from attrs import Factory, frozen

from hetuflow.domain.cron import CronError, UnknownTimeZone
from hetuflow.domain.daemon_state import Seat
from hetuflow.domain.enums import IntervalMode, ScheduleKind, ScheduleStatus
from hetuflow.domain.event_filter import faults as filter_faults
from hetuflow.domain.event_types import fault_of as type_fault
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.trigger import CronTrigger, IntervalTrigger, OnceTrigger, PendingTrigger, Trigger

JSON = Mapping[str, Any]

JUST_BEFORE = timedelta(microseconds=1)
"""The resolution of time: nothing lies between an instant and the one this much earlier."""

BEGINNING = datetime.min.replace(tzinfo=UTC)

END_BEFORE_START = "must not be before start_time"

YEAR_MAX = 9998
"""No nominal time of a later year, so that no zone pushes it off the calendar."""


EDITABLE = (
    "name",
    "description",
    "schedule_kind",
    "cron_expression",
    "interval_secs",
    "interval_mode",
    "max_count",
    "timezone",
    "start_time",
    "end_time",
    "event_type",
    "event_filter",
    "misfire_policy",
    "misfire_grace_seconds",
    "max_age_seconds",
    "overlap_policy",
    "jitter_seconds",
    "pause_on_failures",
    "parameters",
    "priority",
    "debounce_seconds",
    "daemon",
    "exclude_calendars",
    "run_flow",
)

TIMING = frozenset(
    {
        "schedule_kind",
        "cron_expression",
        "interval_secs",
        "interval_mode",
        "max_count",
        "timezone",
        "start_time",
        "end_time",
        "misfire_policy",
        "misfire_grace_seconds",
        "max_age_seconds",
        "jitter_seconds",
        "exclude_calendars",
    }
)
"""The members that decide what fires when. Only their edit starts anew; no other one touches what is due."""


def starts_anew(names: Iterable[str]) -> bool:
    """Whether an edit of these members covers what was due; one of none at all restates the times."""
    found = tuple(names)
    return not found or not TIMING.isdisjoint(found)


MATCHING = frozenset({"event_type", "event_filter", "debounce_seconds"})
"""The members that decide which events fire. No effect on the times of other kinds."""


def matches_anew(names: Iterable[str]) -> bool:
    """Whether after an edit of these members only events recorded later are the schedule's to decide about."""
    found = tuple(names)
    return starts_anew(found) or not MATCHING.isdisjoint(found)


@frozen(slots=True)
class HeldEvent:
    """A matching event that waits for quiet. `count`: of those that its task would stand for."""

    event_id: str
    position: int
    type: str
    data: JSON
    depth: int
    recorded_at: datetime
    count: int
    first_at: datetime
    quiet_at: datetime


@frozen(slots=True)
class ScheduleState:
    """A schedule. `status` None: there is no such schedule.

    `cursor_at`: every nominal time at or before it is covered, or is not this schedule's to cover (it was created,
    enabled, or given other times later). `last_run_at`: the newest nominal time that fired.
    """

    schedule_id: str = ""
    job_id: str = ""
    name: str | None = None
    description: str | None = None
    schedule_kind: int = 0
    cron_expression: str | None = None
    interval_secs: int | None = None
    interval_mode: str = "fixed_rate"
    max_count: int | None = None
    timezone: str = "UTC"
    start_time: datetime | None = None
    end_time: datetime | None = None
    event_type: str | None = None
    event_filter: JSON | None = None
    misfire_policy: str = "fire_once"
    misfire_grace_seconds: int = 60
    max_age_seconds: int | None = None
    overlap_policy: str = "allow"
    jitter_seconds: int = 0
    pause_on_failures: int | None = None
    parameters: JSON | None = None
    priority: int = 0
    debounce_seconds: int = 0
    daemon: JSON | None = None
    exclude_calendars: tuple[str, ...] = ()
    run_flow: bool = False
    anchor_at: datetime = BEGINNING
    status: ScheduleStatus | None = None
    next_run_at: datetime | None = None
    cursor_at: datetime = BEGINNING
    fire_count: int = 0
    last_run_at: datetime | None = None
    created_at: datetime = BEGINNING
    is_deleted: bool = False
    calendars: JSON = Factory(dict)
    """The versions of its calendars that `next_run_at` rests on."""

    open_tasks: tuple[str, ...] = ()
    """Tasks made by it that an overlap policy asks about: the newest, and those that it was made to wait for."""
    defined_at: datetime = BEGINNING
    """When what it fires by was last set or switched on: no event recorded before is its to decide about."""
    decided_position: int = 0
    """Of the newest event that it has decided about, or holds."""
    held: HeldEvent | None = None
    seats: tuple[Seat, ...] = ()
    """Of a daemon, those that ever had a task, by number; they outlive a change of the kind."""
    restarts: tuple[datetime, ...] = ()
    """The newest ends that count towards a daemon's restart limit, as many as decide about it."""
    gave_up: str | None = None
    """Why a daemon disabled itself; until it is enabled again."""
    is_suspended: bool = False
    revision: int = 0
    """Counts edits and switches."""

    awaited_task: str | None = None
    """The task whose end its next nominal time counts from (fixed delay); None = there is none."""

    counted_tasks: tuple[str, ...] = ()
    """Tasks made by it since it was enabled that have not ended, where failures are counted (`pause_on_failures`)."""

    consecutive_failures: int = 0
    status_note: str | None = None
    """Why it was switched on or off, said with the last time that it was."""

    @property
    def exists(self) -> bool:
        return self.status is not None and not self.is_deleted

    @property
    def is_enabled(self) -> bool:
        return self.status is ScheduleStatus.ENABLED and not self.is_deleted

    @property
    def is_once(self) -> bool:
        return is_once(self)

    @property
    def followed(self) -> frozenset[str]:
        """Tasks whose end it wants to be told."""
        return frozenset(self.counted_tasks if self.awaited_task is None else (*self.counted_tasks, self.awaited_task))

    @property
    def runs_flow(self) -> bool:
        """Whether it makes a run of its job's flow, not one task."""
        return self.run_flow or self.schedule_kind == ScheduleKind.FLOW

    @property
    def is_event(self) -> bool:
        return self.schedule_kind == ScheduleKind.EVENT

    @property
    def is_daemon(self) -> bool:
        return self.schedule_kind == ScheduleKind.DAEMON

    @property
    def fires_left(self) -> int | None:
        """Until `max_count`; None = unlimited."""
        return None if self.max_count is None else max(self.max_count - self.fire_count, 0)


class Timing(Protocol):
    """The members that say when: of a state, of a create command, or of an event."""

    @property
    def schedule_kind(self) -> int: ...
    @property
    def cron_expression(self) -> str | None: ...
    @property
    def interval_secs(self) -> int | None: ...
    @property
    def interval_mode(self) -> str: ...
    @property
    def max_count(self) -> int | None: ...
    @property
    def timezone(self) -> str: ...
    @property
    def start_time(self) -> datetime | None: ...
    @property
    def end_time(self) -> datetime | None: ...
    @property
    def event_type(self) -> str | None: ...
    @property
    def event_filter(self) -> JSON | None: ...


def ends_before_start(start: datetime | None, end: datetime | None) -> bool:
    return start is not None and end is not None and end < start


def is_once(timing: Timing) -> bool:
    """Whether it has one nominal time, `start_time`: Interval with `max_count` 1 and a start."""
    return timing.schedule_kind == ScheduleKind.INTERVAL and timing.max_count == 1 and timing.start_time is not None


def is_fixed_delay(timing: Timing) -> bool:
    """Whether each nominal time counts from the end of the task before."""
    return timing.schedule_kind == ScheduleKind.INTERVAL and timing.interval_mode == IntervalMode.FIXED_DELAY


def delayed_after(timing: Timing, since: datetime) -> datetime | None:
    """The nominal time of a fixed delay that counts from `since`: an interval later, or `start_time` if that is still to
    come; None after `end_time`, or when it leaves the calendar."""
    if timing.start_time is not None and timing.start_time > since:
        return timing.start_time
    try:
        at = since + timedelta(seconds=timing.interval_secs or 0)
    except OverflowError:
        return None
    return None if at.year > YEAR_MAX or (timing.end_time is not None and at > timing.end_time) else at


def has_fixed_times(timing: Timing) -> bool:
    """Whether its kind fires at times that can be told ahead."""
    return timing.schedule_kind in (ScheduleKind.CRON, ScheduleKind.INTERVAL)


def trigger_of(timing: Timing, anchor_at: datetime) -> Trigger:
    """Return the rule of times.

    Args:
      anchor_at: where an interval without `start_time` counts from.
    Raises:
      ValueError: there is none: a wrong expression, zone, interval or window, or a kind without fixed times.
    """
    build = _TRIGGERS.get(timing.schedule_kind)
    if build is None:
        raise ValueError(f"schedule kind {timing.schedule_kind} is not supported by this version")
    return build(timing, anchor_at)


def checked_trigger_of(timing: Timing, anchor_at: datetime) -> Trigger:
    """As `trigger_of`, for what a user has written; of conflicts between members only those of the times are looked for.

    Raises:
      Rejected: `invalid`, naming the member.
    """
    if timing.schedule_kind not in _TRIGGERS:
        raise _invalid("schedule_kind", "this kind is not supported by this version")
    for name in _REQUIRED[timing.schedule_kind](timing):
        raise _invalid(name, "is required for this kind")
    if ends_before_start(timing.start_time, timing.end_time):
        raise _invalid("end_time", END_BEFORE_START)
    if timing.schedule_kind == ScheduleKind.EVENT:
        _check_event(timing)
    try:
        return trigger_of(timing, anchor_at)
    except UnknownTimeZone as wrong:
        raise _invalid("timezone", str(wrong)) from wrong
    except CronError as wrong:
        raise _invalid("cron_expression", str(wrong), position=wrong.position) from wrong
    except ValueError as wrong:
        raise _invalid("interval_secs", str(wrong)) from wrong


def _check_event(timing: Timing) -> None:
    fault = type_fault(timing.event_type or "")
    if fault is not None:
        raise _invalid("event_type", fault[0])
    for found in filter_faults({} if timing.event_filter is None else timing.event_filter):
        raise _invalid(found.path, found.message)


def _invalid(path: str, message: str, **more: Any) -> Rejected:
    return Rejected("invalid", f"{path}: {message}", {"path": path, **more})


def _cron(timing: Timing, anchor_at: datetime) -> Trigger:
    return CronTrigger(timing.cron_expression or "", timing.timezone, timing.start_time, timing.end_time)


def _interval(timing: Timing, anchor_at: datetime) -> Trigger:
    if is_once(timing) and timing.start_time is not None:
        return OnceTrigger(timing.start_time)
    rate = IntervalTrigger(anchor_at, timing.interval_secs or 0, timing.start_time, timing.end_time)
    if not is_fixed_delay(timing):
        return rate
    return PendingTrigger(timing.next_run_at if isinstance(timing, ScheduleState) else delayed_after(timing, anchor_at))


_TRIGGERS: Mapping[int, Callable[[Timing, datetime], Trigger]] = {
    ScheduleKind.CRON: _cron,
    ScheduleKind.INTERVAL: _interval,
    ScheduleKind.EVENT: lambda timing, anchor_at: PendingTrigger(None),
    ScheduleKind.FLOW: lambda timing, anchor_at: PendingTrigger(None),
}


def _cron_needs(timing: Timing) -> tuple[str, ...]:
    return () if timing.cron_expression else ("cron_expression",)


def _interval_needs(timing: Timing) -> tuple[str, ...]:
    if timing.interval_secs is not None or is_once(timing):
        return ()
    return ("start_time",) if timing.max_count == 1 else ("interval_secs",)


_REQUIRED: Mapping[int, Callable[[Timing], tuple[str, ...]]] = {
    ScheduleKind.CRON: _cron_needs,
    ScheduleKind.INTERVAL: _interval_needs,
    ScheduleKind.EVENT: lambda timing: () if timing.event_type else ("event_type",),
    ScheduleKind.FLOW: lambda timing: (),
}
