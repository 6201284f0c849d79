"""From what people type to the one entity it means: a name, the beginning of a name, an id, the beginning of an id."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from attrs import frozen

from hetuflow.cli import exits
from hetuflow.cli.client import Client, Refused
from hetuflow.cli.options import NotThere, nearest_hint

Row = Mapping[str, Any]

CANDIDATES_MAX = 6
KNOWN_MAX = 1000
ID_PREFIX_MIN = 6
"""Digits of an id that may stand for it: fewer are rather a name, and hardly ever unique (the first ones are the time)."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f-]+", re.IGNORECASE)


def is_uuid(text: str) -> bool:
    """Whether it is a whole id, of what has one."""
    return _UUID.fullmatch(text) is not None


@frozen
class Kind:
    """A kind of entity, and where the API has it."""

    word: str
    collection: str
    item: str
    has_uuid: bool = True
    has_name: bool = True
    """Beside its id."""
    listing: str = ""
    label: Callable[[Row], str] = lambda row: str(row.get("name") or "")

    @property
    def command(self) -> str:
        return self.listing or f"hetuflow {self.word} list"


JOB = Kind("job", "jobs", "/jobs/item", label=lambda row: f"{row['namespace_id']}/{row['name']}")
SCHEDULE = Kind("schedule", "schedules", "/schedules/item", label=lambda row: f"{row['name'] or ''} {row['kind']}")
TASK = Kind("task", "tasks", "/tasks", label=lambda row: f"{row['name']}, scheduled {row['scheduled_at']}")
FLOW = Kind("flow", "flows", "/flows", listing="hetuflow flows list")
INSTANCE = Kind(
    "instance", "task-instances", "/task-instances/item", label=lambda row: f"try {row['attempt']} of {row['task_id']}"
)
AGENT = Kind("agent", "agents", "/agents", has_uuid=False, listing="hetuflow agents list")
CALENDAR = Kind(
    "calendar", "calendars", "/calendars/item", has_uuid=False, has_name=False, listing="hetuflow calendars list"
)
SERVER = Kind("server", "servers", "/servers", has_uuid=False, listing="hetuflow servers list")


class Ambiguous(click.ClickException):
    """Several are meant."""

    exit_code = exits.USAGE

    def __init__(self, kind: Kind, text: str, rows: Sequence[Row]) -> None:
        shown = [f"  {row['id']}  {kind.label(row)}" for row in rows[: CANDIDATES_MAX - 1]]
        more = ["  …"] if len(rows) >= CANDIDATES_MAX else []
        super().__init__("\n".join([f"{text!r} means several {kind.word}s; give the id of one:", *shown, *more]))


def resolve(client: Client, kind: Kind, text: str, *, as_of: str | None = None, exactly: bool = False) -> Row:
    """The entity that the text means: its id, else its name, else the only one that begins so.

    A job may be written `namespace/name`.

    Args:
      exactly: no beginnings: for commands that remove something.
    Raises:
      NotThere: nothing is meant; the nearest known name is in the message.
      Ambiguous: several are.
    """
    if kind.has_uuid and is_uuid(text):
        return _get(client, kind, text, as_of)
    for where in _conditions(kind, text, exactly):
        rows = client.rows(kind.collection, where=where, limit=CANDIDATES_MAX, as_of=as_of)
        if len(rows) == 1:
            return rows[0]
        if rows:
            raise Ambiguous(kind, text, rows)
    raise NotThere(f"no {kind.word} is named {text!r}; {_nearest(client, kind, text, as_of)}")


def _get(client: Client, kind: Kind, text: str, as_of: str | None) -> Row:
    try:
        row: Row = client.get(f"{kind.item}/{text}", as_of=as_of)
    except Refused as exc:
        if exc.status != 404:
            raise
        then = " at that moment" if as_of else ""
        raise NotThere(f"there is no {kind.word} {text}{then}; see `{kind.command}`") from exc
    return row


def _conditions(kind: Kind, text: str, exactly: bool) -> list[Any]:
    """Filters from the strictest to the loosest."""
    found: list[Any] = []
    if kind.has_uuid:
        if kind is not INSTANCE:
            found.append(_named(kind, text, "$eq"))
            if not exactly:
                found.append(_named(kind, text, "$startsWith"))
    else:
        found.append({"id": {"$eq": text}})
        if kind.has_name:
            found.append({"name": {"$eq": text}})
        if not exactly:
            members = ("id", "name") if kind.has_name else ("id",)
            found.append([{member: {"$startsWith": text}} for member in members])
    if kind.has_uuid and not exactly and (between := id_range(text)):
        found.append({"id": {"$gte": between[0], "$lte": between[1]}})
    return found


def _named(kind: Kind, text: str, operator: str) -> Any:
    condition: dict[str, Any] = {"name": {operator: text}}
    namespace, slash, name = text.partition("/")
    if kind is JOB and slash and name:
        return [condition, {"namespace_id": {"$eq": namespace}, "name": {operator: name}}]
    return condition


def id_range(text: str) -> tuple[str, str] | None:
    """The smallest and the largest UUID that begins so; None when the text is not the beginning of one."""
    digits = text.replace("-", "").lower()
    if not _HEX.fullmatch(text) or not ID_PREFIX_MIN <= len(digits) <= 32:
        return None
    return _dashed(digits.ljust(32, "0")), _dashed(digits.ljust(32, "f"))


def _dashed(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _nearest(client: Client, kind: Kind, text: str, as_of: str | None) -> str:
    if kind in (TASK, INSTANCE):
        return f"give an id or its beginning, see `{kind.command}`"
    rows = client.rows(kind.collection, where={}, limit=KNOWN_MAX, as_of=as_of)
    known = [str(row["name"]) for row in rows if row.get("name")]
    if not kind.has_uuid:
        known += [str(row["id"]) for row in rows]
    return nearest_hint(text, known) or f"see `{kind.command}`"


def newest_task(client: Client, text: str, *, as_of: str | None = None) -> Row:
    """A task for reading: by id or its beginning, else the newest of that name, which is said on stderr."""
    if is_uuid(text):
        return _get(client, TASK, text, as_of)
    found = client.find("tasks", where={"name": {"$eq": text}}, limit=1, as_of=as_of)
    if not found.rows:
        return resolve(client, TASK, text, as_of=as_of)
    if found.total > 1:
        click.echo(f"{found.rows[0]['id']} is the newest of {found.total} tasks named {text}", err=True)
    return found.rows[0]


_OF_STREAMS = {kind.word: kind for kind in (JOB, SCHEDULE, TASK, FLOW, AGENT, SERVER, CALENDAR)}


def meant_stream(client: Client, text: str) -> str:
    """The stream that the text means: `task-`, `job-`, … and what `resolve` understands; without a category a task's.

    The own id of a stream is understood also when what it tells of has been deleted.

    Raises:
      NotThere, Ambiguous.
    """
    category, _, key = text.partition("-")
    if category in ("external", "lease", "backfill"):
        return text
    kind = _OF_STREAMS.get(category)
    if kind is None or not key:
        kind, key = TASK, text
    if is_uuid(key):
        return f"{kind.word}-{key.lower()}"
    if not kind.has_uuid and client.get("/events", stream=f"{kind.word}-{key}", limit=1)["result"]:
        return f"{kind.word}-{key}"
    return f"{kind.word}-{resolve(client, kind, key)['id']}"
