"""`hetuflow job …`: what to run."""

from __future__ import annotations

from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.options import Group, limit_option, pairs, resolve_job, talks_to_server
from hetuflow.domain.enums import JobStatus


@click.group(cls=Group, name="job")
def job() -> None:
    """Jobs: what to run, and how."""


@job.command(name="create", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- PROGRAM [ARG]...")
@click.option("--description", help="A sentence for people.")
@click.option("--namespace", default="default", show_default=True)
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="An environment variable; may be repeated.")
@click.option("--label", multiple=True, metavar="NAME=VALUE", help="A label the agent must have; may be repeated.")
@click.option("--agent", metavar="ID", help="Run only on this agent.")
@click.option("--timeout", type=click.IntRange(0), default=3600, show_default=True, help="Seconds; 0 = no limit.")
@click.option("--max-retries", type=click.IntRange(0, 1000), default=3, show_default=True, help="After the first run.")
@click.option("--retry-interval", type=click.IntRange(0), default=60, show_default=True, help="Seconds.")
@click.option("--cron", metavar="EXPRESSION", help="Also add a cron schedule, e.g. '0 0 12 * * ?'.")
@talks_to_server
def create(client: Client, name: str, argv: tuple[str, ...], json_: bool, **given: Any) -> None:
    """Create a job that runs PROGRAM with its arguments (no shell unless it is one).

    \b
    Example:
      hetuflow job create nightly-backup --timeout 7200 -- bash -c 'pg_dump app | gzip > /backup/app.gz'
    """
    if argv[0].startswith("-"):
        raise click.UsageError(f"no such option {argv[0]!r}; write -- before the program if that is its name")
    config: dict[str, Any] = {
        "cmd": argv[0],
        "args": list(argv[1:]),
        "timeout": given["timeout"],
        "max_retries": given["max_retries"],
        "retry_interval": given["retry_interval"],
    }
    if given["label"]:
        config["labels"] = pairs(given["label"], "--label")
    body: dict[str, Any] = {"name": name, "namespace_id": given["namespace"], "config": config}
    if given["env"]:
        body["environment"] = pairs(given["env"], "--env")
    for member, option in (("description", "description"), ("agent_id", "agent"), ("cron_expr", "cron")):
        if given[option] is not None:
            body[member] = given[option]
    created = client.post("/jobs/item", body)
    if json_:
        render.as_json(created)
        return
    click.echo(f"created job {created['id']}")
    click.echo(f"run it now:      hetuflow job run {name} --wait")
    click.echo(f"run it on time:  hetuflow schedule add {name} --every 60s")


COLUMNS = [
    render.Column("ID", lambda row: row["id"]),
    render.Column("NAME", lambda row: row["name"]),
    render.Column("STATUS", lambda row: render.status(JobStatus, row["status"])),
    render.Column("COMMAND", lambda row: render.command_line(row["config"])),
    render.Column("CREATED", lambda row: render.moment(row["created_at"])),
]


@job.command(name="list")
@click.option("--name", help="Only jobs whose name contains this.")
@limit_option()
@talks_to_server
def list_(client: Client, name: str | None, limit: int, json_: bool) -> None:
    """List jobs, newest first."""
    where = {"name": {"$containsCi": name}} if name else {}
    rows = client.rows("jobs", where=where, limit=limit)
    if json_:
        render.as_json(rows)
        return
    render.table(rows, COLUMNS, empty="no jobs; create one with `hetuflow job create NAME -- PROGRAM [ARG]...`")


@job.command(name="show")
@click.argument("job_", metavar="JOB")
@talks_to_server
def show(client: Client, job_: str, json_: bool) -> None:
    """Show one job, by id or name, with its schedules."""
    row = resolve_job(client, job_)
    if json_:
        render.as_json(row)
        return
    config = row["config"]
    schedules = client.rows("schedules", where={"job_id": {"$eq": row["id"]}}, limit=20)
    render.fields(
        row,
        [
            ("id", lambda r: r["id"]),
            ("name", lambda r: r["name"]),
            ("namespace", lambda r: r["namespace_id"]),
            ("description", lambda r: r["description"]),
            ("status", lambda r: render.status(JobStatus, r["status"])),
            ("command", lambda _: render.command_line(config)),
            ("environment", lambda r: r["environment"]),
            ("labels", lambda _: config["labels"]),
            ("agent", lambda r: r["agent_id"]),
            ("timeout", lambda _: f"{config['timeout']} s"),
            ("retries", lambda _: f"{config['max_retries']}, {config['retry_interval']} s apart"),
            ("schedules", lambda _: ", ".join(s["name"] or s["id"] for s in schedules)),
            ("created", lambda r: render.moment(r["created_at"])),
            ("updated", lambda r: render.moment(r["updated_at"])),
        ],
    )


@job.command(name="run")
@click.argument("job_", metavar="JOB")
@click.option(
    "-p", "--param", multiple=True, metavar="NAME=VALUE", help="Reaches the program as HETUFLOW_PARAM_<NAME>."
)
@click.option("--wait", is_flag=True, help="Wait for the end, print the output; exit status 1 unless it succeeded.")
@talks_to_server
def run(client: Client, job_: str, param: tuple[str, ...], wait: bool, json_: bool) -> None:
    """Run a job now."""
    from hetuflow.cli.tasks import follow_to_the_end

    row = resolve_job(client, job_)
    body = {"parameters": pairs(param, "--param")} if param else {}
    created = client.post(f"/jobs/item/{row['id']}/run", body)
    if wait:
        follow_to_the_end(client, created["id"], json_)
    elif json_:
        render.as_json(created)
    else:
        click.echo(f"created task {created['id']}")
        click.echo(f"see what becomes of it:  hetuflow task show {created['id']}")


def _action(verb: str, sentence: str, done: str) -> None:
    @job.command(name=verb, help=sentence)
    @click.argument("job_", metavar="JOB")
    @talks_to_server
    def act(client: Client, job_: str, json_: bool) -> None:
        row = resolve_job(client, job_)
        answer = client.post(f"/jobs/item/{row['id']}/{verb}")
        render.as_json(answer) if json_ else click.echo(f"job {row['name']} is {done}")


_action("enable", "Let a job fire from its schedules again.", "enabled")
_action("disable", "Keep a job from firing from its schedules; runs by hand still work.", "disabled")


@job.command(name="delete")
@click.argument("job_", metavar="JOB")
@click.option("--cascade", is_flag=True, help="Cancel its open tasks first, instead of refusing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@talks_to_server
def delete(client: Client, job_: str, cascade: bool, yes: bool, json_: bool) -> None:
    """Delete a job and its schedules; its tasks, output and events stay readable."""
    row = resolve_job(client, job_)
    if not yes:
        click.confirm(f"delete job {row['name']} ({row['id']}) and its schedules?", abort=True, err=True)
    answer = client.delete(f"/jobs/item/{row['id']}", cascade="cancel" if cascade else None)
    render.as_json(answer) if json_ else click.echo(f"deleted job {row['name']}")
