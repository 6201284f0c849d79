"""`hetuflow job …`: what to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from hetuflow.cli import execution, limits, parameters, render, retries
from hetuflow.cli.client import Client
from hetuflow.cli.edges import followed_by, follows, upstream_change, upstream_options
from hetuflow.cli.editing import assign, assignments, edit_options, update_body
from hetuflow.cli.execution import execution_changes, execution_options
from hetuflow.cli.limits import limit_changes, limit_options
from hetuflow.cli.listing import (
    Wanted,
    as_of_option,
    label_option,
    labels,
    list_options,
    show_list,
    status_condition,
    status_option,
)
from hetuflow.cli.names import JOB, resolve
from hetuflow.cli.options import Group, Seconds, confirm, key_option, note_option, pairs, talks_to_server, yes_option
from hetuflow.cli.retries import retry_changes, retry_options
from hetuflow.cli.runs import after_run, run_body, run_options
from hetuflow.domain.enums import JobStatus

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=Group, name="job")
def job() -> None:
    """Jobs: what to run, and how.

    JOB is a name, namespace/name, an id, or the beginning of one.
    """


def job_argument(command: F) -> F:
    from hetuflow.cli.completion import complete_jobs

    return click.argument("job_", metavar="JOB", shell_complete=complete_jobs)(command)


def config_options(command: F) -> F:
    """What `job create` and `job update` both have."""
    for option in reversed(
        [
            click.option("--description", help="A sentence for people."),
            click.option(
                "-e", "--env", multiple=True, metavar="NAME=VALUE", help="An environment variable; may be repeated."
            ),
            click.option(
                "--label", multiple=True, metavar="NAME=VALUE", help="A label the agent must have; may be repeated."
            ),
            click.option(
                "--declare",
                multiple=True,
                metavar="NAME:TYPE",
                help="A parameter: day:date (required), n:integer=3, note:string? (optional); {{ params.day }} in an argument.",
            ),
            click.option("--agent", metavar="AGENT", help="Run only on this agent."),
            click.option("--timeout", type=Seconds(), help="Longest run: 90, 30m, 2h; 0 = no limit [default: 1h]."),
            click.option(
                "--start-deadline",
                type=Seconds(),
                help="Cancel a task (cause expired) not started this long after its time [default: never].",
            ),
            click.option(
                "--max-output", type=click.IntRange(0), metavar="BYTES", help="Output kept [default: 10 MiB]."
            ),
            *upstream_options(),
            click.option("--cron", metavar="EXPRESSION", help="A cron schedule named `cron`, e.g. '0 0 12 * * ?'."),
        ]
    ):
        command = option(command)
    return retry_options(limit_options(execution_options(command)))


def config_changes(given: dict[str, Any], argv: Sequence[str]) -> dict[str, Any]:
    """Members of a job, by path, from the options that were given."""
    changes = {
        "description": given["description"],
        "agent_id": given["agent"],
        "cron_expr": given["cron"],
        "config.timeout": given["timeout"],
        "config.start_deadline_seconds": given["start_deadline"],
        "config.max_output_size": given["max_output"],
        "config.cmd": argv[0] if argv else None,
        "config.args": list(argv[1:]) if argv else None,
        "config.labels": pairs(given["label"], "--label") or None,
        "environment": pairs(given["env"], "--env") or None,
        **limit_changes(given),
        **retry_changes(given),
        **execution_changes(given),
        **parameters.declared(given["declare"]),
    }
    return {name: value for name, value in changes.items() if value is not None}


@job.command(name="create", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="-- PROGRAM [ARG]...")
@click.option("--namespace", default="default", show_default=True)
@config_options
@click.option("--disabled", is_flag=True, help="Its schedules do not fire yet.")
@click.option("--id", "id_", metavar="UUID", help="An id of your own.")
@click.option("--set", "set_", multiple=True, metavar="MEMBER=VALUE", help="Any other member by its API name.")
@key_option
@talks_to_server
def create(
    client: Client,
    name: str,
    argv: tuple[str, ...],
    json_: bool,
    namespace: str,
    disabled: bool,
    id_: str | None,
    set_: tuple[str, ...],
    key: str | None,
    **given: Any,
) -> None:
    """Create a job that runs PROGRAM with its arguments (no shell unless it is one). With --wasm or --executor there is none.

    \b
    Examples:
      hetuflow job create nightly-backup --timeout 2h -- bash -c 'pg_dump app | gzip > /backup/app.gz'
      hetuflow job create score --wasm @score.wasm
    """
    if argv and argv[0].startswith("-"):
        raise click.UsageError(f"no such option {argv[0]!r}; write -- before the program if that is its name")
    body: dict[str, Any] = {"name": name, "namespace_id": namespace, "config": {}, **upstream_change(client, given)}
    for path, value in [(n.split("."), v) for n, v in config_changes(given, argv).items()] + assignments(set_):
        assign(body, path, value)
    if not argv and execution.needs_program(body["config"]):
        raise click.UsageError("Missing argument '-- PROGRAM [ARG]...'.")
    if disabled:
        body["status"] = int(JobStatus.DISABLED)
    if id_:
        body["id"] = id_
    created = client.post("/jobs/item", body, key=key)
    if json_:
        render.as_json(created)
        return
    click.echo(f"created job {created['id']}")
    click.echo(f"run it now:      hetuflow job run {name} --wait")
    click.echo(f"run it on time:  hetuflow schedule add {name} --every 60s")


COLUMNS = [
    render.Column("ID", lambda row: row["id"], is_id=True),
    render.Column("NAME", lambda row: row["name"], cut=True, least=20),
    render.Column("NAMESPACE", lambda row: row["namespace_id"], drop=3),
    render.Column("STATUS", lambda row: render.status(JobStatus, row["status"])),
    render.Column("COMMAND", lambda row: render.command_line(row["config"]), cut=True),
    render.Column("CREATED", lambda row: render.At(row["created_at"]), drop=2),
]


@job.command(name="list")
@click.option("--name", help="Only jobs whose name contains this.")
@click.option("--namespace", help="Only jobs of this namespace.")
@status_option(JobStatus, what="jobs")
@label_option("jobs that need this agent label")
@list_options()
@talks_to_server
def list_(
    client: Client,
    json_: bool,
    name: str | None,
    namespace: str | None,
    status_: tuple[str, ...],
    label: tuple[str, ...],
    **given: Any,
) -> None:
    """List jobs, newest first."""
    where: dict[str, Any] = status_condition(status_)
    if name:
        where["name"] = {"$containsCi": name}
    if namespace:
        where["namespace_id"] = {"$eq": namespace}
    if label:
        where["config"] = {"$contains": {"labels": labels(label)}}
    show_list(
        client,
        "jobs",
        Wanted.of(given),
        where,
        COLUMNS,
        json_=json_,
        empty="no jobs; create one with `hetuflow job create NAME -- PROGRAM [ARG]...`",
    )


@job.command(name="show")
@job_argument
@as_of_option
@talks_to_server
def show(client: Client, job_: str, as_of_: str | None, json_: bool) -> None:
    """Show one job with its schedules."""
    row = resolve(client, JOB, job_, as_of=as_of_)
    if json_:
        render.as_json(row)
        return
    config = row["config"]
    schedules = client.rows("schedules", where={"job_id": {"$eq": row["id"]}}, limit=20, as_of=as_of_)
    render.fields(
        row,
        [
            ("id", lambda r: r["id"]),
            ("name", lambda r: r["name"]),
            ("namespace", lambda r: r["namespace_id"]),
            ("description", lambda r: r["description"]),
            ("status", lambda r: render.status(JobStatus, r["status"])),
            ("note", lambda r: r.get("status_note")),
            ("command", lambda _: render.command_line(config)),
            ("environment", lambda r: r["environment"]),
            ("labels", lambda _: config["labels"]),
            ("agent", lambda r: r["agent_id"]),
            ("timeout", lambda _: f"{config['timeout']} s" if config["timeout"] else "none"),
            ("retries", lambda _: retries.shown(config)),
            *(("parameter", lambda _, line=line: line) for line in parameters.shown(config.get("params"))),
            ("limits", lambda _: limits.shown(config)),
            ("run", lambda _: execution.shown(config)),
            ("start within", lambda _: f"{late} s" if (late := config.get("start_deadline_seconds")) else None),
            ("follows", lambda r: follows(client, r["upstream"], as_of_)),
            ("followed by", lambda r: followed_by(client, r["id"], as_of_)),
            ("schedules", lambda _: ", ".join(s["name"] or s["id"] for s in schedules)),
            ("created", lambda r: render.At(r["created_at"])),
            ("updated", lambda r: render.At(r["updated_at"])),
        ],
    )


@job.command(name="update", context_settings={"ignore_unknown_options": True})
@job_argument
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- PROGRAM [ARG]...]")
@click.option("--name", help="A new name.")
@click.option("--namespace", help="Another namespace.")
@config_options
@edit_options
@talks_to_server
def update(
    client: Client,
    job_: str,
    argv: tuple[str, ...],
    json_: bool,
    name: str | None,
    namespace: str | None,
    set_: tuple[str, ...],
    clear: tuple[str, ...],
    **given: Any,
) -> None:
    """Change a job. What is not given stays; --env and --label replace all of theirs. Running tasks keep their copy.

    \b
    Examples:
      hetuflow job update nightly-backup --timeout 3h --max-retries 1
      hetuflow job update nightly-backup --set config.capture_output=false --clear description
      hetuflow job update nightly-backup -- bash -c 'pg_dump app > /backup/app.sql'
    """
    if argv and argv[0].startswith("-"):
        raise click.UsageError(f"no such option {argv[0]!r}; write -- before the program if that is its name")
    row = resolve(client, JOB, job_)
    changes = {
        "name": name,
        "namespace_id": namespace,
        **config_changes(given, argv),
        **upstream_change(client, given, row),
    }
    body = update_body(row, changes, set_, clear)
    answer = client.put(f"/jobs/item/{row['id']}", body)
    render.as_json(answer) if json_ else click.echo(f"updated job {row['name']}")
    if "config" in body:
        for warning in parameters.schedules_that_do_not_fit(client, row["id"]):
            click.echo(f"warning: {warning}", err=True)


def _action(verb: str, sentence: str, done: str) -> None:
    @job.command(name=verb, help=sentence)
    @job_argument
    @note_option
    @talks_to_server
    def act(client: Client, job_: str, json_: bool, note: str | None) -> None:
        row = resolve(client, JOB, job_)
        answer = client.post(f"/jobs/item/{row['id']}/{verb}", {"note": note} if note else None)
        render.as_json(answer) if json_ else click.echo(f"job {row['name']} is {done}")


_action("enable", "Let a job fire from its schedules again.", "enabled")
_action("disable", "Keep a job from firing from its schedules; runs by hand still work.", "disabled")


@job.command(name="delete")
@job_argument
@click.option("--cascade", is_flag=True, help="Cancel its open tasks first, instead of refusing.")
@yes_option
@talks_to_server
def delete(client: Client, job_: str, cascade: bool, yes: bool, json_: bool) -> None:
    """Delete a job and its schedules; its tasks, output and events stay readable. JOB is a whole name or id."""
    row = resolve(client, JOB, job_, exactly=True)
    confirm(f"delete job {row['name']} ({row['id']}) and its schedules?", yes)
    client.delete(f"/jobs/item/{row['id']}", cascade="cancel" if cascade else None)
    render.deleted(row["id"], f"deleted job {row['name']}", json_=json_)


@job.command(name="run")
@job_argument
@run_options
@talks_to_server
def run(client: Client, job_: str, json_: bool, **given: Any) -> None:
    """Run a job now.

    With --wait or --follow the exit status is that of the task: 0 it succeeded, 1 it failed or was cancelled. Both
    go on over a restart of the server.

    \b
    Examples:
      hetuflow job run nightly-backup --follow
      hetuflow job run report -p day=2027-01-31 --wait && mail -s done ops@example.org
    """
    row = resolve(client, JOB, job_)
    body = parameters.by_type(run_body(given), row["config"])
    created = client.post(f"/jobs/item/{row['id']}/run", body, key=given["key"])
    after_run(client, created["id"], given, json_)


@job.command(name="render")
@job_argument
@click.option("-p", "--param", multiple=True, metavar="NAME=VALUE", help="As for `job run`.")
@click.option("--set", "set_", multiple=True, metavar="MEMBER=VALUE", help="Any other member of a run.")
@talks_to_server
def render_(client: Client, job_: str, json_: bool, param: tuple[str, ...], set_: tuple[str, ...]) -> None:
    """Show what a run would be given, and run nothing: its parameters, its command, its variables.

    \b
    Example:
      hetuflow job render report -p day=2027-01-31
    """
    row = resolve(client, JOB, job_)
    body: dict[str, Any] = {"parameters": pairs(param, "--param")} if param else {}
    for path, value in assignments(set_):
        assign(body, path, value)
    found = client.post(f"/jobs/item/{row['id']}/render", parameters.by_type(body, row["config"]))
    if json_:
        render.as_json(found)
        return
    render.fields(
        found,
        [
            ("parameters", lambda r: r["parameters"]),
            ("command", lambda r: render.command_line(r)),
            *((name, lambda r, name=name: r["environment"][name]) for name in sorted(found["environment"])),
        ],
    )
