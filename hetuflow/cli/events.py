"""`hetuflow events …`: the log itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.names import meant_stream
from hetuflow.cli.options import Group, Json, Moment, NotThere, json_option, key_option, limit_option, talks_to_server

if TYPE_CHECKING:
    from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])
PAGE = 1000
STREAM_LENGTH = len("schedule-") + render.SHORT_ID


@click.group(cls=Group, name="events")
def events() -> None:
    """Events: the log that everything else is computed from."""


def event_filters(command: F) -> F:
    """The filters that E2 and E3 share."""
    for option in reversed(
        [
            click.option(
                "--stream", metavar="STREAM", help="One stream (task-<id>) or category (task, job, agent, …)."
            ),
            click.option(
                "--type", "types", multiple=True, metavar="TYPE", help="Only this event type; may be repeated."
            ),
            click.option("--event-type", metavar="TYPE", help="Only external events of this type."),
            click.option("--correlation-id", metavar="ID", help="Only one conversation."),
        ]
    ):
        command = option(command)
    return command


def _query(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "stream": given.pop("stream"),
        "type": list(given.pop("types")) or None,
        "event_type": given.pop("event_type"),
        "correlation_id": given.pop("correlation_id"),
    }


@events.command(name="list")
@event_filters
@click.option("--since", type=Moment(), help="Recorded since: 1h (ago), 22:00, RFC 3339.")
@click.option("--until", type=Moment(), help="Recorded until.")
@click.option("--after", type=click.IntRange(0), metavar="POSITION", help="Only after this position.")
@click.option("--before", type=click.IntRange(0), metavar="POSITION", help="Only before this position.")
@click.option("--reverse", is_flag=True, help="Newest first.")
@limit_option(100)
@click.option("--all", "all_", is_flag=True, help="All of them.")
@talks_to_server
def list_(client: Client, json_: bool, reverse: bool, limit: int, all_: bool, **given: Any) -> None:
    """Print events of the past, oldest first.

    \b
    Examples:
      hetuflow events list --since 'yesterday 22:00' --until 06:00 --stream agent
      hetuflow events list --type TaskFailed --type InstanceFailed --since 12h
    """
    query = {
        **_query(given),
        "from": given["since"],
        "to": given["until"],
        "after": given["after"],
        "before": given["before"],
        "order": "desc" if reverse else "asc",
    }
    found: list[Mapping[str, Any]] = []
    is_more = True
    while is_more and (all_ or len(found) < limit):
        answer = client.get("/events", limit=PAGE if all_ else min(PAGE, limit - len(found)), **query)
        found += answer["result"]
        is_more = answer["page"]["has_more"]
        query["before" if reverse else "after"] = answer["page"]["next"]
    if json_:
        render.as_json(found)
        return
    if not found:
        click.echo("no events like that")
    echo(found, json_=False, with_stream=True)
    if is_more:
        click.echo(f"the first {len(found)}; more with -n or --all", err=True)


@events.command(name="tail")
@click.option("-n", "--lines", type=click.IntRange(0, 5000), default=10, show_default=True, help="Start so many back.")
@event_filters
@click.option("--after", type=click.IntRange(0), metavar="POSITION", help="Start after this position instead.")
@click.option("--no-follow", is_flag=True, help="Stop at the end of the log instead of waiting for more.")
@talks_to_server
def tail(client: Client, lines: int, after: int | None, no_follow: bool, json_: bool, **given: Any) -> None:
    """Print events as they happen, until Ctrl-C; over restarts of the server, each once. With --json: JSON lines.

    \b
    Example (a program that misses nothing: it keeps the last position, and starts again after it):
      hetuflow events tail --json --after 1234 --stream task
    """
    query = _query(given)
    position = after
    if position is None:
        position = client.get("/system/info")["position"]
        if lines:
            newest = client.get("/events", order="desc", limit=lines, before=position + 1, **query)["result"]
            echo(newest[::-1], json_, with_stream=True)
    elif no_follow:
        position = _until_the_end(client, query, position, json_)
    if not no_follow:
        _follow(client, query, position, json_)


def _until_the_end(client: Client, query: Mapping[str, Any], position: int, json_: bool) -> int:
    while True:
        page = client.get("/events", after=position, limit=PAGE, **query)
        echo(page["result"], json_, with_stream=True)
        if not page["page"]["has_more"]:
            return position
        position = page["page"]["next"]


def _follow(client: Client, query: Mapping[str, Any], position: int, json_: bool) -> None:
    from hetuflow.cli import sse

    for event in sse.events(client, "/events/stream", {**query, "after": position}, last_id=str(position)):
        if event.name != "position":
            echo([event.data], json_, with_stream=True)


@events.command(name="show")
@click.argument("stream")
@talks_to_server
def show(client: Client, stream: str, json_: bool) -> None:
    """Print the whole history of one stream: task-<id>, or task-, job-, schedule-, agent- and a name or the beginning
    of an id. What has no category is a task.
    """
    name = meant_stream(client, stream)
    found: list[Mapping[str, Any]] = []
    position = 0
    while True:
        page = client.get("/events", stream=name, after=position, limit=PAGE)["result"]
        found += page
        if len(page) < PAGE:
            break
        position = page[-1]["position"]
    if json_:
        render.as_json(found)
        return
    if not found:
        raise NotThere(f"there is no stream {name!r}; the newest are shown by `hetuflow events tail`")
    echo(found, json_=False)


@events.command(name="effects")
@click.argument("position", type=click.IntRange(1))
@talks_to_server
def effects(client: Client, position: int, json_: bool) -> None:
    """Print what an event led to: the tasks that schedules made of it, and how they went.

    It is the rest of the event's conversation. POSITION is the number that `events list` and `events tail` begin with.

    \b
    Example:
      hetuflow events post file.created -d '{"path": "/data/input/a.csv"}'     # recorded at position 4711
      hetuflow events effects 4711
    """
    found = client.get("/events", after=position - 1, limit=1)["result"]
    if not found:
        raise NotThere(f"there is no event at position {position}")
    conversation = found[0]["metadata"]["correlation_id"]
    is_more, led_to = True, []
    while is_more:
        page = client.get("/events", after=position, correlation_id=conversation, limit=PAGE)
        led_to += page["result"]
        is_more, position = page["page"]["has_more"], page["page"]["next"]
    if json_:
        render.as_json(led_to)
        return
    if not led_to:
        click.echo("it led to nothing")
    echo(led_to, json_=False, with_stream=True)


@events.command(name="post")
@click.argument("type_", metavar="TYPE")
@click.option("-d", "--data", type=Json(), help='The event\'s data, e.g. \'{"path": "/data/a.csv"}\'.')
@click.option("--id", "id_", help="Its id at the source: posting it again has no effect.")
@click.option("--source", help="[default: default]")
@click.option("--time", type=Moment(), help="When it happened [default: now].")
@key_option
@talks_to_server
def post(
    client: Client,
    type_: str,
    data: Any,
    id_: str | None,
    source: str | None,
    time: str | None,
    key: str | None,
    json_: bool,
) -> None:
    """Tell hetuflow that something happened; schedules of kind event fire on it.

    \b
    Example:
      hetuflow events post file.created -d '{"path": "/data/input/a.csv"}'
    """
    body = {"type": type_, "data": data, "id": id_, "source": source, "time": time}
    answer = client.post("/events", {name: value for name, value in body.items() if value is not None}, key=key)
    if json_:
        render.as_json(answer)
    elif answer["duplicate"]:
        click.echo(f"event {answer['id']} was known already, at position {answer['position']}")
    else:
        click.echo(f"event {answer['id']} recorded at position {answer['position']}")


@events.command(name="export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice(["jsonl", "msgpack"]), help="[default: by the file's suffix]")
@click.option("--database-url", metavar="URL", help="PostgreSQL 13 or later [env: DATABASE_URL].")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="config.toml.")
@json_option
def export(file: Path, form: str | None, database_url: str | None, config_file: Path | None, json_: bool) -> None:
    """Write the whole log to a file, from the database itself: .jsonl or .msgpack. Output of instances is not in it.

    \b
    Example:
      hetuflow events export incident.msgpack --database-url postgresql://…
      hetuflow dev --from-export incident.msgpack --read-only     look at it elsewhere
    """
    from hetuflow.cli import carrying

    carrying.export(file, form, config_file, database_url, json_)


@events.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--database-url", metavar="URL", help="A migrated, empty database [env: DATABASE_URL].")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="config.toml.")
@json_option
def import_(file: Path, database_url: str | None, config_file: Path | None, json_: bool) -> None:
    """Read an exported log into an empty database, verified: all of it, or nothing. The tables follow at the next start."""
    from hetuflow.cli import carrying

    carrying.import_(file, config_file, database_url, json_)


def echo(records: Sequence[Mapping[str, Any]], json_: bool, *, with_stream: bool = False) -> None:
    """One line an event; on a terminal that is too narrow the sentence goes on below itself."""
    if json_:
        for record in records:
            render.as_json_line(record)
        return
    out = render.console()
    for record in records:
        parts = line(record, with_stream=with_stream)
        if not out.is_terminal:
            click.echo(" ".join(part.plain for part in parts))
            continue
        from rich.table import Table

        grid = Table.grid(padding=(0, 1, 0, 0))
        for part in parts[:-1]:
            grid.add_column(width=part.cell_len, no_wrap=True)
        grid.add_column()
        grid.add_row(*parts)
        out.print(grid)


def line(record: Mapping[str, Any], *, with_stream: bool = False) -> list[Text]:
    """Position, time, type, with `with_stream` the stream shortly, and the sentence."""
    from rich.text import Text

    stream = str(record["stream_id"])
    category, _, key = stream.partition("-")
    shown = f"{category}-{key[: render.SHORT_ID].rstrip('-')}"
    return [
        Text(f"{record['position']:>8}", style="dim"),
        Text(_day_and_clock(record["recorded_at"])),
        Text(f"{record['type']:<18}", style="bold"),
        *([Text(f"{shown:<{STREAM_LENGTH}}", style="dim")] if with_stream else []),
        Text(str(record.get("summary") or stream)),
    ]


def _day_and_clock(value: str) -> str:
    """The time of day; with the date when it is not today's."""
    here = render.local(value)
    text = render.clock(value)
    return text if here.date() == render.now().astimezone(here.tzinfo).date() else f"{here:%Y-%m-%d} {text}"
