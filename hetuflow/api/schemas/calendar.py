"""Exclusion calendars: when the schedules that refer to them do not fire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from hetuflow.api.kinds import INVALID, NameId, Schema, Text, Time
from hetuflow.api.problems import Problems
from hetuflow.api.schemas.job import BY_WHOM, CREATED_UPDATED, DESCRIPTION
from hetuflow.api.schemas.schedule import TimeZone
from hetuflow.api.shapes import Entity, Given, Member
from hetuflow.domain.calendar_members import ENTRIES_MAX, FORMS, read_rule
from hetuflow.domain.calendar_rules import RULES, WEEKDAYS

ICAL_CHARACTERS_MAX = 250_000
"""Some 1800 events. Written with escapes it still fits the body of a request."""

IMPORTED = ("dates", "ranges", "periods")
"""The members that an imported file gives."""

_YEAR = "(19[7-9][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])"
_DAY = "(0[1-9]|[12][0-9]|3[01])"
_DATE: Schema = {"type": "string", "format": "date", "pattern": f"^{_YEAR}-[0-9]{{2}}-[0-9]{{2}}$"}
_TIME: Schema = {
    "type": "string",
    "format": "date-time",
    "pattern": f"^{_YEAR}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-5][0-9](Z|[+-][0-9]{{2}}:[0-9]{{2}})$",
}
_CLOCK: Schema = {"type": "string", "pattern": "^(([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?|24:00(:00)?)$"}
_WEEKDAY: Schema = {"type": "string", "enum": list(WEEKDAYS)}


def _object(required: tuple[str, ...], **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        **({"required": list(required)} if required else {}),
        "additionalProperties": False,
    }


_ENTRIES: Mapping[str, Schema] = {
    "dates": _DATE,
    "ranges": _object(("from", "to"), **{"from": _DATE, "to": _DATE}),
    "yearly": {
        "type": "string",
        "pattern": f"^((0[13578]|1[02])-{_DAY}|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))$",
    },
    "weekdays": {
        "anyOf": [
            _WEEKDAY,
            _object(
                ("days",),
                **{"days": {"type": "array", "items": _WEEKDAY, "minItems": 1}, "from": _CLOCK, "to": _CLOCK},
            ),
        ]
    },
    "times": {**_object((), **{"from": _CLOCK, "to": _CLOCK}), "minProperties": 1},
    "periods": _object(("from", "to"), **{"from": _TIME, "to": _TIME}),
}


@frozen(slots=True)
class Rule:
    """One of the rules of a calendar, read as files and previews read it."""

    name: str

    @property
    def phrase(self) -> str:
        return f"a list of {FORMS[self.name]}"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        found = read_rule(self.name, value, path, problems.add)
        return INVALID if found is None else found

    def schema(self) -> Schema:
        return {"type": "array", "items": _ENTRIES[self.name], "maxItems": ENTRIES_MAX, "description": self.phrase}


CALENDAR = Entity(
    title="SchedCalendar",
    members=[
        Member(name="id", kind=NameId(), write="C!", doc="its name, such as holidays-de; cannot change"),
        Member(name="description", kind=DESCRIPTION, write="CU", nullable=True, default=None),
        Member(
            name="timezone",
            kind=TimeZone(),
            write="CU",
            doc="of all rules but `periods`; default: the server's `scheduler.timezone`",
        ),
        *(Member(name=name, kind=Rule(name), write="CU", default=[]) for name in RULES),
        Member(
            name="ical",
            kind=Text(ICAL_CHARACTERS_MAX, 1),
            write="CUW",
            doc="text of an iCalendar file (RFC 5545), whose events become `dates`, `ranges` and `periods`;"
            " not together with these",
        ),
        Member(
            name="imported_until_at",
            kind=Time(),
            nullable=True,
            doc="how far the endless events of an imported file were expanded; import it again before",
        ),
        *BY_WHOM,
        *CREATED_UPDATED,
    ],
)


def check_calendar(given: Given, problems: Problems) -> None:
    for name in IMPORTED:
        if "ical" in given.members and name in given.members:
            problems.add(name, "cannot be given together with ical, which stands for it")
