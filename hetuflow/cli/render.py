"""How answers look: aligned tables for people, one JSON value for programs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from attrs import frozen
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hetuflow.domain.enums import (
    AgentStatus,
    InstanceStatus,
    JobStatus,
    ScheduleStatus,
    ServerStatus,
    TaskStatus,
)

Row = Mapping[str, Any]

STYLES = {
    "succeeded": "green",
    "enabled": "green",
    "online": "green",
    "active": "green",
    "live": "green",
    "running": "cyan",
    "dispatched": "cyan",
    "locked": "cyan",
    "pending": "yellow",
    "waiting_retry": "yellow",
    "failed": "red",
    "timeout": "red",
    "stalled": "red",
    "offline": "red",
    "cancelled": "magenta",
    "disabled": "magenta",
}
"""Colour by status name; colours are off when the output is piped or NO_COLOR is set (rich's rule)."""


@frozen
class Column:
    """A column of a table: its head, and how to show a row's value (None is an empty cell)."""

    head: str
    value: Callable[[Row], Any]
    right: bool = False
    wrap: bool = False


def console() -> Console:
    return Console(highlight=False, soft_wrap=False)


def as_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(rows: Sequence[Row], columns: Sequence[Column], *, empty: str) -> None:
    """Print rows as an aligned table that fits the terminal, or the sentence `empty`."""
    if not rows:
        click.echo(empty)
        return
    out = console()
    wide = out.is_terminal
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold" if wide else "")
    for column in columns:
        grid.add_column(
            column.head,
            justify="right" if column.right else "left",
            no_wrap=not column.wrap,
            overflow="ellipsis" if not column.wrap else "fold",
        )
    for row in rows:
        grid.add_row(*[cell(column.value(row)) for column in columns])
    if wide:
        out.print(grid)
    else:
        Console(highlight=False, width=10_000).print(grid)


def fields(row: Row, names: Sequence[tuple[str, Callable[[Row], Any]]]) -> None:
    """Print one entity as aligned `name  value` lines; an empty value is left out."""
    shown = [(name, show(row)) for name, show in names]
    shown = [(name, value) for name, value in shown if value not in (None, "", {}, [])]
    width = max((len(name) for name, _ in shown), default=0)
    out = console()
    for name, value in shown:
        out.print(
            Text(f"{name:<{width}}  ", style="bold" if out.is_terminal else ""), cell(value), sep="", soft_wrap=True
        )


def cell(value: Any) -> Text:
    if isinstance(value, Text):
        return value
    if value is None:
        return Text("")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, dict | list):
        return Text(json.dumps(value, ensure_ascii=False))
    return Text(str(value))


def status(
    kind: type[JobStatus | ScheduleStatus | TaskStatus | InstanceStatus | AgentStatus | ServerStatus], code: int
) -> Text:
    name = kind(code).name.lower()
    return Text(name.replace("_", " "), style=STYLES.get(name, ""))


def moment(value: str | None) -> str | None:
    """A time stamp of the API in the reader's own time zone, to the second."""
    if value is None:
        return None
    return datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock(value: str) -> str:
    """Time of day to the millisecond, for logs of events."""
    return datetime.fromisoformat(value).astimezone().strftime("%H:%M:%S.%f")[:-3]


def ago(value: str | None, now: datetime) -> str | None:
    """How long before (or after) `now`, in one unit: `12 s ago`, `in 3 min`."""
    if value is None:
        return None
    distance = now - datetime.fromisoformat(value)
    text = span(abs(distance))
    return f"{text} ago" if distance >= timedelta(0) else f"in {text}"


def span(distance: timedelta) -> str:
    seconds = distance.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def command_line(config: Row) -> str:
    """The command of a config as one would type it in a shell."""
    return shlex.join([config["cmd"], *config["args"]])


def now() -> datetime:
    """The reader's clock, to tell distances from now; the server's own clock may differ."""
    from hetuflow.ports.real import SystemClock

    return SystemClock().now().astimezone(UTC)


def between(start: str | None, end: str | None) -> str | None:
    if start is None or end is None:
        return None
    return span(datetime.fromisoformat(end) - datetime.fromisoformat(start))
