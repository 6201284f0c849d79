"""What instances write, from the server to the terminal, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client

PAGE_BYTES = 1 << 20


def read_output(client: Client, instance_id: str, stream: str | None) -> tuple[list[Any], Mapping[str, Any]]:
    """All chunks so far, and the last page."""
    chunks: list[Any] = []
    cursor: str | None = None
    while True:
        page = client.get(f"/task-instances/item/{instance_id}/logs", stream=stream, after=cursor, limit=PAGE_BYTES)
        chunks += page["result"]
        cursor = page["page"]["next"]
        if not page["page"]["has_more"] or not cursor:
            return chunks, page


def print_output(client: Client, instance_id: str, stream: str | None, json_: bool) -> None:
    """Print what is there now."""
    chunks, last = read_output(client, instance_id, stream)
    if json_:
        render.as_json({**last, "result": chunks})
        return
    for chunk in chunks:
        echo(chunk, stream)
    _say_dropped(last["dropped"])


def follow_output(client: Client, instance_id: str, stream: str | None, json_: bool) -> Mapping[str, Any]:
    """Print what is there and what comes, until the instance ends; the data of the `end` event.

    Goes on where it was when the server is restarted.
    """
    from hetuflow.cli.sse import events

    for event in events(client, f"/task-instances/item/{instance_id}/logs", {"stream": stream, "follow": "true"}):
        if json_:
            render.as_json_line({"event": event.name, **event.data})
        elif event.name == "log":
            echo(event.data, stream)
        if event.name == "end":
            if not json_:
                _say_dropped(event.data.get("dropped") or 0)
            end: Mapping[str, Any] = event.data
            return end
    raise AssertionError("the stream of events has no end of its own")


def echo(chunk: Mapping[str, Any], stream: str | None = None) -> None:
    """stdout to stdout, stderr to stderr, unless only one stream was asked for."""
    click.echo(_bytes(chunk), nl=False, err=chunk["stream"] == "stderr" and stream is None)


def _bytes(chunk: Mapping[str, Any]) -> bytes:
    import base64

    return base64.b64decode(chunk["base64"]) if chunk.get("base64") else str(chunk["text"]).encode()


def _say_dropped(dropped: int) -> None:
    if dropped:
        click.echo(f"({dropped} bytes were cut by the output limit)", err=True)
