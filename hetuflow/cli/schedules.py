"""`hetuflow schedule …`: when to run."""

from __future__ import annotations

import re
from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.options import Group, limit_option, pairs, resolve_job, talks_to_server
from hetuflow.domain.enums import ScheduleStatus

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.group(cls=Group, name="schedule")
def schedule() -> None:
    """Schedules: when a job runs."""


def every_seconds(text: str) -> int:
    """`90`, `90s`, `5m`, `1h`, `1d` as seconds."""
    match = re.fullmatch(r"(\d+)([smhd]?)", text.strip())
    if not match or int(match[1]) < 1:
        raise click.BadParameter(f"{text!r} is not a number of seconds, or one with s, m, h or d (90, 90s, 5m, 1h, 1d)")
    return int(match[1]) * SECONDS[match[2] or "s"]


@schedule.command(name="add")
@click.argument("job_", metavar="JOB")
@click.option("--every", metavar="INTERVAL", help="A fixed rate: 30s, 5m, 1h, 1d.")
@click.option("--cron", metavar="EXPRESSION", help="Five fields (crontab) or six to seven (seconds first).")
@click.option("--timezone", metavar="ZONE", help="IANA name, e.g. Europe/Berlin.")
@click.option("--name", help="A name for people.")
@click.option("--start", metavar="TIME", help="First moment, RFC 3339 with offset: 2027-01-31T08:00:00+01:00.")
@click.option("--end", metavar="TIME", help="Last moment.")
@click.option("--max-count", type=click.IntRange(1), help="Expire after so many runs.")
@click.option("--priority", type=int, help="Of its tasks; larger runs first.")
@click.option(
    "-p", "--param", multiple=True, metavar="NAME=VALUE", help="Reaches the program as HETUFLOW_PARAM_<NAME>."
)
@click.option("--disabled", is_flag=True, help="Do not start it yet.")
@talks_to_server
def add(client: Client, job_: str, every: str | None, cron: str | None, json_: bool, **given: Any) -> None:
    """Add a schedule to a job.

    \b
    Examples:
      hetuflow schedule add nightly-backup --cron '0 30 2 * * ?' --timezone Europe/Berlin
      hetuflow schedule add probe --every 30s
    """
    if (every is None) == (cron is None):
        raise click.UsageError("give one of --every and --cron")
    row = resolve_job(client, job_)
    body: dict[str, Any] = {"job_id": row["id"]}
    if every is not None:
        body |= {"kind": "interval", "interval_secs": every_seconds(every)}
    else:
        body |= {"kind": "cron", "cron_expression": cron}
    if given["disabled"]:
        body["enabled"] = False
    if given["param"]:
        body["parameters"] = pairs(given["param"], "--param")
    for member, option in (
        ("timezone", "timezone"),
        ("name", "name"),
        ("start_time", "start"),
        ("end_time", "end"),
        ("max_count", "max_count"),
        ("priority", "priority"),
    ):
        if given[option] is not None:
            body[member] = given[option]
    created = client.post("/schedules/item", body)
    if json_:
        render.as_json(created)
        return
    stored = client.get(f"/schedules/item/{created['id']}")
    click.echo(f"created schedule {created['id']}")
    click.echo(f"next run: {render.moment(stored['next_run_at']) or 'none'}")


def _rule(row: render.Row) -> str:
    if row["schedule_kind"] == 1:
        return f"{row['cron_expression']} {row['timezone']}"
    return f"every {row['interval_secs']} s" if row["interval_secs"] else "once"


COLUMNS = [
    render.Column("ID", lambda row: row["id"]),
    render.Column("NAME", lambda row: row["name"]),
    render.Column("JOB", lambda row: row["job_id"]),
    render.Column("STATUS", lambda row: render.status(ScheduleStatus, row["status"])),
    render.Column("RULE", _rule),
    render.Column("NEXT RUN", lambda row: render.moment(row["next_run_at"])),
    render.Column("FIRED", lambda row: row["fire_count"], right=True),
]


@schedule.command(name="list")
@click.option("--job", "job_", metavar="JOB", help="Only this job's.")
@limit_option()
@talks_to_server
def list_(client: Client, job_: str | None, limit: int, json_: bool) -> None:
    """List schedules, newest first."""
    where = {"job_id": {"$eq": resolve_job(client, job_)["id"]}} if job_ else {}
    rows = client.rows("schedules", where=where, limit=limit)
    if json_:
        render.as_json(rows)
        return
    render.table(rows, COLUMNS, empty="no schedules; add one with `hetuflow schedule add JOB --every 60s`")


def _action(verb: str, sentence: str, done: str) -> None:
    @schedule.command(name=verb, help=sentence)
    @click.argument("schedule_id")
    @talks_to_server
    def act(client: Client, schedule_id: str, json_: bool) -> None:
        answer = client.post(f"/schedules/item/{schedule_id}/{verb}")
        render.as_json(answer) if json_ else click.echo(f"schedule {schedule_id} is {done}")


_action("enable", "Start a schedule; it never fires for a moment that has passed.", "enabled")
_action("disable", "Stop a schedule; its tasks go on.", "disabled")


@schedule.command(name="delete")
@click.argument("schedule_id")
@click.option("--cascade", is_flag=True, help="Also cancel its open tasks.")
@talks_to_server
def delete(client: Client, schedule_id: str, cascade: bool, json_: bool) -> None:
    """Delete a schedule; its tasks stay."""
    answer = client.delete(f"/schedules/item/{schedule_id}", cascade="cancel" if cascade else None)
    render.as_json(answer) if json_ else click.echo(f"deleted schedule {schedule_id}")
