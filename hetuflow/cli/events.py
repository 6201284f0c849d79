"""`hetuflow events …`: the log itself."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.text import Text

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.options import Group, talks_to_server

POLL_SECONDS = 0.5
PAGE = 1000


@click.group(cls=Group, name="events")
def events() -> None:
    """Events: the log that everything else is computed from."""


@events.command(name="tail")
@click.option("-n", "--lines", type=click.IntRange(0, 5000), default=10, show_default=True, help="Start so many back.")
@click.option("--stream", metavar="STREAM", help="One stream (task-<id>) or one category (task, job, agent, …).")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only this event type; may be repeated.")
@click.option("--no-follow", is_flag=True, help="Stop at the end of the log instead of waiting for more.")
@talks_to_server
def tail(client: Client, lines: int, stream: str | None, types: tuple[str, ...], no_follow: bool, json_: bool) -> None:
    """Print events as they happen, until Ctrl-C."""
    query: dict[str, Any] = {"stream": stream, "type": list(types) or None}
    position = client.get("/system/info")["position"]
    if lines:
        newest = client.get("/events", order="desc", limit=lines, **query)["result"]
        if newest:
            position = max(position, newest[0]["position"])
        echo(newest[::-1], json_)
    while not no_follow:
        found = client.get("/events", after=position, limit=PAGE, **query)["result"]
        if found:
            echo(found, json_)
            position = found[-1]["position"]
        if len(found) < PAGE:
            time.sleep(POLL_SECONDS)


@events.command(name="show")
@click.argument("stream")
@talks_to_server
def show(client: Client, stream: str, json_: bool) -> None:
    """Print the whole history of one stream, e.g. task-<id>; a bare task id is taken for its task stream."""
    name = stream if "-" in stream and not _looks_like_uuid(stream) else f"task-{stream}"
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
        raise click.ClickException(f"there is no stream {name!r}; the newest are shown by `hetuflow events tail`")
    echo(found, json_=False)


def echo(records: Sequence[Mapping[str, Any]], json_: bool) -> None:
    """One line an event."""
    out = render.console()
    for record in records:
        if json_:
            click.echo(json.dumps(record, ensure_ascii=False))
            continue
        out.print(line(record), soft_wrap=True)


def line(record: Mapping[str, Any]) -> Text:
    return Text.assemble(
        (f"{record['position']:>8} ", "dim"),
        f"{render.clock(record['recorded_at'])} ",
        (f"{record['type']:<20} ", "bold"),
        str(record.get("summary") or record["stream_id"]),
    )


def _looks_like_uuid(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4
