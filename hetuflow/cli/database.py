"""`hetuflow db …`: maintenance of the database itself; needs no server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hetuflow.cli import exits, render
from hetuflow.cli.options import Group, json_option
from hetuflow.cli.projections import database_options, with_store

if TYPE_CHECKING:
    from eventstore.postgres import PostgresStore


class InUse(click.ClickException):
    """Somebody reads a table all the time."""

    exit_code = exits.UNREACHABLE


@click.group(cls=Group, name="db")
def db() -> None:
    """The database: what is old and may go."""


COLUMNS = [
    render.Column("WHAT", lambda row: row["what"]),
    render.Column("DAY", lambda row: row["day"] or "older rows"),
    render.Column("TABLE", lambda row: row["table"], drop=1),
    render.Column("SIZE", lambda row: render.size(row["bytes"]), right=True),
]


@db.command(name="prune")
@click.option("--output-days", type=click.IntRange(1, 36_500), help="[default: retention.output_days]")
@click.option("--artifact-days", type=click.IntRange(1, 36_500), help="[default: retention.artifact_days]")
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would go.")
@database_options
@json_option
def prune(
    output_days: int | None,
    artifact_days: int | None,
    dry_run: bool,
    config_file: Path | None,
    database_url: str | None,
    json_: bool,
) -> None:
    """Drop output and artifacts that are older than so many whole days (UTC), as a server does by itself.

    Tasks, instances and events stay; what an instance printed, or left behind, answers 410 from then on.
    """
    from hetuflow.cli import processes

    kept = processes.settings_of(config_file, {"database.url": database_url}).retention
    days = {"output": output_days or kept.output_days, "artifacts": artifact_days or kept.artifact_days}
    if not any(days.values()):
        raise click.UsageError(
            "nothing is to be dropped: retention.output_days and retention.artifact_days are 0 (for ever);"
            " give --output-days or --artifact-days"
        )
    rows = with_store(config_file, database_url, lambda store: _prune(store, days, dry_run=dry_run))
    if json_:
        render.as_json({"dry_run": dry_run, "dropped": rows, "bytes": sum(row["bytes"] for row in rows)})
        return
    render.table(rows, COLUMNS, empty="nothing is that old")
    if rows:
        verb = "would be dropped" if dry_run else "dropped"
        click.echo(f"{render.size(sum(row['bytes'] for row in rows))} {verb}", err=True)


async def _prune(store: PostgresStore, days: dict[str, int], *, dry_run: bool) -> list[dict[str, Any]]:
    from attrs import asdict

    from eventstore.errors import StoreTimeout
    from projections.retention import OldDay, Retention

    retention = Retention(store.database)
    found: list[OldDay] = []
    for what, most in days.items():
        if not most:
            continue
        if dry_run:
            found += await retention.old_days(what, most)
            continue
        try:
            while (dropped := await retention.drop_oldest(what, most)) is not None:
                found.append(dropped)
        except StoreTimeout as exc:
            raise InUse(
                f"the table of {what} is in use all the time, nothing more was dropped; try again later"
            ) from exc
    return [{**asdict(each), "day": each.day and each.day.isoformat()} for each in found]
