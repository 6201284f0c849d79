"""From what is wanted and what there is to what is to be done, each change member by member. Pure.

A job is known by its id when one is written, else by namespace and name; a schedule by its id, else by its name within
the job. Ids are the server's: an id is never free again after a deletion, so one that is derived from the name could not
be made a second time.

What apply has created or changed is its own: it keeps its owner's name and the names of such schedules in the job's
`config.managed_by`. Only that is ever pruned; what it found as wanted it leaves as it is, unmarked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from attrs import Factory, define, frozen

from hetuflow.cli.manifest import JOB_DEFAULTS, MARKER, SCHEDULE_DEFAULTS, Entry, WantedJob, utc
from hetuflow.cli.upstream import first_those_followed, stored_as_labels
from hetuflow.domain.enums import JobStatus, ScheduleStatus

Row = Mapping[str, Any]
JOB_MEMBERS = ("name", *JOB_DEFAULTS, "config")
SCHEDULE_MEMBERS = ("schedule_kind", "timezone", *SCHEDULE_DEFAULTS)
TIMES = ("start_time", "end_time")
CREATE, UPDATE, DELETE, SAME = "create", "update", "delete", "same"


@frozen
class Difference:
    """One member, by its path (`config.timeout`): what is stored and what is wanted."""

    path: str
    old: Any
    new: Any


@frozen(kw_only=True)
class Change:
    """What is to be done with one job or schedule. `body` is what is sent."""

    action: str
    kind: str
    label: str
    id: str | None = None
    body: Mapping[str, Any] = Factory(dict)
    differences: Sequence[Difference] = ()
    entry: Entry | None = None


@define(kw_only=True)
class JobPlan:
    """A job and its schedules: what is to be done with them, in this order."""

    job: Change
    schedules: list[Change] = Factory(list)

    @property
    def is_same(self) -> bool:
        return self.job.action == SAME and all(one.action == SAME for one in self.schedules)


@define(kw_only=True)
class Plan:
    jobs: list[JobPlan] = Factory(list)
    problems: list[str] = Factory(list)
    calendars: list[Change] = Factory(list)

    def changes(self) -> Iterator[Change]:
        yield from self.calendars
        for one in self.jobs:
            yield one.job
            yield from one.schedules

    @property
    def deletions(self) -> list[Change]:
        return [change for change in self.changes() if change.action == DELETE]

    @property
    def is_same(self) -> bool:
        return all(one.is_same for one in self.jobs) and all(one.action == SAME for one in self.calendars)

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of things that it is about."""
        return ("calendar", "job", "schedule") if self.calendars else ("job", "schedule")

    def count(self, kind: str, action: str) -> int:
        return sum(change.kind == kind and change.action == action for change in self.changes())


def owner_of(row: Row) -> str | None:
    """Whose a stored job is."""
    marker = row["config"].get(MARKER)
    return marker.get("apply") if isinstance(marker, dict) else None


