"""How people write what a calendar excludes: on the command line, and in files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from hetuflow.cli.documents import Document, FileError, read_documents
from hetuflow.cli.options import nearest_hint
from hetuflow.domain.calendar_members import read_rule
from hetuflow.domain.calendar_rules import RULES

MEMBERS = ("timezone", "description", *RULES)

CALENDAR_DEFAULTS: Mapping[str, Any] = {"description": None, **{name: [] for name in RULES}}

_MONTH_DAY = re.compile(r"\d\d-\d\d")


def days_of(texts: Sequence[str]) -> dict[str, list[Any]]:
    """`dates` and `ranges` among them, those that there are."""
    found: dict[str, list[Any]] = {}
    for text in texts:
        first, dots, last = text.partition("..")
        if dots:
            found.setdefault("ranges", []).extend(_read("ranges", {"from": first, "to": last}, text, "--date"))
        elif not _MONTH_DAY.fullmatch(text):
            found.setdefault("dates", []).extend(_read("dates", text, text, "--date"))
    return found


def month_days_of(texts: Sequence[str]) -> list[str]:
    return [day for text in texts if _MONTH_DAY.fullmatch(text) for day in _read("yearly", text, text, "--date")]


def weekdays_of(texts: Sequence[str]) -> list[Any]:
    found = []
    for text in texts:
        days, _, window = text.partition(" ")
        rule = {"days": days.split(","), **(_window(window.strip(), "--weekday") if window else {})}
        found += _read("weekdays", rule, text, "--weekday")
    return found


def times_of(texts: Sequence[str]) -> list[Any]:
    return [rule for text in texts for rule in _read("times", _window(text, "--time"), text, "--time")]


def _window(text: str, option: str) -> dict[str, str]:
    begin, dash, end = text.partition("-")
    if not dash:
        raise click.BadParameter(f"{text!r} is not FROM-TO, such as 22:00-06:00", param_hint=option)
    return {name: value for name, value in (("from", begin), ("to", end)) if value}


def _read(name: str, entry: Any, text: str, option: str) -> list[Any]:
    faults: list[str] = []
    found = read_rule(name, [entry], "", lambda path, message: faults.append(message))
    if found is None:
        raise click.BadParameter(f"{text!r}: {faults[0]}", param_hint=option)
    return found


# --- files ---------------------------------------------------------------------------------------------------------


def read_members(file: str) -> dict[str, Any]:
    """The members of the one calendar in a YAML, TOML or JSON file.

    Raises:
      FileError: with the file, the line and the member.
    """
    documents = read_documents([file])
    if len(documents) != 1:
        raise FileError(f"{file}: must hold one calendar, holds {len(documents)} documents")
    problems: list[str] = []
    found = members_of(documents[0], documents[0].value, "", problems)
    if problems:
        raise FileError("\n       ".join(problems))
    found.pop("id", None)
    return found


def members_of(document: Document, value: Any, path: str, problems: list[str]) -> dict[str, Any]:
    """The members of a calendar in a document; what is wrong is added to the problems, with its place."""

    def fault(where: str, message: str) -> None:
        problems.append(f"{document.place(where)}: {message}")

    if not isinstance(value, Mapping):
        fault(path, f"must be a calendar (an object), got {value!r}")
        return {}
    members: dict[str, Any] = {}
    for name, inner in value.items():
        where = f"{path}.{name}" if path else str(name)
        if name in RULES:
            if inner is not None:
                members[name] = read_rule(name, inner, where, fault) or []
        elif name in ("id", "timezone", "description"):
            if inner is not None and not isinstance(inner, str):
                fault(where, f"must be text, got {inner!r}; quote it")
            elif inner is not None:
                members[name] = inner
        else:
            known = ["id", *MEMBERS]
            fault(where, f"unknown member; {nearest_hint(str(name), known) or 'there are: ' + ', '.join(known)}")
    return members


# --- without a server ----------------------------------------------------------------------------------------------


def local_calendar(file: str, timezone: str) -> tuple[str, str, dict[str, Any]]:
    """(name, zone, rules) of a calendar in a file: .ics, or YAML, TOML or JSON with a calendar's members.

    Args:
      timezone: where the file names none.
    Raises:
      FileError, click.UsageError: it cannot be read, or not here.
    """
    name = Path(file).stem
    if Path(file).suffix.lower() not in (".ics", ".ical"):
        members = read_members(file)
        return name, members.pop("timezone", timezone), members
    from datetime import UTC, datetime

    try:
        from hetuflow.rfc5545 import read_ical

        found = read_ical(Path(file).read_text(encoding="utf-8-sig"), timezone, datetime.now(UTC))
    except ImportError:
        raise click.UsageError("an .ics file needs pip install 'hetuflow[server]'; a server reads it as well") from None
    if found.faults:
        raise FileError("\n       ".join(f"{file}: {fault}" for fault in found.faults))
    return name, timezone, dict(found.rules)
