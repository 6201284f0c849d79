"""Commands as part of the log: what was asked is kept with the first event of what was decided.

So that a decision can be taken again later: by `hetuflow replay --debug`, under a debugger, and by `replay --all --check`,
after the program has changed. Compact: members that have their default are left out, and so is what the log has already
(a job that is copied into a task and a calendar are named by their version) or what does not change the events (guards).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

import attrs
import msgspec
from attrs import frozen

from hetuflow.domain import commands as catalogue
from hetuflow.domain import events
from hetuflow.domain.commands import CalendarSnapshot, JobSnapshot, Report, ReportEnded, ReportStarted
from hetuflow.domain.decider import Guard

COMMAND_BYTES_MAX = 16 * 1024
"""A larger command is only named: the job's config in it is in its event as well, and an event has its own bound."""

COMMANDS: Mapping[str, type] = {
    name: cls
    for name, cls in vars(catalogue).items()
    if isinstance(cls, type) and attrs.has(cls) and cls not in (JobSnapshot, CalendarSnapshot)
}

_CHANGED: Mapping[str, type] = {
    "UpdateJob": events.JobUpdated,
    "UpdateSchedule": events.ScheduleUpdated,
    "UpdateTask": events.TaskUpdated,
    "UpdateAgent": events.AgentUpdated,
    "UpdateServer": events.ServerUpdated,
    "UpdateCalendar": events.CalendarUpdated,
}
"""The event whose members have the types of an update's `changes`."""

_LEFT_OUT = frozenset({"guards"})

JobAt = Callable[[str, int], JobSnapshot]
"""(job id, version of its stream) -> the job as it was."""


CalendarAt = Callable[[str, int], CalendarSnapshot]
"""The same of a calendar."""

CALENDARS = "calendars"
"""The member of a command that has them."""


class CommandUnknown(Exception):
    """The command was not recorded, or this program does not know it."""


@frozen(slots=True)
class RecordedCommand:
    """A command as it was asked, and when it was decided."""

    command: Any
    decided_at: datetime


def record(command: object, decided_at: datetime) -> dict[str, Any]:
    """The command as a value for the metadata. `decided_at` is the time that the decider was given.

    The command is written to JSON once, here: the value holds it as text (`msgspec.Raw`), which an encoder takes as it is.
    """
    kept: dict[str, Any] = {"type": type(command).__name__, "now": decided_at}
    try:
        data = _plain(command)
        text = _encode(data)
    except (TypeError, ValueError, RecursionError, OverflowError):
        return kept
    if len(text) <= COMMAND_BYTES_MAX and (b"null" not in text or _is_finite(data)):  # msgspec writes NaN as null
        kept["data"] = msgspec.Raw(text)
    return kept


def read(recorded: Any, job_at: JobAt, calendar_at: CalendarAt | None = None) -> RecordedCommand:
    """The command again.

    Raises:
      CommandUnknown: the log has none there (older than this), only its name (too large), or one of another program.
    """
    if not isinstance(recorded, dict):
        raise CommandUnknown("the command was not recorded: the event is older than the recording of commands")
    name = recorded.get("type")
    cls = COMMANDS.get(str(name))
    if cls is None:
        raise CommandUnknown(f"this program does not know the command {name}")
    if "data" not in recorded:
        raise CommandUnknown(
            f"only the name of the command was recorded, {name}: it was larger than {COMMAND_BYTES_MAX} bytes"
        )
    try:
        named = calendars_of(recorded["data"])
        data = _filled({key: value for key, value in recorded["data"].items() if key != CALENDARS}, job_at)
        decided_at = msgspec.convert(recorded["now"], datetime)
        if cls is Report:
            return RecordedCommand(Report(reports=tuple(_report(each) for each in data["reports"])), decided_at)
        command: Any = msgspec.convert(data, cls)
    except (msgspec.ValidationError, KeyError, TypeError) as exc:
        raise CommandUnknown(f"the command {name} does not fit this program: {exc}") from exc
    if named and calendar_at is not None:
        command = attrs.evolve(command, calendars=tuple(calendar_at(*each) for each in named))
    if name in _CHANGED:
        command = attrs.evolve(command, changes=_typed(command.changes, _CHANGED[str(name)]))
    return RecordedCommand(command, decided_at)


