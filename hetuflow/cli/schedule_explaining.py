"""`hetuflow schedule explain`: what a schedule did, or will do, at one moment, as sentences."""

from __future__ import annotations

import json
from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.events import echo
from hetuflow.cli.names import SCHEDULE, resolve
from hetuflow.cli.options import Moment, talks_to_server
from hetuflow.cli.previews import NOTES
from hetuflow.domain.enums import TaskStatus


@click.command(name="explain")
@click.argument("schedule_", metavar="SCHEDULE")
@click.option("--at", type=Moment(), help="The moment: 2027-01-31 08:00, or RFC 3339 [default: now].")
@click.option(
    "--event", type=click.IntRange(1), metavar="POSITION", help="Of an event in the log, instead of a moment."
)
@talks_to_server
def explain_schedule(client: Client, schedule_: str, at: str | None, event: int | None, json_: bool) -> None:
    """Say what a schedule did, or will do, at one moment: fired, skipped and why, or what keeps it from firing.

    \b
    Examples:
      hetuflow schedule explain nightly --at 2027-03-28T02:30:00+01:00
      hetuflow schedule explain nightly --at '2027-01-31 08:00' --json
      hetuflow schedule explain import --event 4711      # why did this event start it, or not?
    """
    row = resolve(client, SCHEDULE, schedule_)
    if event is not None:
        if at is not None:
            raise click.UsageError("give only one of --at and --event")
        _explain_event(client, row, event, json_)
        return
    answer = client.get(f"/schedules/item/{row['id']}/explain", at=at)
    if json_:
        render.as_json(answer)
        return
    out = render.console()
    out.print(answer["summary"], style="bold" if out.is_terminal else "", soft_wrap=True)
    out.print()
    render.fields(
        answer,
        [
            ("schedule", lambda r: f"{r['schedule_id']}  {row['name'] or ''}".rstrip()),
            ("asked of", lambda r: render.At(r["at"])),
            ("outcome", lambda r: r["outcome"].replace("_", " ")),
            ("nominal", lambda r: _fire(r["nominal"])),
            ("due", lambda r: render.At(r["due_at"]) if r["nominal"] and r["due_at"] != r["nominal"]["at"] else None),
            ("task", lambda r: r["task"] and r["task"]["id"]),
            ("task status", lambda r: _task_status(r["task"])),
            ("before", lambda r: _fire(r["before"])),
            ("after", lambda r: _fire(r["after"])),
        ],
    )
    if answer["decision"]:
        out.print("\nthe decision")
        echo([answer["decision"]], json_=False, with_stream=False)
    click.echo(nl=False)


def _explain_event(client: Client, row: render.Row, position: int, json_: bool) -> None:
    answer = client.get(f"/schedules/item/{row['id']}/match", position=position)
    if json_:
        render.as_json(answer)
        return
    out = render.console()
    out.print(answer["summary"], style="bold" if out.is_terminal else "", soft_wrap=True)
    out.print()
    render.fields(
        answer,
        [
            ("schedule", lambda r: f"{r['schedule_id']}  {row['name'] or ''}".rstrip()),
            ("event", lambda r: f"{r['position']}  {r['event_type']}"),
            ("outcome", lambda r: r["outcome"].replace("_", " ")),
            ("because", lambda r: r["code"] and r["code"].replace("_", " ")),
        ],
    )
    for each in answer["mismatches"]:
        wanted, found = json.dumps(each["wanted"]), json.dumps(each["found"])
        out.print(f"  {each['path']}: wanted {wanted}, the event has {found}", soft_wrap=True)
    click.echo(nl=False)


def _fire(fire: Any) -> str | None:
    if fire is None:
        return None
    note = f", {NOTES.get(fire['note'], fire['note'])}" if fire["note"] else ""
    return f"{render.when(fire['at'])}  ({fire['local']}{note})"


def _task_status(task: Any) -> Any:
    if task is None:
        return None
    return "deleted" if task["status"] is None else render.status(TaskStatus, task["status"])
