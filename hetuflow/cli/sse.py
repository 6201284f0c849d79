"""Server-Sent Events that survive a restart of the server: each event once, in order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click
from attrs import frozen

from hetuflow.cli import exits
from hetuflow.cli.client import PATIENCE_SECONDS, RETRY_SECONDS, Client, Refused, Unreachable


@frozen
class Event:
    """One event: its name, its data parsed, and the id with which one goes on after it."""

    name: str
    data: Any
    id: str


def events(client: Client, path: str, query: Mapping[str, Any], *, last_id: str | None = None) -> Iterator[Event]:
    """Every event of the stream, over reconnections, until the caller stops asking.

    A stream that the server ends by itself is opened again: only the caller knows what the last event is.

    Raises:
      Unreachable: nobody has answered for `PATIENCE_SECONDS`; said once on stderr when it begins.
      Refused: the server says no.
    """
    from httpx_sse import EventSource

    since: float | None = None
    attempt = 0
    while True:
        try:
            with client.stream(path, query, last_id) as answer:
                if since is not None:
                    click.echo("connected again", err=True)
                    since = None
                for received in EventSource(answer).iter_sse():
                    attempt = 0
                    last_id = received.id or last_id
                    yield Event(received.event, json.loads(received.data), received.id)
        except (Unreachable, Refused) as exc:
            if exc.exit_code != exits.UNREACHABLE:
                raise
            if since is None:
                since = time.monotonic()
                click.echo(f"connection lost ({_short(exc)}); trying again", err=True)
            if time.monotonic() - since > PATIENCE_SECONDS:
                raise
        time.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
        attempt += 1


def _short(exc: click.ClickException) -> str:
    return exc.format_message().partition(";")[0]