def jobs_of(data: Any) -> Iterator[tuple[str, int]]:
    """The jobs, by id and version, that a recorded command copies."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            if _is_job(name, value):
                yield value["job_id"], value["version"]
            else:
                yield from jobs_of(value)
    elif isinstance(data, list):
        for each in data:
            yield from jobs_of(each)


def calendars_of(data: Any) -> Sequence[tuple[str, int]]:
    """The calendars, by id and version, that a recorded command tells of."""
    told = data.get(CALENDARS) if isinstance(data, Mapping) else None
    return [(each["calendar_id"], each["version"]) for each in told or ()]


def _is_job(name: str, value: Any) -> bool:
    return name == "job" and isinstance(value, Mapping) and value.keys() == {"job_id", "version"}


def _filled(data: Any, job_at: JobAt) -> Any:
    """The data with the jobs in the place of their names."""
    if isinstance(data, Mapping):
        return {
            name: attrs.asdict(job_at(value["job_id"], value["version"]), recurse=False)
            if _is_job(name, value)
            else _filled(value, job_at)
            for name, value in data.items()
        }
    return [_filled(each, job_at) for each in data] if isinstance(data, list) else data


def _report(data: Mapping[str, Any]) -> ReportStarted | ReportEnded:
    """Only the word on an end says when it ended."""
    if "completed_at" in data:
        return msgspec.convert(data, ReportEnded)
    return msgspec.convert(data, ReportStarted)


def _typed(changes: Mapping[str, Any], event: type) -> Mapping[str, Any]:
    """Times among free values came back as text: the event that follows knows the types."""
    fields = attrs.fields_dict(attrs.resolve_types(event))
    return {
        name: msgspec.convert(value, fields[name].type) if name in fields and value is not None else value
        for name, value in changes.items()
    }


_encode = msgspec.json.Encoder(order="deterministic").encode
_SCALARS = frozenset({str, int, bool, type(None), datetime, UUID})
_NO_DEFAULT = object()


@frozen(slots=True)
class _Plan:
    """Members of a class and their defaults: looked up once, commands are recorded thousands of times a second."""

    names: Sequence[str]
    defaults: Sequence[Any]
    values_of: Callable[[Any], Sequence[Any]]

    @classmethod
    def of(cls, kind: type) -> _Plan:
        fields = [field for field in attrs.fields(kind) if field.name not in _LEFT_OUT]
        names = [field.name for field in fields]
        defaults = [_default(field.default) for field in fields]
        return cls(names, defaults, attrgetter(*names, "__class__", "__class__"))  # at least two: always a tuple


_plans: dict[type, _Plan] = {}


def _default(default: Any) -> Any:
    if default is attrs.NOTHING:
        return _NO_DEFAULT
    return default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    kind = value.__class__
    if kind in _SCALARS:
        return value
    if kind is JobSnapshot:
        return {"job_id": value.job_id, "version": value.version}
    if kind is CalendarSnapshot:
        return {"calendar_id": value.calendar.calendar_id, "version": value.calendar.version}
    plan = _plans.get(kind)
    if plan is None and attrs.has(kind):
        plan = _plans[kind] = _Plan.of(kind)
    if plan is not None:
        return {
            name: member if member.__class__ in _SCALARS else _plain(member)
            for name, default, member in zip(plan.names, plan.defaults, plan.values_of(value), strict=False)
            if not (member is default or (member.__class__ is default.__class__ and member == default))
        }
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value if not isinstance(each, Guard)]
    return value


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return True
    return all(each.__class__ in _SCALARS or _is_finite(each) for each in value)
