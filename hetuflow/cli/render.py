"""How answers look: aligned tables for people, one JSON value for programs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from attrs import evolve, frozen

from hetuflow.cli.options import is_utc
from hetuflow.domain.enums import (
    AgentStatus,
    FlowStatus,
    InstanceStatus,
    JobStatus,
    ScheduleStatus,
    ServerStatus,
    TaskStatus,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Row = Mapping[str, Any]

STYLES = {
    "succeeded": "green",
    "enabled": "green",
    "online": "green",
    "active": "green",
    "live": "green",
    "ok": "green",
    "healthy": "green",
    "running": "cyan",
    "dispatched": "cyan",
    "locked": "cyan",
    "pending": "yellow",
    "waiting_retry": "yellow",
    "draining": "yellow",
    "warning": "yellow",
    "failed": "red",
    "timeout": "red",
    "stalled": "red",
    "offline": "red",
    "unhealthy": "red",
    "inactive": "red",
    "cancelled": "magenta",
    "disabled": "magenta",
}
"""Colour by status name; colours are off when the output is piped or NO_COLOR is set (rich's rule)."""

GAP = 2
"""Blanks between two columns."""

SHORT_ID = 13
"""Characters of a UUID that a narrow table starts with: the milliseconds of its time, nearly always unique."""


@frozen
class Column:
    """A column of a table: its head, and how to show a row's value (None is an empty cell).

    Args:
      wrap, cut: a text too long for the terminal goes on in the next line, or ends in `…`.
      drop: in a table that is too wide for the terminal, columns are left out from the largest number down; 0 never is.
      is_id: ids that a narrow table may shorten; what is shown still finds the entity.
      least: width in characters to which a column is narrowed before others are left out.
    """

    head: str
    value: Callable[[Row], Any]
    right: bool = False
    wrap: bool = False
    drop: int = 0
    is_id: bool = False
    cut: bool = False
    least: int = 16

    @property
    def is_flexible(self) -> bool:
        return self.cut or self.wrap


@frozen
class At:
    """A time stamp of the API, shown as there is room: on a terminal shortly, with its distance from now."""

    value: str | None

    def full(self) -> str | None:
        return moment(self.value)

    def brief(self, now_: datetime) -> str | None:
        if self.value is None:
            return None
        here = local(self.value)
        text = here.strftime("%H:%M:%S" if here.date() == now_.astimezone(here.tzinfo).date() else "%d %b %H:%M")
        distance = now_ - here
        return f"{text} ({'in ' if distance < timedelta(0) else ''}{span(abs(distance))})"


def size(count: int | None) -> str | None:
    """Bytes as people read them."""
    if count is None:
        return None
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{count} B" if units[0] == "B" else f"{value:.3g} {units[0]}"


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False, stderr=stderr)


def as_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def deleted(id_: str, line: str, *, json_: bool) -> None:
    """What every command says that has deleted one thing. The API has nothing to say of what is gone."""
    as_json(deletion(id_)) if json_ else click.echo(line)


def deletion(id_: str) -> Row:
    return {"id": id_, "deleted": True}


def table(rows: Sequence[Row], columns: Sequence[Column], *, empty: str) -> None:
    """Print rows as an aligned table that fits the terminal, or the sentence `empty`.

    Piped, nothing is shortened: each row is one line with full ids and times, for other programs.
    """
    if not rows:
        click.echo(empty)
        return
    out = console()
    if not out.is_terminal:
        _print_lines(rows, columns)
        return
    fitting, left_out = fit(rows, columns, out.width)
    out.print(fitting)
    if left_out:
        out.print(f"(left out: {', '.join(left_out)}; --json has them)"[: out.width], style="dim")


