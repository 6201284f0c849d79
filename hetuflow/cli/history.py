"""`hetuflow history STREAM`: what happened to one thing, when, by whom and why, and what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import open_client
from hetuflow.cli.names import meant_stream
from hetuflow.cli.options import json_option, server_option, utc_option
from hetuflow.cli.sources import log_options, no_stream, stream_name, stream_over_http, with_log

if TYPE_CHECKING:
    from eventstore.event import RecordedEvent
    from hetuflow.history.timeline import Step

CHANGES_MAX = 6
VALUE_CHARACTERS_MAX = 60


@click.command(name="history")
@click.argument("stream")
@click.option("--until", type=click.IntRange(1), metavar="POSITION", help="Only up to this position of the log.")
@click.option("--changes/--no-changes", "with_changes", default=True, help="Also say what each event changed.")
@log_options
@server_option
@json_option
@utc_option
def history(
    stream: str,
    until: int | None,
    with_changes: bool,
    config_file: Path | None,
    database_url: str | None,
    export_file: Path | None,
    server: str,
    json_: bool,
) -> None:
    """Print the history of a stream: task-<id>, job-<id>, schedule-<id>, agent-<id>, …; a bare id is a task's.

    Asks the server, which understands names and the beginning of an id too, unless --database-url or --from-export
    names another place to read the log from: there the whole id is needed.

    \b
    Examples:
      hetuflow history task-01999999-…              what became of a task
      hetuflow history agent-build-7 --utc
      hetuflow history job-01999999-… --from-export incident.jsonl
    """
    events = events_of(stream, until, config_file, database_url, export_file, server)
    found = fold(events)
    if json_:
        render.as_json([_value(step) for step in found])
        return
    _print(found, with_changes)


def events_of(
    stream: str,
    until: int | None,
    config_file: Path | None,
    database_url: str | None,
    export_file: Path | None,
    server: str,
) -> Sequence[RecordedEvent]:
    """The stream's events, from wherever the options say."""
    if database_url is None and export_file is None and config_file is None:
        with open_client(server) as client:
            return stream_over_http(client, meant_stream(client, stream), until)
    name = stream_name(stream)

    async def read(store: Any) -> Sequence[RecordedEvent]:
        found: Sequence[RecordedEvent] = await store.read_stream(name, until_position=until)
        return found

    events = with_log(config_file, database_url, export_file, read)
    if not events:
        raise no_stream(name, until)
    return events


def fold(events: Sequence[RecordedEvent]) -> Sequence[Step]:
    from eventstore.errors import UnknownEventType
    from hetuflow.history.timeline import steps

    try:
        return list(steps(events))
    except KeyError as exc:
        raise click.ClickException(
            f"a stream of category {exc.args[0]!r} has no state to fold; `hetuflow events show` prints its events"
        ) from exc
    except UnknownEventType as exc:
        raise click.ClickException(f"{exc}: was it written by a newer version?") from exc


def _value(step: Step) -> dict[str, Any]:
    from hetuflow.api.summaries import summary
    from hetuflow.history.replay import ABSENT

    event = step.event
    return {
        "position": event.position,
        "version": event.version,
        "recorded_at": event.recorded_at.isoformat(),
        "seconds_since_last": step.seconds,
        "type": event.type,
        "summary": summary(event.type, step.data),
        "principal": step.metadata.get("principal"),
        "request_id": step.metadata.get("request_id"),
        "correlation_id": step.metadata.get("correlation_id"),
        "causation_id": step.metadata.get("causation_id"),
        "changes": {
            path: {"before": None if old is ABSENT else old, "after": None if new is ABSENT else new}
            for path, (old, new) in step.changes.items()
        },
    }


def _print(found: Sequence[Step], with_changes: bool) -> None:
    from rich.text import Text

    from hetuflow.api.summaries import summary

    out = render.console()
    known = {str(step.event.event_id): step.event for step in found}
    first, last = found[0].event, found[-1].event
    lived = render.between(first.recorded_at.isoformat(), last.recorded_at.isoformat())
    out.print(
        f"{first.stream_id}: {len(found)} events from {render.moment(first.recorded_at.isoformat())}, over {lived}",
        soft_wrap=True,
    )
    for step in found:
        event = step.event
        since = "" if event is first else f"+{render.span(_span(step.seconds))}"
        at = event.recorded_at.isoformat()
        head = Text.assemble(
            (f"{event.position:>8}  ", "dim"),
            f"{_stamp(at)} ",
            (f"{since:>9}  ", "dim"),
            (f"{event.type}", "bold"),
            f"  {summary(event.type, step.data)}",
        )
        out.print(head, soft_wrap=True)
        out.print(Text(f"{'':>10}by {_who(step)}{_why(step, known)}", style="dim"), soft_wrap=True)
        if with_changes:
            print_changes(out, step, indent=10)


def _stamp(at: str) -> str:
    return f"{render.local(at):%Y-%m-%d} {render.clock(at)}"


def _span(seconds: float) -> Any:
    from datetime import timedelta

    return timedelta(seconds=seconds)


def _who(step: Step) -> str:
    request = step.metadata.get("request_id")
    return f"{step.metadata.get('principal') or 'unknown'}{f', request {request}' if request else ''}"


def _why(step: Step, known: dict[str, RecordedEvent]) -> str:
    cause = step.metadata.get("causation_id")
    if cause is None:
        return ""
    event = known.get(str(cause))
    return f", because of {event.type} at {event.position}" if event is not None else f", because of event {cause}"


def print_changes(out: Any, step: Step, *, indent: int, most: int = CHANGES_MAX) -> None:
    """The members of the state that the event changed."""
    from rich.text import Text

    items = list(step.changes.items())
    for path, (old, new) in items[:most]:
        line = Text.assemble(
            f"{'':>{indent}}", (f"{path}: ", "cyan"), _short(old), (" → ", "dim"), (_short(new), "green")
        )
        out.print(line, soft_wrap=True)
    if len(items) > most:
        out.print(Text(f"{'':>{indent}}and {len(items) - most} more members", style="dim"), soft_wrap=True)


def _short(value: Any) -> str:
    from hetuflow.history.timeline import shown

    text = shown(value).replace("\n", "\\n")
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[: VALUE_CHARACTERS_MAX - 1] + "…"