def recorded(row: Row) -> list[str]:
    """The names of the schedules that apply has made for a stored job."""
    marker = row["config"].get(MARKER)
    names = marker.get("schedules") if isinstance(marker, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def make_plan(
    wanted: Sequence[WantedJob],
    jobs: Sequence[Row],
    schedules: Sequence[Row],
    *,
    owner: str,
    prune: bool = False,
    adopt: bool = False,
    take_over: bool = False,
    label_of: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Compare. Jobs that others follow come before these, so that they can be made in this order.

    Args:
      jobs: the stored jobs that may be meant, and with `prune` those of the owner.
      label_of: of each stored job that another follows: `namespace/name`, its id where several have that name.
      schedules: every schedule of these jobs.
      adopt: mark what is as wanted, too.
      take_over: also change what another owner's files made.
    """
    plan = Plan()
    met: set[str] = set()
    for job in _in_order(wanted, plan):
        found = _stored_job(job, jobs, plan)
        if found is None:
            plan.jobs.append(_new_job(job, owner))
        elif found != AMBIGUOUS:
            met.add(found["id"])
            other = owner_of(found)
            if other not in (None, owner) and not take_over:
                plan.problems.append(
                    f"{job.place}: job {job.label} belongs to {other!r}; --owner {other}, or --take-over makes it {owner!r}"
                )
                continue
            own = [row for row in schedules if row["job_id"] == found["id"]]
            followed = stored_as_labels(found["upstream"], job.members["upstream"], label_of)
            row: Row = {**found, "upstream": followed}
            plan.jobs.append(_known_job(job, row, own, plan, owner=owner, prune=prune, adopt=adopt))
    if prune:
        for row in jobs:
            if row["id"] not in met and owner_of(row) == owner:
                label = f"{row['namespace_id']}/{row['name']}"
                plan.jobs.append(JobPlan(job=Change(action=DELETE, kind="job", label=label, id=row["id"])))
    return plan


def _in_order(wanted: Sequence[WantedJob], plan: Plan) -> Sequence[WantedJob]:
    """Each after those of the files that it follows."""
    by_key = {job.members["id"].lower() if "id" in job.members else job.label: job for job in wanted}
    labels_used = Counter(job.label for job in wanted)
    named = {job.label: key for key, job in by_key.items() if labels_used[job.label] == 1}
    follows = {key: [named.get(other, other) for other in job.follows] for key, job in by_key.items()}
    keys, circle = first_those_followed(list(by_key), follows)
    if circle:
        labels = [by_key[key].label for key in [*circle, circle[0]]]
        place = by_key[circle[0]].place_of("upstream")
        plan.problems.append(f"{place}: a circle of jobs that follow each other never ends: {' -> '.join(labels)}")
    return [by_key[key] for key in keys]


AMBIGUOUS: Row = {"ambiguous": True}


def _stored_job(job: WantedJob, jobs: Sequence[Row], plan: Plan) -> Row | None:
    if chosen := job.members.get("id"):
        return next((row for row in jobs if row["id"] == chosen.lower()), None)
    found = [row for row in jobs if (row["namespace_id"], row["name"]) == job.key]
    if len(found) > 1:
        ids = ", ".join(row["id"] for row in found)
        plan.problems.append(f"{job.place}: several jobs are named {job.label}; write the id of one of them: {ids}")
        return AMBIGUOUS
    return found[0] if found else None


def _marker(owner: str, names: Sequence[str]) -> dict[str, Any]:
    return {"apply": owner, "schedules": sorted(set(names))}


def _new_job(job: WantedJob, owner: str) -> JobPlan:
    names = [one.members["name"] for one in job.schedules if one.members["name"]]
    body = {name: value for name, value in job.members.items() if value != JOB_DEFAULTS.get(name, ...)}
    body["config"] = {**body["config"], MARKER: _marker(owner, names)}
    shown = {name: value for name, value in body.items() if name not in ("name", "config")}
    differences = [Difference(path, None, value) for path, value in _new_members(shown, job.members["config"])]
    change = Change(action=CREATE, kind="job", label=job.label, body=body, differences=differences, entry=job)
    return JobPlan(job=change, schedules=[_new_schedule(one) for one in job.schedules])


def _new_members(members: Row, config: Row) -> Iterator[tuple[str, Any]]:
    from hetuflow.domain.config import DEFAULTS

    yield from members.items()
    for name, value in config.items():
        if name not in DEFAULTS or (value != DEFAULTS[name] and not (name == "args" and not value)):
            yield f"config.{name}", value


def _new_schedule(one: Entry) -> Change:
    body = {name: value for name, value in one.members.items() if value != SCHEDULE_DEFAULTS.get(name, ...)}
    differences = [
        Difference(name, None, value) for name, value in body.items() if name not in ("name", "schedule_kind")
    ]
    label = one.members["name"] or one.members["id"]
    return Change(action=CREATE, kind="schedule", label=label, body=body, differences=differences, entry=one)


def _known_job(
    job: WantedJob, row: Row, own: Sequence[Row], plan: Plan, *, owner: str, prune: bool, adopt: bool
) -> JobPlan:
    changes = [_schedule(one, own, plan) for one in job.schedules]
    meant = {change.id for change in changes if change.id}
    before = recorded(row)
    if prune and owner_of(row) == owner:
        for stored in own:
            if stored["id"] not in meant and stored["name"] in before:
                changes.append(Change(action=DELETE, kind="schedule", label=stored["name"], id=stored["id"]))
    bare = {name: value for name, value in row["config"].items() if name != MARKER}
    is_on = row["status"] == JobStatus.ENABLED
    wanted = {name: job.members[name] for name in JOB_MEMBERS}
    stored = {**row, "config": bare, "status": row["status"] if is_on else int(JobStatus.DISABLED)}
    differences = _differences(wanted, stored, JOB_MEMBERS)
    touched = [c for c in changes if c.action in (CREATE, UPDATE) or (adopt and c.action == SAME)]
    names = [c.label for c in touched if c.entry is not None and c.entry.members["name"]]
    deleted = {c.label for c in changes if c.action == DELETE}
    stored_marker = row["config"].get(MARKER)
    is_touched = bool(differences or touched or deleted or adopt)
    kept = [name for name in before if name not in deleted]
    marker = _marker(owner, kept + names) if is_touched else stored_marker
    members = _members(differences)
    if marker != stored_marker and "config" not in members:
        members.append("config")
    body = _body(members, wanted)
    if "config" in body and marker is not None:
        body["config"] = {**body["config"], MARKER: marker}
    if is_touched and owner_of(row) != owner:
        differences = [*differences, Difference(MARKER, owner_of(row), owner)]
    action = UPDATE if body else SAME
    change = Change(
        action=action, kind="job", label=job.label, id=row["id"], body=body, differences=differences, entry=job
    )
    return JobPlan(job=change, schedules=changes)


def _schedule(one: Entry, own: Sequence[Row], plan: Plan) -> Change:
    chosen, name = one.members.get("id"), one.members["name"]
    found = [row for row in own if (row["id"] == chosen.lower() if chosen else row["name"] == name)]
    if len(found) > 1:
        ids = ", ".join(row["id"] for row in found)
        plan.problems.append(f"{one.place}: several schedules are named {name!r}; write the id of one of them: {ids}")
        return Change(action=SAME, kind="schedule", label=name)
    if not found:
        return _new_schedule(one)
    row = dict(found[0])
    if row["status"] == ScheduleStatus.EXPIRED:  # it is over, whether or not it is wanted on
        row["status"] = one.members["status"]
    elif row["status"] != ScheduleStatus.ENABLED:
        row["status"] = int(ScheduleStatus.DISABLED)
    for member in TIMES:
        if row[member] is not None:
            row[member] = utc(datetime.fromisoformat(row[member]))
    wanted = {member: one.members[member] for member in SCHEDULE_MEMBERS}
    differences = _differences(wanted, row, SCHEDULE_MEMBERS)
    return Change(
        action=UPDATE if differences else SAME,
        kind="schedule",
        label=name or row["id"],
        id=row["id"],
        body=_body(_members(differences), wanted),
        differences=differences,
        entry=one,
    )


def _differences(wanted: Row, stored: Row, members: Sequence[str]) -> list[Difference]:
    found: list[Difference] = []
    for member in members:
        found += _compare(member, stored[member], wanted[member])
    return found


def _compare(path: str, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(name for name in old if name not in new)]:
            yield from _compare(f"{path}.{name}", old.get(name), new.get(name))
    elif type(old) is bool or type(new) is bool:
        if old is not new:
            yield Difference(path, old, new)
    elif old != new:
        yield Difference(path, old, new)


def _members(differences: Sequence[Difference]) -> list[str]:
    return list(dict.fromkeys(one.path.partition(".")[0] for one in differences))


def _body(members: list[str], wanted: Row) -> dict[str, Any]:
    """What is sent: the members that differ, whole; those to be cleared by `update_mask`."""
    body = {name: wanted[name] for name in members}
    if any(value is None for value in body.values()):
        body["update_mask"] = members
    return body
