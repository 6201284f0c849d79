"""What `apply` reads and `export` writes: jobs with their schedules, as the API's members or under shorter names. Pure.

A file is complete: a member that is not written has its default. `READ_JOB`, `READ_CONFIG` and `READ_SCHEDULE` are the
tables of members; every problem of every file is collected, each with its file and line.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import Factory, define, field, frozen

from hetuflow.cli.calendar_words import CALENDAR_DEFAULTS, members_of
from hetuflow.cli.daemon_written import daemon
from hetuflow.cli.documents import Document
from hetuflow.cli.execution import READ_EXECUTION, read_resource_limits
from hetuflow.cli.limits import read_limits
from hetuflow.cli.options import nearest_hint
from hetuflow.cli.parameters import read_params
from hetuflow.cli.retries import read_retry
from hetuflow.cli.times import duration_seconds
from hetuflow.cli.upstream import labelled, read_upstream
from hetuflow.domain import daemon_rules
from hetuflow.domain.config import DEFAULTS, RESERVED, completed, effective
from hetuflow.domain.cron import CronError, UnknownTimeZone, parse_cron
from hetuflow.domain.enums import IntervalMode, JobStatus, MisfirePolicy, OverlapPolicy, ScheduleKind, ScheduleStatus
from hetuflow.domain.event_filter import faults as filter_faults
from hetuflow.domain.event_types import fault_of as type_fault
from hetuflow.domain.schedule_conflicts import DELAYED_OVERLAP, conflicts

MARKER = "managed_by"
"""The member of a job's `config` in which apply keeps what is its own; open members are the API's place for such things."""

Read = Callable[[Any], Any]
"""From what is written to the API's value; raises ValueError with what is allowed."""


def text(longest: int, *, empty: bool = False) -> Read:
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"must be text, got {value!r}; quote it")
        if len(value) > longest or not (value or empty):
            raise ValueError(f"must have 1 to {longest} characters")
        return value

    return read


def integer(least: int, most: int = 2**53 - 1) -> Read:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"must be an integer from {least} to {most}, got {value!r}")
        return value

    return read


def seconds(least: int = 0) -> Read:
    def read(value: Any) -> int:
        if isinstance(value, str):
            value = duration_seconds(value)
        return int(integer(least)(value))

    return read


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {value!r}")
    return value


def enabled(value: Any) -> int:
    return int(JobStatus.ENABLED if boolean(value) else JobStatus.DISABLED)


def obj(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, got {value!r}")
    return value


def table_of(*types: type) -> Read:
    names = " or ".join({str: "text", int: "a number", bool: "true/false"}[kind] for kind in types if kind is not float)

    def read(value: Any) -> dict[str, Any]:
        for name, inner in obj(value).items():
            if not isinstance(inner, types) or (isinstance(inner, bool) and bool not in types):
                raise ValueError(f"{name}: must be {names}, got {inner!r}; quote it")
        return dict(value)

    return read


def texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"must be a list of texts, got {value!r}; quote numbers")
    return value


def one_of(kind: Iterable[Any]) -> Read:
    names = [str(one) for one in kind]

    def read(value: Any) -> str:
        plain = str(value).lower().replace("-", "_")
        if plain not in names:
            raise ValueError(f"must be one of {', '.join(names)}, got {value!r}")
        return plain

    return read


def moment(value: Any) -> str:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"must be RFC 3339 with an offset (2027-01-31T08:00:00+01:00), got {value!r}")
    return utc(found)


