"""`hetuflow schedule backfill …`: past windows of schedules, run on the server a few tasks at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.carrying import progress
from hetuflow.cli.client import Client, patiently
from hetuflow.cli.listing import Wanted, list_options, show_list
from hetuflow.cli.names import SCHEDULE, Kind, resolve
from hetuflow.cli.options import Moment, key_option, note_option, talks_to_server
from hetuflow.cli.waiting import POLL_SECONDS_MAX, POLL_SECONDS_MIN
from hetuflow.domain.enums import BackfillStatus

BACKFILL = Kind(
    "backfill",
    "backfills",
    "/backfills/item",
    listing="hetuflow schedule backfills",
    label=lambda row: f"{row['status']}, from {row['from_at']} to {row['until_at']}",
)


@click.command(name="backfill")
@click.argument("schedule_", metavar="SCHEDULE")
@click.option("--from", "from_", type=Moment(), required=True, help="First moment: 2027-01-31, or RFC 3339.")
@click.option("--to", "to", type=Moment(), required=True, help="Last moment, included.")
@click.option(
    "--max-concurrent", type=click.IntRange(1, 100), default=1, show_default=True, help="Open tasks of it at once."
)
@click.option("--wait", is_flag=True, help="Wait until it is over; fails unless every task succeeded.")
@note_option
@key_option
@talks_to_server
def backfill(
    client: Client,
    schedule_: str,
    from_: str,
    to: str,
    max_concurrent: int,
    wait: bool,
    note: str | None,
    key: str | None,
    json_: bool,
) -> None:
    """Run a past window of a schedule: one task for each moment that has none yet, oldest first.

    The server makes the tasks, at most --max-concurrent open at once. Moments that fired then, or were backfilled before,
    are left out.

    \b
    Examples:
      hetuflow schedule backfill nightly --from 2027-01-01 --to 2027-01-31 --max-concurrent 2 --wait
      hetuflow schedule backfills nightly
      hetuflow schedule cancel-backfill ID
    """
    row = resolve(client, SCHEDULE, schedule_)
    body = {"from": from_, "to": to, "max_concurrent": max_concurrent, **({"note": note} if note else {})}
    created = client.post(f"/schedules/item/{row['id']}/backfill", body, key=key)
    found = client.get(f"/backfills/item/{created['id']}")
    if not json_:
        click.echo(f"backfill {found['id']}: {found['total']} moments from {found['from_at']} to {found['until_at']}")
    if wait:
        found = _wait(client, found, json_)
    if json_:
        render.as_json(found)
    elif wait:
        click.echo(_counts(found))
    else:
        click.echo(f"look at it with: hetuflow schedule backfills {schedule_}")
    if wait and (found["status"] != BackfillStatus.FINISHED or found["failed"] or found["cancelled"]):
        raise click.ClickException(f"backfill {found['id']}: {_counts(found)}")


def _wait(client: Client, started: Mapping[str, Any], json_: bool) -> Mapping[str, Any]:
    """Until the last of its tasks has ended, over restarts of the server; with a bar on a terminal."""
    path, pause = f"/backfills/item/{started['id']}", POLL_SECONDS_MIN
    with nullcontext(lambda _: None) if json_ else progress("backfill", started["total"], "moments") as show:
        while True:
            found: Mapping[str, Any] = patiently(lambda: client.get(path))
            show(_done(found))
            if found["finished_at"] is not None:
                return found
            time.sleep(pause)
            pause = min(pause * 1.2, POLL_SECONDS_MAX)


def _done(row: Mapping[str, Any]) -> int:
    return int(row["left_out"] + row["succeeded"] + row["failed"] + row["cancelled"])


def _counts(row: Mapping[str, Any]) -> str:
    words = ("made", "succeeded", "failed", "cancelled")
    return ", ".join([*(f"{row[word]} {word}" for word in words), f"{row['left_out']} left out"])


@click.command(name="backfills")
@click.argument("schedule_", metavar="[SCHEDULE]", required=False)
@list_options()
@talks_to_server
def list_backfills(client: Client, json_: bool, schedule_: str | None, **given: Any) -> None:
    """List backfills and how far they are, newest first; of one schedule, or of all."""
    where = {} if schedule_ is None else {"schedule_id": {"$eq": resolve(client, SCHEDULE, schedule_)["id"]}}
    columns = [
        render.Column("ID", lambda row: row["id"], is_id=True),
        render.Column("STATUS", lambda row: row["status"]),
        render.Column("FROM", lambda row: render.At(row["from_at"])),
        render.Column("TO", lambda row: render.At(row["until_at"])),
        render.Column("DONE", lambda row: f"{_done(row)}/{row['total']}", right=True),
        render.Column("FAILED", lambda row: row["failed"], right=True),
        render.Column("LEFT OUT", lambda row: row["left_out"], right=True, drop=1),
        render.Column("NOTE", lambda row: row["note"], cut=True, drop=2, least=10),
    ]
    show_list(client, "backfills", Wanted.of(given), where, columns, json_=json_, empty="no backfills")


@click.command(name="cancel-backfill")
@click.argument("backfill_", metavar="BACKFILL")
@note_option
@talks_to_server
def cancel_backfill(client: Client, backfill_: str, note: str | None, json_: bool) -> None:
    """Cancel a backfill: what is not made stays so, its tasks that wait are cancelled, running ones go on."""
    row = resolve(client, BACKFILL, backfill_)
    answer = client.post(f"/backfills/item/{row['id']}/cancel", {"note": note} if note else None)
    render.as_json(answer) if json_ else click.echo(f"backfill {row['id']} is cancelled")
