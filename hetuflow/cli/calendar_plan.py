"""Calendars in the files of `apply` and `export`: known by their id, never pruned. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hetuflow.cli.calendar_words import CALENDAR_DEFAULTS
from hetuflow.cli.manifest import Entry
from hetuflow.cli.plan import CREATE, SAME, UPDATE, Change, Difference

Row = Mapping[str, Any]
MEMBERS = ("timezone", *CALENDAR_DEFAULTS)


def plan_calendars(wanted: Sequence[Entry], stored: Sequence[Row]) -> list[Change]:
    """What is to be done with the calendars of the files. `stored`: those of these ids that there are."""
    known = {row["id"]: row for row in stored}
    return [_change(one, known.get(one.members["id"])) for one in wanted]


def _change(one: Entry, row: Row | None) -> Change:
    name = one.members["id"]
    if row is None:
        body = {key: value for key, value in one.members.items() if value != CALENDAR_DEFAULTS.get(key, ...)}
        new = [Difference(key, None, value) for key, value in body.items() if key != "id"]
        return Change(action=CREATE, kind="calendar", label=name, body=body, differences=new, entry=one)
    differences = [Difference(key, row[key], one.members[key]) for key in MEMBERS if row[key] != one.members[key]]
    body = {each.path: each.new for each in differences}
    if any(value is None for value in body.values()):
        body["update_mask"] = list(body)
    action = UPDATE if differences else SAME
    return Change(action=action, kind="calendar", label=name, id=name, body=body, differences=differences, entry=one)


def calendar_as_written(row: Row) -> dict[str, Any]:
    """A calendar as the files have it: what has its default is left out."""
    kept = {key: row[key] for key in MEMBERS if row[key] != CALENDAR_DEFAULTS.get(key, ...)}
    return {"id": row["id"], **kept}