def utc(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def argv(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as exc:
            raise ValueError(f"is not a command line: {exc}") from None
    if not texts(value):
        raise ValueError("must not be empty")
    return list(value)


KINDS = (*(kind.name.lower() for kind in ScheduleKind), "once")

READ_CONFIG: Mapping[str, Read] = {
    "timeout": seconds(),
    "max_retries": integer(0, 1000),
    "retry_interval": seconds(),
    "cmd": text(4096),
    "args": texts,
    "capture_output": boolean,
    "max_output_size": integer(0),
    "environment": table_of(str, int, float, bool),
    "labels": table_of(str),
    "resource_limits": read_resource_limits,
    "start_deadline_seconds": seconds(),
    "retry": read_retry,
    "params": read_params,
    "limits": read_limits,
    **READ_EXECUTION,
}

READ_JOB: Mapping[str, tuple[str, Read]] = {
    "id": ("id", text(36)),
    "name": ("name", text(255)),
    "namespace": ("namespace_id", text(64)),
    "namespace_id": ("namespace_id", text(64)),
    "description": ("description", text(4000, empty=True)),
    "environment": ("environment", table_of(str, int, float, bool)),
    "command": ("command", argv),
    "config": ("config", obj),
    "enabled": ("status", enabled),
    "agent": ("agent_id", text(64)),
    "agent_id": ("agent_id", text(64)),
    "upstream": ("upstream", read_upstream),
    "schedules": ("schedules", lambda value: value),
}

READ_SCHEDULE: Mapping[str, tuple[str, Read]] = {
    "id": ("id", text(36)),
    "name": ("name", text(255)),
    "description": ("description", text(4000, empty=True)),
    "kind": ("kind", one_of(KINDS)),
    "cron": ("cron_expression", text(255)),
    "cron_expression": ("cron_expression", text(255)),
    "every": ("interval_secs", seconds(1)),
    "interval_secs": ("interval_secs", seconds(1)),
    "interval_mode": ("interval_mode", one_of(IntervalMode)),
    "once": ("start_time", moment),
    "at": ("start_time", moment),
    "timezone": ("timezone", text(64)),
    "start": ("start_time", moment),
    "start_time": ("start_time", moment),
    "end": ("end_time", moment),
    "end_time": ("end_time", moment),
    "max_count": ("max_count", integer(1)),
    "event_type": ("event_type", text(128)),
    "event_filter": ("event_filter", obj),
    "enabled": ("status", enabled),
    "misfire_policy": ("misfire_policy", one_of(MisfirePolicy)),
    "misfire_grace_seconds": ("misfire_grace_seconds", seconds()),
    "max_age_seconds": ("max_age_seconds", seconds(1)),
    "overlap_policy": ("overlap_policy", one_of(OverlapPolicy)),
    "jitter_seconds": ("jitter_seconds", seconds()),
    "pause_on_failures": ("pause_on_failures", integer(1)),
    "debounce_seconds": ("debounce_seconds", seconds()),
    "parameters": ("parameters", obj),
    "priority": ("priority", integer(-(2**31), 2**31 - 1)),
    "daemon": ("daemon", daemon),
    "run_flow": ("run_flow", boolean),
    "exclude_calendars": ("exclude_calendars", lambda value: list(dict.fromkeys(texts(value)))),
}

JOB_DEFAULTS: Mapping[str, Any] = {
    "namespace_id": "default",
    "description": None,
    "environment": None,
    "status": int(JobStatus.ENABLED),
    "agent_id": None,
    "upstream": None,
}

SCHEDULE_DEFAULTS: Mapping[str, Any] = {
    "name": None,
    "description": None,
    "cron_expression": None,
    "interval_secs": None,
    "interval_mode": str(IntervalMode.FIXED_RATE),
    "max_count": None,
    "start_time": None,
    "end_time": None,
    "event_type": None,
    "event_filter": None,
    "status": int(ScheduleStatus.ENABLED),
    "misfire_policy": str(MisfirePolicy.FIRE_ONCE),
    "misfire_grace_seconds": 60,
    "max_age_seconds": None,
    "overlap_policy": str(OverlapPolicy.ALLOW),
    "jitter_seconds": 0,
    "pause_on_failures": None,
    "debounce_seconds": 0,
    "parameters": {},
    "priority": 0,
    "daemon": None,
    "run_flow": False,
    "exclude_calendars": [],
}


@frozen
class Entry:
    """A job or schedule as it should be: the API's members, complete; and where each was written."""

    document: Document
    path: str
    members: Mapping[str, Any]
    written_as: Mapping[str, str]

    @property
    def place(self) -> str:
        return self.document.place(self.path)

    def place_of(self, member: str) -> str:
        """Where a member of the API, which a server complains of, was written."""
        head, dot, rest = member.partition(".")
        return self.document.place(_join(self.path, f"{self.written_as.get(head, head)}{dot}{rest}"))


@frozen
class WantedJob(Entry):
    schedules: Sequence[Entry] = ()

    @property
    def follows(self) -> Sequence[str]:
        """The labels, or ids, of the jobs that it follows."""
        return [each["job"] for each in (self.members["upstream"] or {}).get("jobs") or ()]

    @property
    def key(self) -> tuple[str, str]:
        return self.members["namespace_id"], self.members["name"]

    @property
    def label(self) -> str:
        return f"{self.members['namespace_id']}/{self.members['name']}"


@define
class Reader:
    """Reads documents; what is wrong with them is in `problems`, a line each."""

    timezone: str
    problems: list[str] = Factory(list)
    jobs: list[WantedJob] = field(factory=list)
    calendars: list[Entry] = field(factory=list)

    def read(self, documents: Sequence[Document]) -> None:
        for document in documents:
            value = document.value
            if isinstance(value, dict) and value.keys() & {"jobs", "calendars"}:
                for name in value.keys() - {"jobs", "calendars"}:
                    self._unknown(document, name, name, ["jobs", "calendars"])
                self._read_list(document, value.get("calendars", []), "calendars", self._calendar)
                self._read_list(document, value.get("jobs", []), "jobs", self._job)
            elif isinstance(value, list):
                self._read_list(document, value, "", self._job)
            else:
                self._job(document, value, "")
        self._refuse_repeated()

    def _read_list(self, document: Document, value: Any, path: str, read: Callable[[Document, Any, str], None]) -> None:
        if not isinstance(value, list):
            self._add(document, path, f"must be a list, got {value!r}")
            return
        for index, one in enumerate(value):
            read(document, one, f"{path}[{index}]")

    def _calendar(self, document: Document, value: Any, path: str) -> None:
        members = members_of(document, value, path, self.problems)
        if isinstance(value, dict) and "id" not in members:
            self._add(document, _join(path, "id"), "is required: a calendar is known by it")
        complete = {**CALENDAR_DEFAULTS, "timezone": self.timezone, **members}
        self.calendars.append(Entry(document, path, complete, {}))

    def _job(self, document: Document, value: Any, path: str) -> None:
        found = self._members(document, value, path, READ_JOB, "job")
        if found is None:
            return
        members, written_as = found
        if "name" not in members:
            self._add(document, _join(path, "name"), "is required")
            return
        config = self._config(document, members.pop("config", {}), _join(path, "config"))
        schedules: list[Entry] = []
        self._read_list(
            document,
            members.pop("schedules", []),
            _join(path, "schedules"),
            lambda d, v, p: self._schedule(d, v, p, schedules),
        )
        if command := members.pop("command", None):
            if "cmd" in config or "args" in config:
                self._add(document, _join(path, "command"), "stands for config.cmd and config.args: give one of them")
            config |= {"cmd": command[0], "args": command[1:]}
        complete = {**JOB_DEFAULTS, **members, "config": completed(effective(config))}
        complete["upstream"] = labelled(complete["upstream"], complete["namespace_id"])
        self.jobs.append(WantedJob(document, path, complete, written_as, schedules))

    def _config(self, document: Document, value: Mapping[str, Any], path: str) -> dict[str, Any]:
        config: dict[str, Any] = {}
        for name, inner in value.items():
            where = _join(path, name)
            if name in RESERVED or name == MARKER:
                self._add(document, where, "is hetuflow's own" if name == MARKER else "not supported by this version")
            elif name in READ_CONFIG:
                if inner is not None:
                    self._value(document, where, READ_CONFIG[name], inner, config, name)
            elif hint := nearest_hint(name, [*DEFAULTS]):
                self._add(document, where, f"unknown member; {hint}")
            else:
                config[name] = inner
        return config

    def _schedule(self, document: Document, value: Any, path: str, schedules: list[Entry]) -> None:
        found = self._members(document, value, path, READ_SCHEDULE, "schedule")
        if found is None:
            return
        members, written_as = found
        if "name" not in members and "id" not in members:
            self._add(document, _join(path, "name"), "is required: a schedule is known by its name within the job")
        kind = members.pop("kind", None) or _kind(value)
        if kind is None:
            self._add(document, path, "give one of cron, every, once, event_type, daemon, or kind")
            return
        if kind == "once":
            kind = "interval"
            members.setdefault("max_count", 1)
        members["schedule_kind"] = int(ScheduleKind[kind.upper()])
        complete = {**SCHEDULE_DEFAULTS, "timezone": self.timezone, **members}
        if members.get("interval_mode") == IntervalMode.FIXED_DELAY and "overlap_policy" not in members:
            complete["overlap_policy"] = DELAYED_OVERLAP
        if kind == "daemon" and complete["daemon"] is None:
            complete["daemon"] = daemon_rules.effective(None)
        if expression := members.get("cron_expression"):
            try:
                parse_cron(expression, complete["timezone"])
            except CronError as exc:
                where = _join(path, written_as["cron_expression"])
                self._add(document, where, f"at position {exc.position}: {exc.message}")
            except UnknownTimeZone as exc:
                self._add(document, _join(path, "timezone"), str(exc))
        if kind == "event":
            for where, why in _event_faults(members):
                self._add(document, _join(path, where), why)
        for name, why in conflicts(complete | _instants(complete)):
            self._add(document, _join(path, written_as.get(name, name)), why)
        schedules.append(Entry(document, path, complete, written_as))

    def _members(
        self, document: Document, value: Any, path: str, table: Mapping[str, tuple[str, Read]], what: str
    ) -> tuple[dict[str, Any], dict[str, str]] | None:
        if not isinstance(value, dict):
            self._add(document, path, f"must be a {what} (an object with a name), got {value!r}")
            return None
        members: dict[str, Any] = {}
        written_as: dict[str, str] = {}
        for name, inner in value.items():
            where = _join(path, name)
            if name not in table:
                self._unknown(document, where, name, table)
                continue
            member, read = table[name]
            if member in written_as:
                self._add(document, where, f"is another name of {written_as[member]}")
            written_as[member] = name
            if inner is not None:
                self._value(document, where, read, inner, members, member)
        return members, written_as

    def _value(self, document: Document, where: str, read: Read, value: Any, into: dict[str, Any], name: str) -> None:
        try:
            into[name] = read(value)
        except ValueError as exc:
            self._add(document, where, str(exc))

    def _unknown(self, document: Document, path: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        self._add(document, path, f"unknown member; {nearest_hint(name, names) or 'there are: ' + ', '.join(names)}")

    def _add(self, document: Document, path: str, message: str) -> None:
        self.problems.append(f"{document.place(path)}: {message}")

    def _refuse_repeated(self) -> None:
        named: dict[Any, Entry] = {}
        for one in self.calendars:
            self._once(named, one.members.get("id"), one, f"calendar {one.members.get('id')}")
        seen: dict[Any, Entry] = {}
        for job in self.jobs:
            self._once(seen, job.members.get("id") or job.key, job, f"job {job.label}")
            within: dict[Any, Entry] = {}
            for one in job.schedules:
                key = one.members.get("id") or one.members.get("name")
                self._once(within, key, one, f"schedule {key}")

    def _once(self, seen: dict[Any, Entry], key: Any, entry: Entry, what: str) -> None:
        first = seen.setdefault(key, entry)
        if first is not entry:
            self.problems.append(f"{entry.place}: {what} is given twice, first at {first.place.partition(': ')[0]}")


def _event_faults(members: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with what an event schedule waits for: member, why."""
    event_type = members.get("event_type")
    if event_type is None:
        yield "event_type", "is required for kind event"
    elif (fault := type_fault(event_type)) is not None:
        yield "event_type", f"{fault[0]}{_nearest(event_type, fault[1])}"
    for found in filter_faults(members.get("event_filter") or {}):
        yield found.path, f"{found.message}{_nearest(found.name or '', found.known)}"


def _nearest(name: str, known: Sequence[str]) -> str:
    hint = nearest_hint(name, known)
    return f"; {hint}" if hint else ""


def _kind(value: Mapping[str, Any]) -> str | None:
    for name, kind in (("cron", "cron"), ("cron_expression", "cron"), ("once", "once"), ("at", "once")):
        if name in value:
            return kind
    if "every" in value or "interval_secs" in value:
        return "interval"
    if "event_type" in value:
        return "event"
    return "daemon" if "daemon" in value else None


def _instants(members: Mapping[str, Any]) -> dict[str, datetime]:
    return {name: datetime.fromisoformat(members[name]) for name in ("start_time", "end_time") if members[name]}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
