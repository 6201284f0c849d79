"""`hetuflow flows …`: jobs that follow each other, run together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client, patiently
from hetuflow.cli.completion import complete_jobs
from hetuflow.cli.flow_graphs import as_dot, as_mermaid, counts, depths, follows, states
from hetuflow.cli.listing import Wanted, as_of_option, list_options, show_list, status_condition, status_option
from hetuflow.cli.names import FLOW, JOB, is_uuid, resolve
from hetuflow.cli.options import Group, confirm, key_option, pairs, talks_to_server, yes_option
from hetuflow.domain.enums import FlowStatus

POLL_SECONDS_MIN, POLL_SECONDS_MAX = 0.1, 1.0


@click.group(cls=Group, name="flows")
def flows() -> None:
    """Flows: jobs that follow each other, run together.

    Which jobs follow which is said at the jobs (`hetuflow job create --upstream`). RUN is the id of a flow run, its
    beginning, or a name: then the newest run of that name.
    """


def newest_run(client: Client, text: str, *, as_of: str | None = None) -> Mapping[str, Any]:
    """A run with its graph."""
    run_id = text
    if not is_uuid(text):
        found = client.find("flows", where={"name": {"$eq": text}}, limit=1, as_of=as_of)
        run_id = found.rows[0]["id"] if found.rows else resolve(client, FLOW, text, as_of=as_of)["id"]
        if found.rows and (found.total or 0) > 1:
            click.echo(f"{run_id} is the newest of {found.total} runs of {text}", err=True)
    return resolve(client, FLOW, run_id, as_of=as_of)


@flows.command(name="run")
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=complete_jobs)
@click.option("-p", "--param", multiple=True, metavar="NAME=VALUE", help="A parameter of all its tasks.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="An environment variable of all its tasks.")
@click.option("--name", help="A name for the run [default: the job's].")
@click.option("--priority", type=int, help="Larger runs first.")
@click.option("--wait", is_flag=True, help="Wait for the end; the exit status tells whether all went well.")
@click.option("--dry-run", is_flag=True, help="Only show what would run.")
@key_option
@talks_to_server
def run(
    client: Client,
    json_: bool,
    jobs: tuple[str, ...],
    param: tuple[str, ...],
    env: tuple[str, ...],
    name: str | None,
    priority: int | None,
    wait: bool,
    dry_run: bool,
    key: str | None,
) -> None:
    """Run a job and every job that follows it, directly or through others; several JOBs are several beginnings.

    \b
    Examples:
      hetuflow flows run extract -p day=2027-01-31 --wait
      hetuflow flows run extract --dry-run
    """
    rows = [resolve(client, JOB, text) for text in jobs]
    if dry_run:
        if len(rows) > 1:
            raise click.UsageError("--dry-run takes one job")
        graph = client.get(f"/jobs/item/{rows[0]['id']}/flow")
        render.as_json(graph) if json_ else _draw(graph)
        return
    body: dict[str, Any] = {}
    for member, value in (
        ("parameters", pairs(param, "--param") or None),
        ("environment", pairs(env, "--env") or None),
        ("name", name),
        ("priority", priority),
        ("roots", [row["id"] for row in rows[1:]] or None),
    ):
        if value is not None:
            body[member] = value
    created = client.post(f"/jobs/item/{rows[0]['id']}/run-flow", body, key=key)
    if wait:
        _wait(client, created["id"], json_)
    elif json_:
        render.as_json(created)
    else:
        click.echo(f"started flow run {created['id']}")
        click.echo(f"see what becomes of it:  hetuflow flows show {created['id']}")


def _wait(client: Client, run_id: str, json_: bool) -> None:
    """Wait until the run has ended; fails unless it succeeded."""
    pause = POLL_SECONDS_MIN
    while True:
        row: Mapping[str, Any] = patiently(lambda: client.get(f"/flows/{run_id}"))
        status = FlowStatus(row["status"])
        if status.is_terminal:
            break
        time.sleep(pause)
        pause = min(pause * 1.2, POLL_SECONDS_MAX)
    render.as_json(row) if json_ else _draw(row["graph"])
    if status is not FlowStatus.SUCCEEDED:
        raise click.ClickException(
            f"flow run {run_id} {status.name.lower()}; run again what failed: hetuflow flows retry {run_id}"
        )


def _outcome(row: Mapping[str, Any]) -> str:
    if row["outcome"] is None:
        return f"{row['task_count']} tasks"
    return ", ".join(f"{count} {how}" for how, count in row["outcome"].items() if count)


COLUMNS = [
    render.Column("ID", lambda row: row["id"], is_id=True),
    render.Column("NAME", lambda row: row["name"], cut=True, least=12),
    render.Column("STATUS", lambda row: render.status(FlowStatus, row["status"])),
    render.Column("TASKS", _outcome, cut=True),
    render.Column("TRIGGER", lambda row: row["trigger"], drop=3),
    render.Column("STARTED", lambda row: render.At(row["created_at"]), drop=1),
    render.Column("TOOK", lambda row: render.between(row["created_at"], row["completed_at"]), drop=2),
]


@flows.command(name="list")
@click.option("--job", "job_", metavar="JOB", help="Only runs that begin with this job.", shell_complete=complete_jobs)
@status_option(FlowStatus, what="runs")
@list_options()
@talks_to_server
def list_(client: Client, json_: bool, job_: str | None, status_: tuple[str, ...], **given: Any) -> None:
    """List flow runs, newest first."""
    where: dict[str, Any] = status_condition(status_)
    if job_:
        where["job_id"] = {"$eq": resolve(client, JOB, job_)["id"]}
    empty = "no flow runs; start one with `hetuflow flows run JOB`"
    show_list(client, "flows", Wanted.of(given), where, COLUMNS, json_=json_, empty=empty)


@flows.command(name="show")
@click.argument("run_", metavar="RUN")
@click.option("--dot", is_flag=True, help="The graph for Graphviz: … --dot | dot -Tsvg > flow.svg")
@click.option("--mermaid", is_flag=True, help="The graph for Mermaid.")
@as_of_option
@talks_to_server
def show(client: Client, run_: str, dot: bool, mermaid: bool, as_of_: str | None, json_: bool) -> None:
    """Show a flow run: each task after all that it follows, with its state."""
    if dot + mermaid + json_ > 1:
        raise click.UsageError("give one of --dot, --mermaid, --json")
    row = newest_run(client, run_, as_of=as_of_)
    if json_:
        render.as_json(row)
    elif dot:
        click.echo(as_dot(row["graph"], row["name"]))
    elif mermaid:
        click.echo(as_mermaid(row["graph"]))
    else:
        render.fields(
            row,
            [
                ("id", lambda r: r["id"]),
                ("name", lambda r: r["name"]),
                ("status", lambda r: render.status(FlowStatus, r["status"])),
                ("tasks", lambda r: ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in counts(r["graph"]))),
                ("trigger", lambda r: r["trigger"]),
                ("schedule", lambda r: r["schedule_id"]),
                ("nominal time", lambda r: render.At(r["nominal_at"])),
                ("parameters", lambda r: r["parameters"]),
                ("started", lambda r: render.At(r["created_at"])),
                ("ended", lambda r: render.At(r["completed_at"])),
                ("cancel asked", lambda r: render.At(r["cancel_requested_at"])),
                ("retried", lambda r: render.At(r["retried_at"])),
            ],
        )
        click.echo()
        _draw(row["graph"])


def _draw(graph: Mapping[str, Any]) -> None:
    """A line per task, indented by how many stand before it."""
    depth, after, state = depths(graph), follows(graph), states(graph)
    columns = [
        render.Column("JOB", lambda node: "  " * depth[node["job_id"]] + node["name"], cut=True, least=20),
        render.Column("STATE", lambda node: render.word(state[node["job_id"]])),
        render.Column("AFTER", lambda node: after[node["job_id"]], cut=True),
        render.Column("TASK", lambda node: node["task_id"], is_id=True, drop=1),
    ]
    is_run: Sequence[bool] = [node["task_id"] is not None for node in graph["nodes"]]
    render.table(graph["nodes"], columns if any(is_run) else [columns[0], columns[2]], empty="no tasks")


@flows.command(name="cancel")
@click.argument("run_", metavar="RUN")
@click.option("--reason", help="Why, for those who ask later.")
@yes_option
@talks_to_server
def cancel(client: Client, run_: str, reason: str | None, yes: bool, json_: bool) -> None:
    """Cancel what is open of a flow run; running tasks are ended."""
    row = newest_run(client, run_)
    confirm(f"cancel flow run {row['name']} ({row['id']})?", yes)
    answer = client.post(f"/flows/{row['id']}/cancel", {"reason": reason} if reason else None)
    render.as_json(answer) if json_ else click.echo(f"flow run {row['id']} is being cancelled")


@flows.command(name="retry")
@click.argument("run_", metavar="RUN")
@click.option("--wait", is_flag=True, help="Wait for the end; the exit status tells whether all went well.")
@talks_to_server
def retry(client: Client, run_: str, wait: bool, json_: bool) -> None:
    """Run again what failed or was cancelled, and what was skipped because of it. What succeeded is kept."""
    row = newest_run(client, run_)
    answer = client.post(f"/flows/{row['id']}/retry")
    if wait:
        _wait(client, row["id"], json_)
    else:
        render.as_json(answer) if json_ else click.echo(f"flow run {row['id']} runs again from what failed")