def fit(rows: Sequence[Row], columns: Sequence[Column], width: int) -> tuple[Table, list[str]]:
    """The table for a terminal of that width, and the heads of the columns that had to be left out."""
    now_ = now()
    shown = list(columns)
    values = {c.head: [c.value(row) for row in rows] for c in columns}
    texts = {head: [cell(v.brief(now_) if isinstance(v, At) else v) for v in cells] for head, cells in values.items()}

    def longest(column: Column) -> int:
        return max([len(column.head), *(text.cell_len for text in texts[column.head])])

    def total(*, squeezed: bool) -> int:
        widths = [min(longest(c), c.least) if squeezed and c.is_flexible else longest(c) for c in shown]
        return sum(widths) + GAP * (len(shown) - 1)

    if total(squeezed=False) > width:
        for column in shown:
            if column.is_id:
                texts[column.head] = [cell(text) for text in short_ids([str(text) for text in texts[column.head]])]
    left_out = []
    while total(squeezed=True) > width and (droppable := [column for column in shown if column.drop > 0]):
        victim = max(droppable, key=lambda column: column.drop)
        shown.remove(victim)
        left_out.append(victim.head)
    widths = {column.head: longest(column) for column in shown}
    while sum(widths.values()) + GAP * (len(shown) - 1) > width:
        flexible = [c for c in shown if c.is_flexible and widths[c.head] > max(c.least, len(c.head))]
        if not flexible:  # the last resort: lines are folded, ids stay whole
            shown = [evolve(column, wrap=column.wrap or not column.is_id) for column in shown]
            return _grid([texts[column.head] for column in shown], shown, {}), left_out
        widths[max(flexible, key=lambda column: widths[column.head]).head] -= 1
    return _grid([texts[column.head] for column in shown], shown, widths), left_out


def _grid(texts: Sequence[Sequence[Text]], columns: Sequence[Column], widths: Mapping[str, int]) -> Table:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(
            column.head,
            justify="right" if column.right else "left",
            no_wrap=not column.wrap,
            overflow="fold" if column.wrap else "ellipsis",
            width=widths.get(column.head),
        )
    for line in zip(*texts, strict=True):
        grid.add_row(*line)
    return grid


def short_ids(ids: Sequence[str]) -> list[str]:
    """Each id cut to the same length, at which those that differ still do."""
    distinct = {text for text in ids if text}
    length = SHORT_ID
    while len({text[:length] for text in distinct}) < len(distinct):
        length += 1
    return [text[:length].rstrip("-") for text in ids]


def _print_lines(rows: Sequence[Row], columns: Sequence[Column]) -> None:
    lines = [[column.head for column in columns]]
    for row in rows:
        values = [column.value(row) for column in columns]
        lines.append([cell(v.full() if isinstance(v, At) else v).plain.replace("\n", "\\n") for v in values])
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def fields(row: Row, names: Sequence[tuple[str, Callable[[Row], Any]]]) -> None:
    """Print one entity as aligned `name  value` lines; an empty value is left out."""
    from rich.text import Text

    shown = [(name, show(row)) for name, show in names]
    shown = [(name, value) for name, value in shown if value not in (None, "", {}, []) and value != At(None)]
    width = max((len(name) for name, _ in shown), default=0)
    out = console()
    for name, value in shown:
        text = when(value.value) if isinstance(value, At) else value
        out.print(
            Text(f"{name:<{width}}  ", style="bold" if out.is_terminal else ""), cell(text), sep="", soft_wrap=True
        )


def cell(value: Any) -> Text:
    from rich.text import Text

    if isinstance(value, Text):
        return value
    if value is None:
        return Text("")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, dict | list):
        return Text(json.dumps(value, ensure_ascii=False))
    return Text(str(value))


def word(name: str) -> Text:
    """A status name in its colour."""
    from rich.text import Text

    return Text(name.replace("_", " "), style=STYLES.get(name, ""))


def status(
    kind: type[JobStatus | ScheduleStatus | TaskStatus | InstanceStatus | AgentStatus | ServerStatus | FlowStatus],
    code: int,
) -> Text:
    return word(kind(code).name.lower())


def local(value: str) -> datetime:
    """A time stamp of the API in the reader's zone, or in UTC with `--utc`."""
    return datetime.fromisoformat(value).astimezone(UTC if is_utc() else None)


def moment(value: str | None) -> str | None:
    """A time stamp of the API in the reader's own time zone, to the second."""
    if value is None:
        return None
    return local(value).strftime("%Y-%m-%d %H:%M:%S") + ("Z" if is_utc() else "")


def when(value: str | None) -> str | None:
    """The same with its distance from now: `2026-11-28 02:00:00 (6 h ago)`."""
    return None if value is None else f"{moment(value)} ({ago(value, now())})"


def clock(value: str) -> str:
    """Time of day to the millisecond, for logs of events."""
    return local(value).strftime("%H:%M:%S.%f")[:-3]


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
    return datetime.now(UTC)


def between(start: str | None, end: str | None) -> str | None:
    if start is None or end is None:
        return None
    return span(datetime.fromisoformat(end) - datetime.fromisoformat(start))


def as_json_line(value: Any) -> None:
    """One line of a stream of JSON values, written at once."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))
